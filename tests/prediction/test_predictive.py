"""`tfbnn.predict` against closed forms and a plain loop, for every kind of model and input."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

import tfbnn
from tfbnn.posterior import posterior_of
from tfbnn.prediction import predictive, sampling
from tfbnn.weights import noise

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Dense = tfbnn.layers.DenseFlipout


def compiled(model, loss=SPARSE, **options):
    model.compile("adam", loss=loss, **options)
    spread(model)
    return model


def spread(model):
    """A posterior that is wide, and other for every weight."""
    rng = np.random.default_rng(1)
    for weight in posterior_of(model).weights:
        weight.rho_variable.assign(rng.normal(-1, 0.5, size=weight.shape))


def classifier(*last, **options):
    last = last or (Dense(3),)
    return compiled(tfbnn.Sequential([keras.Input((3,)), Dense(8, "relu"), *last]), **options)


@functools.cache
def shared_classifier():
    """One for all tests that leave it as it is: what is traced for one of them serves the next."""
    keras.utils.set_random_seed(0)
    return classifier()


def plain_loop(model, x, num_samples, seed):
    """Logits of one network after the other, by setting the weights of a Keras model."""
    posterior = posterior_of(model)
    before = model.get_weights()
    logits = []
    for number in range(num_samples):
        draw = posterior.draw(noise.fold_in(noise.as_seed(seed), number))
        for variable, value in zip(posterior.variables, draw, strict=True):
            variable.assign(value)
        logits.append(model(x, training=False).numpy())
        model.set_weights(before)
    return np.stack(logits)


# The law.


def test_one_layer_has_the_exact_predictive_moments():
    model = tfbnn.Sequential([keras.Input((3,)), Dense(2, bias_posterior="normal")])
    compiled(model, tfbnn.losses.NormalNLL(scale=0.3))
    num_samples = 4_000
    result = tfbnn.predict(model, X, num_samples, seed=5)
    kernel, bias = model.layers[0].kernel, model.layers[0].bias
    mean = X @ kernel.loc.numpy() + bias.loc.numpy()
    epistemic = np.sqrt(X**2 @ kernel.scale.numpy() ** 2 + bias.scale.numpy() ** 2)
    # Standard errors of a mean, and of a variance relative to it, of n normals.
    assert (np.abs(result.prediction - mean) < 4.5 * epistemic / np.sqrt(num_samples)).all()
    ratio = (result.epistemic / epistemic) ** 2
    assert (np.abs(ratio - 1) < 4.5 * np.sqrt(2 / num_samples)).all()
    np.testing.assert_allclose(result.aleatoric, 0.3, rtol=1e-6)
    np.testing.assert_allclose(
        result.uncertainty, np.sqrt(result.epistemic**2 + result.aleatoric**2), rtol=1e-5
    )
    total = np.sqrt(epistemic**2 + 0.3**2)
    low, high = tfbnn.predict(model, X[:5], 1_000, seed=5).credible_interval(0.9)
    half = stats.norm.ppf(0.95) * total[:5]
    # Standard errors of the 5 % quantile of 1,000 normals: sqrt(0.05 * 0.95 / 1000) / density.
    error = np.sqrt(0.05 * 0.95 / 1_000) / stats.norm.pdf(stats.norm.ppf(0.95)) * total[:5]
    assert (np.abs(low - (mean[:5] - half)) < 4.5 * error).all()
    assert (np.abs(high - (mean[:5] + half)) < 4.5 * error).all()


def test_equals_a_plain_loop_over_networks():
    model = shared_classifier()
    result = tfbnn.predict(model, X, num_samples=6, seed=2, keep_samples=True)
    plain = special.softmax(plain_loop(model, X, 6, seed=2), axis=-1)
    np.testing.assert_allclose(result.samples[0], plain, atol=1e-6)
    prediction, uncertainty = result
    np.testing.assert_allclose(prediction, plain.mean(0), atol=1e-6)
    np.testing.assert_allclose(uncertainty, stats.entropy(plain.mean(0), axis=-1), atol=1e-5)


def test_without_noise_it_is_the_posterior_mean():
    model = classifier()
    for weight in posterior_of(model).weights:
        weight.rho_variable.assign(np.full(weight.shape, -100.0))
    result = tfbnn.predict(model, X, num_samples=3)
    expected = special.softmax(model.predict(X, verbose=0), axis=-1)
    np.testing.assert_allclose(result.prediction, expected, atol=1e-6)
    assert result.mutual_information.max() < 1e-6


@pytest.mark.parametrize(("scale", "units"), [("learned", 2), ("head", 4)])
def test_noise_of_a_regression(scale, units):
    loss = tfbnn.losses.NormalNLL(scale=scale, initial_scale=0.7)
    model = classifier(Dense(units), loss=loss)
    result = tfbnn.predict(model, X, num_samples=6, seed=2)
    outputs = plain_loop(model, X, 6, seed=2)
    loc = outputs[..., :2]
    noise_scale = np.log1p(np.exp(outputs[..., 2:])) if scale == "head" else np.full(loc.shape, 0.7)
    np.testing.assert_allclose(result.prediction, loc.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.epistemic, loc.std(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(result.aleatoric, np.sqrt((noise_scale**2).mean(0)), rtol=1e-4)
    q = result.quantile(0.2)
    np.testing.assert_allclose(stats.norm.cdf((q - loc) / noise_scale).mean(0), 0.2, atol=1e-4)


# One draw serves every batch; memory is bounded.


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_the_batch_size_does_not_matter(batch_size):
    model = shared_classifier()
    whole = tfbnn.predict(model, X, num_samples=4, batch_size=40, seed=3)
    parts = tfbnn.predict(model, X, num_samples=4, batch_size=batch_size, seed=3)
    for name in ("prediction", "uncertainty", "variance", "mutual_information"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-6)


@pytest.mark.parametrize(
    "batched",
    [
        lambda x: tf.data.Dataset.from_tensor_slices(x).batch(9),
        lambda x: tf.data.Dataset.from_tensor_slices((x, np.zeros(40))).batch(9).prefetch(1),
        lambda x: tf.data.Dataset.from_tensor_slices(x).filter(lambda _: True).batch(9),
        tf.constant,
        lambda x: x.astype("float64"),
    ],
    ids=["dataset", "with targets", "unknown size", "tensor", "float64"],
)
def test_other_inputs_give_the_same(batched):
    model = shared_classifier()
    expected = tfbnn.predict(model, X, num_samples=4, seed=3)
    result = tfbnn.predict(model, batched(X), num_samples=4, seed=3)
    np.testing.assert_allclose(result.prediction, expected.prediction, atol=1e-6)


def test_bounded_memory_gives_the_same(monkeypatch):
    model = classifier()
    expected = tfbnn.predict(model, X, num_samples=5, batch_size=8, seed=3, keep_samples=True)
    draw_bytes = 4 * sum(int(np.prod(v.shape)) for v in posterior_of(model).variables)
    # Two networks and 16 rows of 5 samples of 3 classes at a time.
    monkeypatch.setattr(sampling, "_DRAW_BYTES", 2 * (draw_bytes + 8 * 8 * 4) + 1)
    monkeypatch.setattr(sampling, "SAMPLE_BYTES", 16 * 5 * 3 * 8)
    calls = {"draws": [], "outputs": 0}
    posterior = posterior_of(model)
    draws, outputs = posterior.draws, posterior.outputs
    monkeypatch.setattr(
        posterior, "draws", lambda s, f, c: (calls["draws"].append((f, c)), draws(s, f, c))[1]
    )
    monkeypatch.setattr(
        posterior,
        "outputs",
        lambda *a: (calls.update(outputs=calls["outputs"] + 1), outputs(*a))[1],
    )
    result = tfbnn.predict(model, X, num_samples=5, batch_size=8, seed=3, keep_samples=True)
    assert calls["draws"] == [(0, 2), (2, 2), (4, 1)] * 3
    assert calls["outputs"] == 3 * 5
    np.testing.assert_allclose(result.samples[0], expected.samples[0], atol=1e-6)
    np.testing.assert_allclose(result.uncertainty, expected.uncertainty, atol=1e-6)


def test_wide_layers_are_drawn_fewer_at_a_time(monkeypatch):
    layers = [
        keras.Input((16, 16, 1)),
        tfbnn.layers.Convolution2DFlipout(8, 3, padding="same"),
        keras.layers.GlobalAveragePooling2D(),
        Dense(2),
    ]
    model = compiled(tfbnn.Sequential(layers))
    posterior = posterior_of(model)
    batch = tf.zeros((10, 16, 16, 1))
    # 10 rows of 16 x 16 x 8 numbers, against a hundred weights.
    monkeypatch.setattr(sampling, "_DRAW_BYTES", 3 * 10 * 16 * 16 * 8 * 4 + 3_000)
    assert list(sampling._chunks(posterior, [batch], 7)) == [(0, 3), (3, 3), (6, 1)]


def test_samples_are_kept_while_they_are_few(monkeypatch):
    model = shared_classifier()

    def kept(keep_samples):
        result = tfbnn.predict(model, X, 4, batch_size=10, seed=0, keep_samples=keep_samples)
        return result.samples is not None

    assert kept(None) and kept(True) and not kept(False)
    monkeypatch.setattr(predictive, "SAMPLE_BYTES", 30 * 4 * 3 * 4)
    assert not kept(None) and kept(True)


def test_seeds():
    model = shared_classifier()
    one, same, other = (tfbnn.predict(model, X, 3, seed=s).prediction for s in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert not np.isclose(one, other).all()
    free = [tfbnn.predict(model, X, 3).prediction for _ in range(2)]
    assert not np.isclose(*free).all()


def test_any_whole_number_is_a_seed():
    found = {
        seed: tfbnn.predict(shared_classifier(), X, 2, seed=seed).prediction
        for seed in (0, -1, 3, 2**40)
    }
    for one, other in itertools.combinations(found.values(), 2):
        assert not np.isclose(one, other).all()
    again = tfbnn.predict(shared_classifier(), X, 2, seed=np.int64(3)).prediction
    np.testing.assert_array_equal(again, found[3])


# Models.


def test_dropout_is_off_and_batch_normalization_at_rest():
    norm = keras.layers.BatchNormalization()
    model = classifier(norm, keras.layers.Dropout(0.9), Dense(3))
    norm.moving_mean.assign(np.arange(8.0))
    norm.moving_variance.assign(np.arange(1.0, 9.0))
    before = [v.numpy() for v in model.variables]
    result = tfbnn.predict(model, X, 4, seed=1, keep_samples=True)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    plain = special.softmax(plain_loop(model, X, 4, seed=1), axis=-1)
    np.testing.assert_allclose(result.samples[0], plain, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions(rank):
    layer = getattr(tfbnn.layers, f"Convolution{rank}DReparameterization")
    shape = (6,) * rank + (2,)
    layers = [keras.Input(shape), layer(3, 3, activation="relu"), keras.layers.Flatten(), Dense(2)]
    model = compiled(tfbnn.Sequential(layers))
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype("float32")
    result = tfbnn.predict(model, x, 4, batch_size=2, seed=1, keep_samples=True)
    plain = special.softmax(plain_loop(model, x, 4, seed=1), axis=-1)
    np.testing.assert_allclose(result.samples[0], plain, atol=1e-5)


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_several_inputs(kind):
    a, b = keras.Input((3,), name="b"), keras.Input((2,), name="a")
    inputs = [a, b] if kind == "list" else {"b": a, "a": b}
    joined = keras.layers.Concatenate()([a, b])
    model = compiled(tfbnn.Model(inputs, Dense(2)(joined)))
    rows = [X, X[:, :2]]
    x = rows if kind == "list" else {"b": rows[0], "a": rows[1]}
    result = tfbnn.predict(model, x, 3, batch_size=16, seed=1, keep_samples=True)
    plain = special.softmax(plain_loop(model, x, 3, seed=1), axis=-1)
    np.testing.assert_allclose(result.samples[0], plain, atol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices((tuple(x) if kind == "list" else x, X[:, 0]))
    again = tfbnn.predict(model, dataset.batch(16), 3, seed=1)
    np.testing.assert_allclose(again.prediction, result.prediction, atol=1e-6)


def several_outputs(kind):
    inputs = keras.Input((3,))
    hidden = Dense(4, "tanh")(inputs)
    # Names in an order that is not that of the alphabet; a law of its own for each.
    outputs = {"z": Dense(3, name="z")(hidden), "a": Dense(2, name="a")(hidden)}
    losses = {"z": SPARSE, "a": tfbnn.losses.NormalNLL(scale=0.5)}
    if kind == "list":
        return compiled(tfbnn.Model(inputs, list(outputs.values())), list(losses.values()))
    if kind == "list, losses by name":
        return compiled(tfbnn.Model(inputs, list(outputs.values())), losses)
    return compiled(tfbnn.Model(inputs, outputs), losses)


class TwoHeads(tfbnn.Model):
    def __init__(self):
        super().__init__()
        self.z, self.a = Dense(3), Dense(2)

    def call(self, inputs):
        return {"z": self.z(inputs), "a": self.a(inputs)}


@pytest.mark.parametrize("kind", ["list", "list, losses by name", "dict", "subclass"])
def test_several_outputs(kind):
    if kind == "subclass":
        model = TwoHeads()
        model(X)
        compiled(model, {"z": SPARSE, "a": tfbnn.losses.NormalNLL(scale=0.5)})
    else:
        model = several_outputs(kind)
    result = tfbnn.predict(model, X, 3, seed=1)
    assert type(result) is (list if kind.startswith("list") else dict)
    z, a = result if isinstance(result, list) else (result["z"], result["a"])
    outputs = model(X)
    by_name = outputs if isinstance(outputs, dict) else {"z": outputs[0], "a": outputs[1]}
    draws = posterior_of(model).draws(noise.as_seed(1), 0, 3)
    drawn = posterior_of(model).outputs(draws, tf.constant(X))
    drawn = drawn if isinstance(drawn, dict) else {"z": drawn[0], "a": drawn[1]}
    assert by_name["z"].shape == z.prediction.shape == (40, 3)
    expected = special.softmax(drawn["z"].numpy(), axis=-1).mean(0)
    np.testing.assert_allclose(z.prediction, expected, atol=1e-6)
    np.testing.assert_allclose(a.prediction, drawn["a"].numpy().mean(0), atol=1e-5)
    np.testing.assert_allclose(a.aleatoric, 0.5)


@pytest.mark.parametrize("units", [1, 3])
def test_yes_or_no(units):
    model = classifier(Dense(units), loss=BINARY)
    prediction, uncertainty = tfbnn.predict(model, X, 4, seed=1)
    expected = special.expit(plain_loop(model, X, 4, seed=1)).mean(0)
    np.testing.assert_allclose(prediction, expected, atol=1e-6)
    assert uncertainty.shape == ((40,) if units == 1 else (40, 3))


def test_sequences():
    layers = [keras.Input((None, 3)), Dense(4, "relu"), keras.layers.TimeDistributed(Dense(3))]
    model = compiled(tfbnn.Sequential(layers))
    x = X[:30].reshape(6, 5, 3)
    result = tfbnn.predict(model, x, 3, batch_size=4, seed=1, keep_samples=True)
    assert result.prediction.shape == (6, 5, 3) and result.uncertainty.shape == (6, 5)
    plain = special.softmax(plain_loop(model, x, 3, seed=1), axis=-1)
    np.testing.assert_allclose(result.samples[0], plain, atol=1e-6)


def test_probabilities_as_outputs():
    loss = keras.losses.CategoricalCrossentropy()
    model = classifier(Dense(3, activation="softmax"), loss=loss)
    result = tfbnn.predict(model, X, 3, seed=1)
    np.testing.assert_allclose(result.prediction, plain_loop(model, X, 3, 1).mean(0), atol=1e-6)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = classifier()
    result = tfbnn.predict(model, X, 4, seed=1)
    assert result.prediction.dtype == result.uncertainty.dtype == np.float32
    plain = special.softmax(plain_loop(model, X, 4, 1).astype("float32"), axis=-1)
    # float16 has 11 bits.
    np.testing.assert_allclose(result.prediction, plain.mean(0), atol=4 * 2.0**-11)


def test_compiled_by_xla():
    model = classifier(jit_compile=True)
    assert model.jit_compile is True
    result = tfbnn.predict(model, X, 4, seed=1)
    plain = special.softmax(plain_loop(model, X, 4, 1), axis=-1)
    np.testing.assert_allclose(result.prediction, plain.mean(0), atol=1e-6)


def test_the_temperature_divides_the_logits():
    model = classifier()
    model.likelihood.temperature = 3.0
    plain = special.softmax(plain_loop(model, X, 4, 1) / 3.0, axis=-1)
    result = tfbnn.predict(model, X, 4, seed=1)
    np.testing.assert_allclose(result.prediction, plain.mean(0), atol=1e-6)


def test_integer_images():
    layers = [keras.Input((3,)), keras.layers.Rescaling(1 / 255), Dense(2)]
    model = compiled(tfbnn.Sequential(layers))
    x = np.arange(12, dtype="uint8").reshape(4, 3)
    one, other = (tfbnn.predict(model, v, 3, seed=1).prediction for v in (x, x.astype("float32")))
    np.testing.assert_allclose(one, other, atol=1e-6)


# The progress bar.


@pytest.mark.parametrize(("verbose", "shown"), [(0, False), (1, True), ("auto", False)])
def test_progress_bar(verbose, shown, capfd):
    model = shared_classifier()
    tfbnn.predict(model, X, 2, verbose=0)
    capfd.readouterr()
    tfbnn.predict(model, X, 2, verbose=verbose)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("2/2" in err) == shown and (err == "") == (not shown)


def test_progress_bar_on_long_work(capfd, monkeypatch):
    now = iter(np.arange(0.0, 1e4, 10.0))
    monkeypatch.setattr("tqdm.std.time", lambda: next(now))
    tfbnn.predict(shared_classifier(), X, 2, batch_size=4, verbose="auto")
    assert "20/20" in capfd.readouterr().err


# Bad input.


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((4, 3), np.nan), r"`x` has NaN or infinite.*Received: 12 of 12"),
        (tf.constant([[1.0, np.inf, 2.0]]), r"`x` has NaN or infinite.*Received: 1 of 3"),
        (tf.data.Dataset.from_tensors(np.full((4, 3), np.nan)), "`x` has NaN or infinite"),
        (np.ones((4, 5)), r"rows of shape \(3,\). Received: shape \(5,\)"),
        (np.ones((4, 3, 2)), "Received|incompatible|shape"),
        (np.ones((0, 3)), "no row to predict. Received: empty x"),
        (tf.data.Dataset.from_tensor_slices(X).batch(2).take(0), "no row to predict"),
        (tf.data.Dataset.from_tensor_slices(X).batch(2).repeat(), "never ends: use `.take"),
        (tf.data.Dataset.range(3), r"must be batched: call `.batch\(...\)` on it"),
        ([[1.0, 2.0, 3.0]], "must be an array.*Received: x of type list"),
        (None, "must be an array.*Received: x of type NoneType"),
        (np.float32(1.0), r"same number of rows. Received: x of shapes \[\(\)\]"),
        ([X, X[:7]], r"same number of rows. Received: x of shapes \[\(40, 3\), \(7, 3\)\]"),
    ],
)
def test_bad_x(x, message):
    with pytest.raises(ValueError, match=message):
        tfbnn.predict(shared_classifier(), x, 2)


@pytest.mark.parametrize("name", ["num_samples", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "many", None])
def test_bad_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number, at least 1. Received"):
        tfbnn.predict(shared_classifier(), X, **{name: value})


def test_diverged_weights():
    model = classifier()
    model.layers[0].kernel.loc_variable.assign(np.full((3, 8), np.nan))
    with pytest.raises(
        ValueError, match="`probabilities` must be finite; find out where the model"
    ):
        tfbnn.predict(model, X, 2)
