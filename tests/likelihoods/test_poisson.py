"""Counts: the law against SciPy, and the likelihood through every use of a model."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfbnn
from tests.export import flat
from tests.quiet import QUIET
from tfbnn.likelihoods import poisson
from tfbnn.likelihoods.table import likelihood_of

POISSON = likelihood_of("poisson_nll")
DRAWS = {"num_samples": 16, "seed": 0, "verbose": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 2)).astype("float32")
LOG_RATES = 1.0 + X @ [[0.5, 0.0], [0.3, -0.4]]
Y = RNG.poisson(np.exp(LOG_RATES)).astype("float32")


def make_model(scale=0.2, units=2):
    keras.utils.set_random_seed(0)
    laws = {"kernel_posterior": tfbnn.families.Normal(scale), "bias_posterior": "point"}
    layers = [
        tfbnn.layers.DenseFlipout(8, activation="tanh", **laws),
        tfbnn.layers.DenseFlipout(units, **laws),
    ]
    model = tfbnn.Sequential([keras.Input((2,)), *layers])
    model.compile("adam", loss=tfbnn.losses.PoissonNLL())
    return model


@pytest.fixture(scope="module")
def fitted():
    model = make_model()
    model.compile(keras.optimizers.Adam(0.03), loss=tfbnn.losses.PoissonNLL())
    model.fit(X, Y, epochs=60, batch_size=50, verbose=0)
    return model


# The law.


@pytest.mark.parametrize("count", [0, 1, 7, 1000, 10**6])
def test_log_prob_is_that_of_scipy(count):
    outputs = np.linspace(-3, 15, 19).astype("float32")
    found = POISSON.log_prob(np.full(19, float(count)), tf.constant(outputs))
    expected = stats.poisson.logpmf(count, np.exp(outputs.astype("float64")))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_far_off_nothing_overflows_and_the_law_stays_one():
    outputs = tf.constant([10.0, 16.6, 17.0, 100.0, 1e6])
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        loss = -POISSON.log_prob(np.full(5, 3.0), outputs)
    slope = tape.gradient(loss, outputs).numpy()
    assert np.isfinite(loss).all() and (np.diff(loss) > 0).all()
    assert np.isfinite(slope).all() and (slope > 1e4).all()
    (rate,) = POISSON.parameters(outputs)
    top = np.log(2.0**24)
    expected = np.where(
        outputs < top, np.exp(np.minimum(outputs, top)), 2**24 * (1 + outputs - top)
    )
    np.testing.assert_allclose(rate, expected, rtol=1e-4)
    low = POISSON.log_prob(np.zeros(1), tf.constant([-200.0]))
    assert not low.numpy().any()


def test_the_average_over_networks_is_an_integral():
    # The logarithm of the rate is normal: its mean and standard deviation are those of one weight.
    loc, scale, num_samples = 0.8, 0.6, 4096
    family = tfbnn.families.Normal(scale)
    layer = tfbnn.layers.DenseReparameterization(1, use_bias=False, kernel_posterior=family)
    model = tfbnn.Sequential([keras.Input((1,)), layer])
    model.compile(loss=tfbnn.losses.PoissonNLL())
    layer.kernel.loc_variable.assign([[loc]])
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    for count in (0.0, 2.0, 9.0):
        probabilities = stats.poisson.pmf(count, np.exp(loc + scale * points))
        mean = np.average(probabilities, weights=weights)
        spread = np.sqrt(np.average((probabilities - mean) ** 2, weights=weights))
        data = np.ones((1, 1)), np.array([[count]])
        found = tfbnn.evaluate(model, *data, num_samples=num_samples, seed=0, verbose=0).nll
        # Of a logarithm the relative error.
        assert abs(found + np.log(mean)) < 4 * spread / mean / np.sqrt(num_samples)


# Predictions.


def test_a_prediction_by_hand():
    rate = RNG.gamma(2.0, 3.0, size=(6, 5, 2)).astype("float32")
    result = POISSON.prediction((rate,), keep_samples=True)
    assert isinstance(result, poisson.PoissonPrediction)
    np.testing.assert_allclose(result.prediction, rate.mean(0), rtol=1e-6)
    np.testing.assert_allclose(result.epistemic, rate.std(0), rtol=1e-5)
    np.testing.assert_allclose(result.aleatoric, np.sqrt(rate.mean(0)), rtol=1e-5)
    np.testing.assert_allclose(result.uncertainty**2, rate.mean(0) + rate.var(0), rtol=1e-5)
    answers = POISSON.answer(tf.math.log(rate))
    for name in ("prediction", "uncertainty", "epistemic"):
        np.testing.assert_allclose(answers[name], getattr(result, name), rtol=1e-5)
    low, high = result.credible_interval(0.8)
    np.testing.assert_array_equal(low, result.quantile(0.1))
    np.testing.assert_array_equal(high, result.quantile(0.9))


@pytest.mark.parametrize("q", [1e-9, 0.025, 0.3, 0.5, 0.975, 1 - 1e-9])
def test_a_quantile_is_the_least_count_that_reaches_its_level(q):
    rates = [np.zeros((3, 1)), RNG.gamma(1.0, 1.0, (5, 20)), np.array([[3.0], [3e5]])]
    for rate in rates:
        count = poisson.mixture_quantile(rate, q)
        np.testing.assert_array_equal(count, np.round(count))
        assert (stats.poisson.cdf(count, rate).mean(0) >= q).all()
        assert (stats.poisson.cdf(count - 1, rate).mean(0) < q).all()


def test_quantiles_need_samples_and_levels():
    rate = np.ones((2, 3, 1), "float32")
    with pytest.raises(ValueError, match="`keep_samples=True`. Received"):
        POISSON.prediction((rate,), False).quantile(0.5)
    with pytest.raises(ValueError, match="`q` must be a number strictly.*Received: q=1"):
        POISSON.prediction((rate,), True).quantile(1.0)


# A model.


def test_fit_finds_the_rates(fitted):
    # Two targets, nine weights that matter, 300 rows: standard errors of some 4 %.
    found = tfbnn.predict(fitted, X, 64, seed=0).prediction
    error = np.log(found) - LOG_RATES
    assert np.sqrt(np.mean(error**2)) < 0.15 and abs(error.mean()) < 0.05


def test_evaluate_by_hand(fitted):
    result = tfbnn.evaluate(fitted, X, Y, **DRAWS)
    prediction = tfbnn.predict(fitted, X, keep_samples=True, **DRAWS)
    (rate,) = prediction.samples
    probability = stats.poisson.pmf(Y, rate.astype("float64")).mean(0)
    assert result.nll == pytest.approx(-np.log(probability).sum(-1).mean(), rel=1e-5)
    assert result.rmse == pytest.approx(np.sqrt(np.mean((prediction.prediction - Y) ** 2)))
    low, high = prediction.credible_interval(0.95)
    assert result.coverage == pytest.approx(np.mean((low <= Y) & (Y <= high)))
    # A count may lie on the ends, so that more than 95 % are inside.
    assert 0.94 < result.coverage < 1
    assert result.mean_standard_deviation == pytest.approx(prediction.uncertainty.mean())
    assert list(result.scores()) == "nll rmse coverage mean_standard_deviation num_samples".split()


def test_without_noise_evaluate_is_that_of_keras():
    model = make_model(1e-6)
    expected = model.evaluate(X, Y, verbose=0, return_dict=True)["nll"]
    assert tfbnn.evaluate(model, X, Y, num_samples=2, verbose=0).nll == pytest.approx(expected)


def test_check_elbo(fitted):
    report = tfbnn.check_elbo(fitted, X, Y, verbose=0)
    assert report.likelihood == "poisson" and report.chance_nll is None
    assert report.nll_at_mean < report.nll < 6 and "right answer" not in str(report)


def test_sequences_with_masks():
    layers = [keras.layers.Masking(), tfbnn.layers.DenseFlipout(1, **QUIET)]
    model = tfbnn.Sequential([keras.Input((4, 2)), *layers])
    model.compile("sgd", loss=tfbnn.losses.PoissonNLL())
    x = X[:40].reshape(10, 4, 2).copy()
    x[:, 3] = 0
    y = Y[:40, :1].reshape(10, 4, 1)
    outputs = model.predict(x, verbose=0).astype("float64")
    expected = -stats.poisson.logpmf(y, np.exp(outputs))[:, :3].sum((1, 2)).mean()
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-4)
    assert tfbnn.evaluate(model, x, y, num_samples=2).nll == pytest.approx(expected, rel=0.02)


def test_a_plain_keras_model():
    layers = [keras.layers.Dropout(0.5), tfbnn.layers.DenseFlipout(2, kl_weight=1 / 300)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile("adam", loss=tfbnn.losses.PoissonNLL())
    model.fit(X, Y, verbose=0)
    assert isinstance(tfbnn.predict(model, X[:3]), poisson.PoissonPrediction)
    assert tfbnn.evaluate(model, X, Y, **DRAWS).nll > 0


def test_files_of_keras(fitted, tmp_path):
    fitted.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.likelihood) is type(fitted.likelihood)
    loss = keras.saving.serialize_keras_object(fitted.likelihood.loss)
    assert loss["registered_name"] == "tfbnn.losses>PoissonNLL"
    assert loss["config"] == {"name": "poisson_nll"}
    for found, expected in zip(
        tfbnn.predict(loaded, X, **DRAWS), tfbnn.predict(fitted, X, **DRAWS), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


# Files for devices.


@pytest.mark.parametrize("mode", ["none", "monte_carlo", "ensemble", "moments"])
def test_a_file_answers_as_predict_does(fitted, mode, tmp_path):
    path = tmp_path / "model.tflite"
    # The export compares the two itself.
    flat.tflite(fitted, path, mode, num_samples=64, check_data=X)
    described = json.loads((tmp_path / "model.tflite.json").read_text())
    assert described["likelihood"]["kind"] == "poisson"
    assert described["epistemic"] == "standard deviation of the mean"
    prediction, uncertainty = tfbnn.lite.Model(path).predict(X)
    expected = tfbnn.predict(fitted, X, 500, seed=1)
    # 64 networks are compared: the standard error of a standard deviation is 1 / sqrt(128) of it.
    np.testing.assert_allclose(prediction, expected.prediction, rtol=0.12)
    if mode != "none":
        np.testing.assert_allclose(uncertainty, expected.uncertainty, rtol=4 / np.sqrt(128))


def test_a_saved_model(fitted, tmp_path):
    tfbnn.export.saved_model(fitted, tmp_path / "served", check_data=X)
    served = tf.saved_model.load(tmp_path / "served").signatures["predict_with_uncertainty"]
    found = served(inputs=tf.constant(X))
    expected = tfbnn.predict(fitted, X, 500, seed=1)
    np.testing.assert_allclose(found["prediction"], expected.prediction, rtol=0.2)
    assert set(found) == {"prediction", "uncertainty", "epistemic"}


def test_c_says_what_knows_it(fitted, tmp_path):
    message = "knows the likelihoods .*use `tfbnn.export.tflite`.*Received: a likelihood `Poisson`"
    with pytest.raises(ValueError, match=message):
        tfbnn.export.c(fitted, tmp_path / "network", check_data=X)
    assert not list(tmp_path.iterdir())


def test_a_student_learns_what_is_predicted(fitted):
    answers = tfbnn.predict(fitted, X, 64, seed=0)
    student = make_model()
    before = np.abs(tfbnn.predict(student, X, 64, seed=0).prediction - answers.prediction).mean()
    options = {"batch_size": 50, "learning_rate": 0.02, "verbose": 0}
    history = tfbnn.distill(student, X, answers, epochs=20, **options)
    after = np.abs(tfbnn.predict(student, X, 64, seed=0).prediction - answers.prediction).mean()
    assert after < 0.3 * before
    assert set(history.history) == {"cross_entropy", "epistemic"}


# Bad input.


@pytest.mark.parametrize(
    "bad, received",
    [(-1.0, "-1.0 to"), (0.5, "0.0 to"), (np.nan, "nan to|NaN"), (np.inf, "to inf|infinite")],
)
def test_only_counts_are_targets(bad, received):
    model = make_model()
    wrong = Y.copy()
    wrong[7, 1] = bad
    counts = "are counts: they must be whole numbers from 0 on.*Received: targets from"
    for refused in (model.fit, model.evaluate, tfbnn.evaluate):
        owner = (model,) if refused is tfbnn.evaluate else ()
        with pytest.raises(ValueError, match=f"{counts}.*({received})|finite|NaN or infinite"):
            refused(*owner, X, wrong, verbose=0)


def test_other_losses_for_counts_are_refused():
    with pytest.raises(ValueError, match=r"for counts `tfbnn.losses.PoissonNLL\(\)`.*Received"):
        make_model().compile("adam", loss="poisson")
    loss = tfbnn.losses.PoissonNLL()
    loss.reduction = "sum"
    with pytest.raises(ValueError, match="leave `reduction` at its default.*Received"):
        make_model().compile("adam", loss=loss)
    with pytest.raises(ValueError, match="Temperature scaling is for classes.*poisson"):
        tfbnn.calibrate(make_model(), X, Y, num_samples=2)
    with pytest.raises(ValueError, match="ask for targets of shape.*Received"):
        make_model().fit(X, Y[:, :1], verbose=0)
