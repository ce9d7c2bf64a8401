"""`tfbnn.evaluate` and `tfbnn.calibrate`: against NumPy on what `tfbnn.predict` gives."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

import tfbnn
from tests.quiet import QUIET
from tfbnn.posterior import posterior_of
from tfbnn.prediction.sampling import sampled_blocks
from tfbnn.scores import temperature

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
ONE_HOT = keras.losses.CategoricalCrossentropy(from_logits=True)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)
NORMAL = tfbnn.losses.NormalNLL(scale=0.5)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype("float32")
Y = RNG.integers(0, 3, size=60)
SETTINGS = {"num_samples": 5, "seed": 1, "batch_size": 16}


def make_model(loss=SPARSE, units=3, factor=1.0):
    """A dense layer whose weights have means of size `factor` and wide scales."""
    layer = tfbnn.layers.DenseFlipout(units, seed=0, **QUIET)
    model = tfbnn.Sequential([keras.Input((3,)), layer])
    model.compile("adam", loss=loss)
    layer.kernel.loc_variable.assign(factor * np.random.default_rng(1).normal(size=(3, units)))
    layer.kernel.rho_variable.assign(np.full((3, units), -1.0))
    return model


# For the tests that leave it as it is: what is traced for one of them serves the next.
shared_model = functools.cache(make_model)


def overconfident(loss=SPARSE, units=3, num_examples=400):
    """A model with the right weights, five times too large, and data for it."""
    model = make_model(loss, units)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(num_examples, 3)).astype("float32")
    logits = x @ model.layers[0].kernel.loc.numpy()
    if loss is BINARY:
        y = (rng.uniform(size=logits.shape) < special.expit(logits)).astype(int)
    else:
        y = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    return make_model(loss, units, factor=5.0), x, y


def test_classes_by_hand():
    model = shared_model()
    p = tfbnn.predict(model, X, **SETTINGS).prediction.astype("float64")
    result = tfbnn.evaluate(model, X, Y, **SETTINGS)
    true = p[np.arange(60), Y]
    assert result.nll == pytest.approx(-np.log(true).mean())
    assert result.error == np.mean(p.argmax(-1) != Y)
    assert result.brier == pytest.approx(np.square(p - np.eye(3)[Y]).sum(-1).mean())
    assert result.mean_entropy == pytest.approx(stats.entropy(p, axis=-1).mean())
    confidence, right = p.max(-1), p.argmax(-1) == Y
    bins = np.ceil(confidence * 15).astype(int)
    gaps = [np.sum(right[bins == b] - confidence[bins == b]) for b in np.unique(bins)]
    assert result.ece == pytest.approx(np.abs(gaps).sum() / 60)
    assert result.num_samples == 5
    assert sorted(result.scores()) == [
        "brier",
        "ece",
        "error",
        "mean_entropy",
        "nll",
        "num_samples",
    ]


def test_it_is_the_average_of_networks_not_the_mean_network():
    model = shared_model()
    blocks = sampled_blocks(posterior_of(model), X, **SETTINGS)
    draws = np.concatenate([block.answers[0].parameters[0] for block in blocks], axis=1)
    expected = -np.log(draws.mean(0)[np.arange(60), Y]).mean()
    assert tfbnn.evaluate(model, X, Y, **SETTINGS).nll == pytest.approx(expected, rel=1e-5)
    keras_nll = model.evaluate(X, Y, verbose=0, return_dict=True)["nll"]
    assert keras_nll != pytest.approx(expected, rel=1e-3)


def test_one_hot_labels_are_labels():
    expected = tfbnn.evaluate(shared_model(), X, Y, **SETTINGS).scores()
    one_hot = tfbnn.evaluate(shared_model(ONE_HOT), X, np.eye(3)[Y], **SETTINGS).scores()
    assert one_hot == pytest.approx(expected, rel=1e-6)
    assert tfbnn.evaluate(shared_model(), X, Y[:, None], **SETTINGS).scores() == expected
    assert tfbnn.evaluate(shared_model(), X, list(Y), **SETTINGS).scores() == expected


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3)])
def test_yes_or_no_by_hand(shape):
    model = make_model(BINARY, units=shape[1] if len(shape) == 2 else 1)
    y = np.random.default_rng(3).integers(0, 2, size=shape)
    p = tfbnn.predict(model, X, **SETTINGS).prediction.astype("float64")
    answers = y.reshape(p.shape)
    result = tfbnn.evaluate(model, X, y, **SETTINGS)
    nll = -np.log(np.where(answers, p, 1 - p)).sum(axis=-1).mean()
    assert result.nll == pytest.approx(nll, rel=1e-5)
    assert result.error == pytest.approx(np.mean((p > 0.5) != answers))
    assert result.mean_entropy == pytest.approx(stats.entropy([p, 1 - p]).mean(), rel=1e-5)


def test_the_likelihood_of_a_sequence_is_the_sum_over_its_steps():
    layers = [keras.Input((None, 3)), tfbnn.layers.DenseFlipout(3)]
    model = tfbnn.Sequential(layers)
    model.compile(loss=SPARSE)
    x, y = X.reshape(12, 5, 3), Y.reshape(12, 5)
    p = tfbnn.predict(model, x, **SETTINGS).prediction
    expected = -np.log(np.take_along_axis(p, y[..., None], -1)).sum(axis=1).mean()
    result = tfbnn.evaluate(model, x, y, **SETTINGS)
    assert result.nll == pytest.approx(expected, rel=1e-5)
    assert result.error == np.mean(p.argmax(-1) != y)
    assert (result.probabilities.shape, result.labels.tolist()) == ((60, 3), Y.tolist())


@pytest.mark.parametrize("flat", [True, False])
def test_real_numbers_by_hand(flat):
    model = make_model(NORMAL, units=1 if flat else 2)
    y = RNG.normal(size=60 if flat else (60, 2))
    prediction = tfbnn.predict(model, X, keep_samples=True, **SETTINGS)
    loc, scale = prediction.samples
    targets = y.reshape(prediction.prediction.shape)
    result = tfbnn.evaluate(model, X, y, **SETTINGS)
    density = stats.norm.pdf(targets, loc, scale).mean(axis=0)
    assert result.nll == pytest.approx(-np.log(density).sum(axis=-1).mean(), rel=1e-5)
    error = np.sqrt(np.square(prediction.prediction - targets).mean())
    assert result.rmse == pytest.approx(error, rel=1e-6)
    low, high = prediction.credible_interval(0.95)
    assert result.coverage == np.mean((low <= targets) & (targets <= high))
    assert result.mean_standard_deviation == pytest.approx(prediction.uncertainty.mean())
    names = ["coverage", "mean_standard_deviation", "nll", "num_samples", "rmse"]
    assert sorted(result.scores()) == names


def test_a_data_set_is_read_once():
    # A shuffled data set comes in another order each time: inputs and targets must not be mixed up.
    model, x, y = overconfident()
    expected = tfbnn.evaluate(model, x, y, num_samples=5, seed=1)
    shuffled = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(400).batch(16)
    result = tfbnn.evaluate(model, shuffled, num_samples=5, seed=1)
    assert result.nll == pytest.approx(expected.nll, rel=1e-6)
    assert result.error == expected.error
    temperature = tfbnn.calibrate(model, x, y, num_samples=5, seed=1)
    assert tfbnn.calibrate(model, shuffled, num_samples=5, seed=1) == pytest.approx(temperature)


def test_reliability_diagram(tmp_path):
    path = tmp_path / "reliability.png"
    tfbnn.evaluate(shared_model(), X, Y, **SETTINGS).reliability_diagram(path, "test rows")
    assert path.read_bytes().startswith(b"\x89PNG")


# Temperature.


@pytest.mark.parametrize("of", ["draws", "mean"])
@pytest.mark.parametrize(("loss", "units"), [(SPARSE, 3), (ONE_HOT, 3), (BINARY, 1), (BINARY, 3)])
def test_temperature_improves_an_overconfident_model(loss, units, of):
    model, x, y = overconfident(loss, units)
    y = np.eye(3)[y] if loss is ONE_HOT else y
    held_out, test = (x[:200], y[:200]), (x[200:], y[200:])
    before = [tfbnn.evaluate(model, *data, 8, seed=0).nll for data in (held_out, test)]
    mean = model.evaluate(*test, verbose=0)
    temperature = tfbnn.calibrate(model, *held_out, num_samples=8, seed=0, of=of)
    after = [tfbnn.evaluate(model, *data, 8, seed=0).nll for data in (held_out, test)]
    assert 2 < temperature < 10 and temperature.of == of
    assert after[0] < before[0] and after[1] < before[1]
    name, other = ("temperature", "mean_temperature")[:: 1 if of == "draws" else -1]
    assert getattr(model.likelihood, name) == temperature
    assert getattr(model.likelihood, other) == 1.0
    # It minimises exactly this number.
    for factor in (0.95, 1.05):
        setattr(model.likelihood, name, factor * temperature)
        assert tfbnn.evaluate(model, *held_out, 8, seed=0).nll > after[0]
    # Training and `model.evaluate` do not know it.
    assert model.evaluate(*test, verbose=0) == mean


@pytest.mark.parametrize("of", ["draws", "mean"])
def test_temperature_is_saved_and_starts_again_from_one(of, tmp_path):
    model, x, y = overconfident()
    temperature = tfbnn.calibrate(model, x, y, num_samples=8, seed=0, of=of)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.likelihood.temperature == (temperature if of == "draws" else 1.0)
    assert loaded.likelihood.mean_temperature == (temperature if of == "mean" else 1.0)
    one, other = (tfbnn.predict(m, x, 4, seed=0).prediction for m in (model, loaded))
    np.testing.assert_allclose(one, other, atol=1e-6)
    again = tfbnn.calibrate(loaded, x, y, num_samples=8, seed=0, of=of)
    assert again == pytest.approx(temperature)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X * np.nan, Y),
        (X, Y + 1),
        (X[:1], Y[:1] * 0 + 1),
        (X, Y[:5]),
        (tf.data.Dataset.from_tensor_slices(X).batch(5), None),
    ],
    ids=["NaN", "labels", "one row", "lengths", "no targets"],
)
def test_a_failed_calibration_changes_nothing(x, y):
    model = make_model(factor=50.0)
    model.likelihood.temperature = 1.7
    with pytest.raises(ValueError):
        tfbnn.calibrate(model, x, y, **SETTINGS)
    assert model.likelihood.temperature == 1.7


def test_an_interrupted_calibration_changes_nothing(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    model = make_model()
    model.likelihood.temperature = 1.7
    monkeypatch.setattr(temperature, "chosen", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tfbnn.calibrate(model, X, Y, **SETTINGS)
    assert model.likelihood.temperature == 1.7


def test_no_temperature_for_real_numbers():
    with pytest.raises(
        ValueError, match="learns its noise with `tfbnn.losses.NormalNLL`. Received"
    ):
        tfbnn.calibrate(make_model(NORMAL), X, X)


# Bad input.


@pytest.mark.parametrize("function", [tfbnn.evaluate, tfbnn.calibrate])
@pytest.mark.parametrize(
    ("loss", "x", "y", "message"),
    [
        (SPARSE, X, Y[:5], r"same number of rows. Received: 60 rows of x, y of shape \(5,\)"),
        (SPARSE, X, np.float32(1), r"same number of rows. Received: 60 rows of x, y of shape \(\)"),
        (SPARSE, X, None, "no targets to score against.*Received: y=None"),
        (SPARSE, X, Y + 1, r"from 0 to 2.*Received: range=\[1, 3\]"),
        (SPARSE, X, Y - 1, r"from 0 to 2.*Received: range=\[-1, 1\]"),
        (SPARSE, X, Y + 0.5, "must be whole numbers"),
        (SPARSE, X, np.eye(3)[Y], r"pass `labels.argmax\(-1\)`. Received"),
        (SPARSE, X[:0], Y[:0], "no row to predict"),
        (SPARSE, None, Y, "must be an array.*Received: x of type NoneType"),
        (ONE_HOT, X, Y, r"shape of the outputs, \(60, 3\). Received: y of shape \(60,\)"),
        (ONE_HOT, X, np.full((60, 3), 1 / 3), "Only one-hot rows.*Received: other targets"),
        (ONE_HOT, X, np.eye(4)[Y], r"shape of the outputs, \(60, 3\). Received: y of shape"),
        (BINARY, X, np.ones((60, 2)), r"shape of the outputs, \(60, 3\). Received: y of shape"),
        (BINARY, X, np.ones(60), r"shape of the outputs, \(60, 3\). Received: y of shape \(60,\)"),
        (BINARY, X, np.full((60, 3), 2), r"from 0 to 1.*Received: range=\[2, 2\]"),
        (BINARY, X, np.full((60, 3), np.nan), "`labels` must be finite"),
    ],
)
def test_bad_targets(function, loss, x, y, message):
    with pytest.raises(ValueError, match=message):
        function(shared_model(loss), x, y, num_samples=2)


@pytest.mark.parametrize("shape", [(60, 3), (2, 60), (60,)])
def test_bad_numbers(shape):
    with pytest.raises(ValueError, match="same number of rows|shape of the predictions, .60, 2."):
        tfbnn.evaluate(shared_model(NORMAL, units=2), X, np.ones(shape), num_samples=2)


@pytest.mark.parametrize("function", [tfbnn.evaluate, tfbnn.calibrate])
def test_bad_data_sets(function):
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    with pytest.raises(ValueError, match="the targets come from it. Received: y"):
        function(shared_model(), dataset, Y)
    with pytest.raises(ValueError, match=r"no targets: it must give `\(x, y\)` batches"):
        function(shared_model(), dataset.map(lambda x, y: x))
    with pytest.raises(ValueError, match="never ends: use `.take"):
        function(shared_model(), dataset.repeat())
    with pytest.raises(ValueError, match="no row to predict. Received: empty x"):
        function(shared_model(), dataset.take(0))


def test_each_of_several_outputs_is_scored_as_if_it_were_alone():
    inputs = keras.Input((3,))
    outputs = [tfbnn.layers.DenseFlipout(3, seed=seed)(inputs) for seed in (0, 1)]
    model = tfbnn.Model(inputs, outputs)
    model.compile(loss=[SPARSE, SPARSE])
    scores = tfbnn.evaluate(model, X, [Y, Y], **SETTINGS)
    predictions = tfbnn.predict(model, X, **SETTINGS)
    for one, (p, _) in zip(scores, predictions, strict=True):
        assert one.nll == pytest.approx(-np.log(p[np.arange(60), Y]).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="one output: .*Received: a model with 2 outputs"):
        tfbnn.calibrate(model, X, [Y, Y], **SETTINGS)
