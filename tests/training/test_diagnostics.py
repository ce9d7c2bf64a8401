"""check_elbo: its numbers against NumPy, its words, and that it leaves the model as it is."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.training.elbo_report import ElboReport, LayerKL

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
# Next to no noise.
SURE = dict.fromkeys(["kernel_posterior", "bias_posterior"], tfbnn.families.Normal(1e-5))


def make_model(num_examples=64, units=2, loss=LOSS, compile_options=None, **options):
    options = {"seed": 1, **options}
    model = tfbnn.Sequential(
        [keras.Input((3,)), tfbnn.layers.DenseReparameterization(units, name="dense", **options)],
        num_examples=num_examples,
    )
    model.compile(keras.optimizers.Adam(0.05), loss=loss, **(compile_options or {}))
    return model


def check(model, data=(X, Y), **options):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return tfbnn.check_elbo(model, x, y, verbose=0, sample_weight=sample_weight, **options)


def softmax_nll(logits, y):
    logits = logits - logits.max(-1, keepdims=True)
    log_prob = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -log_prob[np.arange(len(y)), y].mean()


def report(**changes):
    values = {
        "nll": 0.3,
        "nll_standard_error": 0.01,
        "nll_at_mean": 0.25,
        "chance_nll": math.log(10),
        "kl": 100.0,
        "kl_standard_error": 0.0,
        "layers": (LayerKL("dense", 50, 100.0, True),),
        "num_examples": 1000,
        "num_rows": 1000,
        "num_draws": 8,
        "beta": 1.0,
        "kl_weight": 1e-3,
        "loss_weights": (1.0,),
        "likelihood": "categorical",
    }
    return ElboReport(**{**values, **changes})


def test_a_prior_that_follows_the_posterior_is_named():
    words = "Its priors were learnt from the same data: compare no models by it"
    assert words in str(check(make_model())).replace("\n    ", " ")
    plain = make_model(kernel_prior="fan_in", bias_prior="normal")
    assert words not in str(check(plain)).replace("\n    ", " ")


# Numbers.


def test_terms_agree_with_numpy():
    laws = {"kernel_prior": "normal", "bias_prior": "normal", **SURE}
    model = make_model(num_examples=640, bias_initializer="ones", **laws)
    result = check(model)
    weights = model.layers[0].variational_weights
    locs = [w.loc.numpy().astype(float) for w in weights]
    scales = [w.scale.numpy().astype(float) for w in weights]
    nll = softmax_nll(X @ locs[0] + locs[1], Y)
    kl = sum(
        np.sum(-np.log(scale) + (scale**2 + loc**2 - 1) / 2)
        for loc, scale in zip(locs, scales, strict=True)
    )
    assert result.nll_at_mean == pytest.approx(nll, rel=1e-4)
    assert result.nll == pytest.approx(nll, rel=1e-3)
    assert (result.kl, result.kl_standard_error) == (pytest.approx(kl, rel=1e-5), 0.0)
    assert result.weighted_kl == pytest.approx(kl / 640, rel=1e-5)
    assert result.negative_elbo == pytest.approx(result.nll + kl / 640, rel=1e-5)
    assert result.chance_nll == pytest.approx(math.log(2), rel=1e-5)
    assert result.layers == (LayerKL("dense", 8, result.kl, True),)
    assert (result.num_rows, result.num_examples, result.num_weights) == (64, 640, 8)


def test_noise_is_that_of_training():
    model = make_model(kernel_posterior=tfbnn.families.Normal(0.5))
    result = check(model, num_draws=200, batch_size=64)
    kernel, bias = model.layers[0].variational_weights
    kernels = kernel.loc.numpy() + 0.5 * RNG.normal(size=(2000, 3, 2))
    biases = bias.scale.numpy() * RNG.normal(size=(2000, 2))
    nlls = [softmax_nll(X @ k + b, Y) for k, b in zip(kernels, biases, strict=True)]
    error = math.hypot(result.nll_standard_error, np.std(nlls) / math.sqrt(2000))
    assert result.nll == pytest.approx(np.mean(nlls), abs=4 * error)
    assert result.nll_standard_error == pytest.approx(np.std(nlls) / math.sqrt(200), rel=0.3)
    assert result.nll > result.nll_at_mean


def test_a_prior_without_closed_form_has_a_standard_error():
    prior = tfbnn.priors.Cauchy()
    result = check(
        make_model(kernel_prior=prior, kernel_posterior=tfbnn.families.Normal(0.5)), num_draws=50
    )
    assert result.kl_standard_error > 0 and not result.layers[0].exact
    again = check(
        make_model(kernel_prior=prior, kernel_posterior=tfbnn.families.Normal(0.5)), num_draws=1
    )
    assert math.isnan(again.kl_standard_error) and math.isnan(again.nll_standard_error)
    assert "+- ?" in str(again)


def test_data_sets_and_arrays_give_the_same():
    model = make_model()
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)
    assert check(model, dataset) == check(model, (X, Y), batch_size=20)


def test_sample_weights_count_as_in_fit():
    weights = np.r_[np.full(32, 2.0), np.zeros(32)].astype("float32")
    model = make_model(**SURE)
    half = check(model, (X[:32], Y[:32]))
    assert check(model, (X, Y, weights)).nll_at_mean == pytest.approx(half.nll_at_mean, rel=1e-5)


def test_the_loss_is_that_of_training():
    model = make_model(compile_options={"beta": 0.5}, **SURE)
    expected = check(model).loss
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert logs["loss"] == pytest.approx(expected, rel=1e-3)


def test_pruned_weights_are_not_counted():
    model = make_model(masked=True)
    full = check(model)
    mask = np.ones((3, 2), "float32")
    mask[0] = 0
    model.layers[0].kernel.mask_variable.assign(mask)
    assert (check(model).num_weights, full.num_weights) == (6, 8)
    assert check(model).kl < full.kl


@pytest.mark.parametrize(
    ("loss", "units", "y", "chance"),
    [
        (keras.losses.CategoricalCrossentropy(), 4, np.eye(4)[[0] * 64], math.log(4)),
        (keras.losses.BinaryCrossentropy(from_logits=True), 3, np.ones((64, 3)), 3 * math.log(2)),
        (keras.losses.BinaryCrossentropy(), 1, np.ones((64, 1)), math.log(2)),
        (tfbnn.losses.NormalNLL(scale=1.0), 1, np.ones((64, 1)), None),
    ],
)
def test_guessing_by_likelihood(loss, units, y, chance):
    activation = None if getattr(loss, "from_logits", True) else "softmax"
    activation = "sigmoid" if units == 1 and activation else activation
    model = make_model(units=units, loss=loss, activation=activation)
    result = check(model, (X, y.astype("float32")))
    assert result.chance_nll == (chance and pytest.approx(chance, rel=1e-5))
    assert math.isfinite(result.nll)
    assert ("guessing" in str(result)) == (chance is not None)


def test_several_inputs_and_outputs():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    shared = tfbnn.layers.DenseFlipout(2, name="shared", seed=1)
    real = tfbnn.layers.DenseFlipout(1, name="real", seed=2)(b)
    model = tfbnn.Model([a, b], [shared(keras.layers.add([a, b])), real], num_examples=64)
    model.compile(loss=[LOSS, tfbnn.losses.NormalNLL(scale=1.0)], loss_weights=[1.0, 2.0])
    result = check(model, ([X, X], [Y, X[:, :1]]))
    assert [layer.weights for layer in result.layers] == [8, 4]
    assert result.chance_nll is None and result.loss_weights == (1.0, 2.0)
    assert any("loss_weights" in hint for hint in result.hints)


def test_targets_and_weights_by_the_names_of_outputs():
    inputs = keras.Input((3,))
    # In an order that is not that of the alphabet.
    outputs = [tfbnn.layers.DenseFlipout(n, name=name)(inputs) for name, n in (("z", 2), ("a", 3))]
    model = tfbnn.Model(inputs, outputs, num_examples=64)
    model.compile(loss={"z": LOSS, "a": LOSS})
    weights = RNG.uniform(size=(2, 64)).astype("float32")
    listed = check(model, (X, [Y, 2 * Y], list(weights)), num_draws=2)
    named = check(
        model, (X, {"z": Y, "a": 2 * Y}, dict(zip("za", weights, strict=True))), num_draws=2
    )
    assert named == listed


# It leaves the model as it is.


def test_the_model_is_not_changed():
    model = tfbnn.Sequential(
        [
            keras.Input((3,)),
            keras.layers.BatchNormalization(),
            tfbnn.layers.DenseFlipout(8, seed=1, kernel_prior="cauchy"),
            keras.layers.Dropout(0.3, seed=2),
            tfbnn.layers.DenseLocalReparameterization(2, seed=3, kernel_prior="cauchy"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), loss=LOSS, metrics=["accuracy"], run_eagerly=True)
    model.fit(X, Y, epochs=1, verbose=0)
    # Seeds, moving averages and metrics are among them.
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    before, logs = [v.numpy().copy() for v in variables], model.get_metrics_result()
    first = check(model)
    for variable, old in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old, err_msg=variable.path)
    assert sum("seed" in v.path for v in variables) >= 3
    assert model.get_metrics_result() == logs
    assert len(model.layers) == 4 and check(model) == first


# Words.


def test_it_prints_the_report(capsys):
    result = tfbnn.check_elbo(make_model(), X, Y, num_draws=2)
    printed = capsys.readouterr().out
    assert printed == str(result) + "\n"
    for part in ("NLL", "KL", "num_examples   64", "-ELBO", "dense", "What it means:"):
        assert part in printed
    assert max(map(len, printed.splitlines())) < 110


def test_a_good_report_has_no_hints():
    assert report().hints == ()
    assert "Hints" not in str(report())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kl": 5000.0}, "KL term, 5.0000 nats per example, is more than the NLL of guessing"),
        (
            {"chance_nll": None, "nll": -0.2, "kl": 5000.0, "likelihood": "normal"},
            "more than ten times the NLL",
        ),
        ({"num_rows": 4000}, "weighs 4 times too much: set `model.num_examples = 4000`"),
        ({"num_rows": 100}, "weighs 10 times too little"),
        ({"beta": 0.1, "kl_weight": 1e-4}, "beta = 0.1, so training does not maximise the ELBO"),
        ({"kl_weight": 1e-5}, "A KL schedule is at work: kl_weight is 1e-05"),
        ({"nll": 2.4, "nll_at_mean": 2.3}, "at the level of guessing"),
        ({"nll": 2.4}, "the noise drowns the signal"),
        ({"nll": 8.0, "nll_at_mean": 8.0}, "far above that of guessing"),
        ({"sigma_pull": 0.9, "sigma_pull_standard_error": 0.1}, "it still grows"),
        ({"sigma_pull": -0.8, "sigma_pull_standard_error": 0.1}, "too large and shrinks"),
        ({"nll": math.nan}, "not finite"),
        ({"loss_weights": (1.0, 0.5)}, "no log likelihood"),
    ],
)
def test_hints(changes, words):
    [hint] = report(**changes).hints
    assert words in hint
    assert "Hints:" in str(report(**changes))


def test_a_schedule_shows_in_kl_weight():
    model = make_model(compile_options={"kl_schedule": "minibatch_weights"})
    model.fit(X, Y, verbose=0)
    assert any("schedule" in hint for hint in check(model).hints)


# Errors.


def test_unknown_num_examples_is_an_error_that_says_what_to_pass():
    with pytest.raises(ValueError, match="set `model.num_examples = ...`.*Received: model="):
        check(make_model(num_examples=None))


def test_models_that_have_no_elbo():
    with pytest.raises(TypeError, match="Expected a `tfbnn.Sequential`.*type Dense"):
        check(keras.layers.Dense(2))
    unbuilt = tfbnn.Sequential([tfbnn.layers.DenseFlipout(2)], num_examples=64)
    unbuilt.compile(loss=LOSS)
    with pytest.raises(ValueError, match="no weights yet.*Received: model="):
        check(unbuilt)
    uncompiled = tfbnn.Sequential(
        [keras.Input((3,)), tfbnn.layers.DenseFlipout(2)], num_examples=64
    )
    with pytest.raises(ValueError, match=r"call `compile\(loss=...\)` first.*Received: model="):
        check(uncompiled)
    certain = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(2)], num_examples=64)
    certain.compile(loss=LOSS)
    with pytest.raises(ValueError, match="no random weights.*Received: model="):
        check(certain)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (X, TypeError, "`x`, `y` and `sample_weight` must be arrays"),
        ((X, Y[:10]), ValueError, r"same number of rows. Received: shapes \[\(64, 3\), \(10,\)\]"),
        ((X[:0], Y[:0]), ValueError, "no example"),
        ((np.where(X > 2, np.nan, X), Y), ValueError, "NaN or infinite"),
        ((X, Y + 1), ValueError, "Labels must be whole numbers from 0 to 1"),
        (tf.data.Dataset.from_tensor_slices(X).batch(8), ValueError, "no targets"),
        (
            tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat(),
            ValueError,
            r"never ends.*x.take",
        ),
    ],
)
def test_data_that_cannot_be_used(data, error, message):
    with pytest.raises(error, match=message):
        check(make_model(), data)


@pytest.mark.parametrize("num_draws", [0, -1, 1.5])
def test_num_draws_is_checked(num_draws):
    with pytest.raises(ValueError, match="`num_draws` must be a whole.* Received: num_draws="):
        check(make_model(), num_draws=num_draws)
