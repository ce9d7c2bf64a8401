"""The waist: draws, and networks made of them, for any posterior."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

import tfbnn
from tfbnn.likelihoods import table
from tfbnn.posterior import routes
from tfbnn.posterior.base import AbstractFiniteNetworks, AbstractRandomVariables, mask_of
from tfbnn.posterior.gaussian import gaussian
from tfbnn.weights import noise
from tfbnn.weights.tracing import LARGE

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
SEED = noise.as_seed(7)


class Jitter(AbstractRandomVariables):
    """The smallest route there is: a plain Keras model whose kernels have normal noise."""

    @property
    def variables(self):
        return [layer.kernel for layer in self.model.layers if hasattr(layer, "kernel")]

    def draw(self, seed):
        seeds = noise.split(seed, len(self.variables))
        pairs = zip(self.mean(), seeds, strict=True)
        return [mean + noise.standard_normal(mean.shape, seed) for mean, seed in pairs]

    def mean(self):
        return [tf.convert_to_tensor(variable.value) for variable in self.variables]


class Snapshots(AbstractFiniteNetworks, Jitter):
    """The smallest route with finitely many networks: kernels that were kept."""

    route = "snapshots"

    def __init__(self, model, kernels):
        super().__init__(model, [table.likelihood_of(LOSS)])
        self.kernels = kernels

    @property
    def all_draws(self):
        return [tf.constant(kernel) for kernel in self.kernels]

    @property
    def arrays(self):
        return dict(zip(("first", "second"), self.kernels, strict=True))

    @classmethod
    def from_parts(cls, parts, config, arrays):
        return cls(*parts, list(arrays.values()))


def plain():
    dense = keras.layers.Dense
    layers = [keras.Input((3,)), dense(4, "tanh"), keras.layers.Dropout(0.5), dense(2)]
    model = keras.Sequential(layers)
    model.compile(loss=LOSS)
    return model


@pytest.fixture
def posterior():
    return Jitter(plain(), [table.likelihood_of(LOSS)])


def numpy(tensors):
    return [tensor.numpy() for tensor in tensors]


def test_a_draw_depends_on_seed_and_number_only(posterior):
    whole = numpy(posterior.draws(SEED, 0, 7))
    parts = [
        numpy(posterior.draws(SEED, first, count)) for first, count in ((0, 2), (2, 4), (6, 1))
    ]
    for one, *pieces in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(one, np.concatenate(pieces))
    third = posterior.draw(noise.fold_in(SEED, 3))
    np.testing.assert_array_equal(whole[0][3], third[0])
    other = numpy(posterior.draws(noise.as_seed(8), 0, 7))
    assert not np.isclose(whole[0], other[0]).any()


def test_network_is_the_model_with_other_weights(posterior):
    draw = posterior.draw(SEED)
    answer = posterior.network(draw, X).numpy()
    before = posterior.model.get_weights()
    for variable, value in zip(posterior.variables, draw, strict=True):
        variable.assign(value)
    np.testing.assert_array_equal(answer, posterior.model(X).numpy())
    posterior.model.set_weights(before)
    np.testing.assert_array_equal(posterior.network(posterior.mean(), X), posterior.model(X))


def test_outputs_are_one_network_after_the_other(posterior):
    draws = posterior.draws(SEED, 0, 3)
    outputs = posterior.outputs(draws, tf.constant(X))
    assert outputs.shape == (3, 5, 2)
    for number in range(3):
        plain = posterior.network([draw[number] for draw in draws], X)
        np.testing.assert_allclose(outputs[number], plain, rtol=1e-5, atol=1e-6)


def test_the_model_is_unchanged(posterior):
    before = [np.array(v.value) for v in posterior.model.variables]
    posterior.outputs(posterior.draws(SEED, 0, 3), tf.constant(X))
    for old, variable in zip(before, posterior.model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.value)


def test_largest_tensor(posterior):
    assert posterior.largest_tensor(tf.zeros((100, 3))) == 100 * 4 * 4


def test_a_posterior_has_no_laws_unless_it_is_gaussian(posterior):
    with pytest.raises(TypeError, match="Pruning needs the mean and.*of type Jitter"):
        gaussian(posterior, "Pruning")


def test_any_posterior_predicts(posterior):
    prediction, uncertainty = tfbnn.predict(posterior, X, num_samples=4, seed=7)
    networks = [posterior.draw(noise.fold_in(SEED, number)) for number in range(4)]
    logits = [posterior.network(values, X) for values in networks]
    expected = special.softmax(logits, axis=-1).mean(axis=0)
    np.testing.assert_allclose(prediction, expected, atol=1e-6)
    np.testing.assert_allclose(uncertainty, stats.entropy(expected, axis=-1), atol=1e-5)
    labels = np.array([0, 1, 1, 0, 1])
    scores = tfbnn.evaluate(posterior, X, labels, num_samples=4, seed=7)
    nll = -np.log(expected[np.arange(5), labels]).mean()
    assert scores.nll == pytest.approx(nll, rel=1e-5)
    assert scores.error == np.mean(expected.argmax(-1) != labels)


def test_finitely_many_networks(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=(3, *shape)).astype("float32") for shape in ((3, 4), (4, 2))]
    posterior = Snapshots(plain(), kernels)
    assert posterior.num_draws == 3 and posterior.mean() is None
    hidden = np.tanh(np.einsum("rx,nxh->nrh", X, kernels[0]))
    expected = special.softmax(np.einsum("nrh,nhc->nrc", hidden, kernels[1]), axis=-1)
    found = tfbnn.predict(posterior, X, keep_samples=True, verbose=0)
    np.testing.assert_allclose(found.samples[0], expected, atol=1e-6)
    # Any series goes through all of them, again and again.
    draws = posterior.draws(SEED, 1, 4)
    np.testing.assert_array_equal(draws[0], kernels[0][[1, 2, 0, 1]])
    numbers = [
        int(np.argmin(np.abs(kernels[0] - posterior.draw(noise.as_seed(seed))[0]).sum((1, 2))))
        for seed in range(60)
    ]
    # Each of 60 draws is one of three, with equal right.
    assert np.abs(np.bincount(numbers, minlength=3) - 20).max() < 4 * np.sqrt(60 * 2 / 9)
    monkeypatch.setitem(routes.ROUTES, "snapshots", Snapshots)
    posterior.save(tmp_path / "posterior")
    loaded = tfbnn.load_posterior(tmp_path / "posterior")
    np.testing.assert_allclose(tfbnn.predict(loaded, X).prediction, found.prediction, atol=1e-6)
    path = tmp_path / "m.tflite"
    tfbnn.export.tflite(posterior, path, "ensemble", check_data=X)
    np.testing.assert_allclose(tfbnn.lite.Model(path).predict(X)[0], found.prediction, atol=1e-5)


def test_outputs_carry_the_masks_of_the_networks():
    inputs = keras.Input((4, 3))
    masked = keras.layers.Masking()(inputs)
    steps = keras.layers.Dense(2)(masked)
    pooled = keras.layers.GlobalAveragePooling1D()(masked)
    model = keras.Model(inputs, [steps, keras.layers.Dense(2)(pooled)])
    posterior = Jitter(model, [table.likelihood_of(LOSS)] * 2)
    x = np.random.default_rng(1).normal(size=(3, 4, 3)).astype("float32")
    x[0, 2:] = x[2, :1] = 0
    first, second = posterior.outputs(posterior.draws(SEED, 0, 2), tf.constant(x))
    assert (first.shape, second.shape) == ((2, 3, 4, 2), (2, 3, 2))
    expected = [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]]
    np.testing.assert_array_equal(mask_of(first), [expected] * 2)
    assert mask_of(second) is None


def test_many_posteriors_do_not_warn_of_retracing(caplog):
    # TensorFlow warns at the fifth tracing of one function.
    for _ in range(6):
        model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
        model.compile(loss=LOSS)
        tfbnn.predict(model, X, num_samples=2)
    assert "retracing" not in caplog.text


def _predicted():
    """A model that has predicted, by a weak reference; no frame of a test holds it."""
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    model.compile(loss=LOSS)
    tfbnn.predict(model, X, num_samples=2)
    return weakref.ref(model)


def _trained():
    layers = [
        tfbnn.layers.DenseFlipout(4, activation="relu"),
        # Large enough to be compiled.
        tfbnn.layers.DenseReparameterization(LARGE // 4, kernel_prior="scale_mixture"),
        tfbnn.layers.DenseLocalReparameterization(
            2, kernel_prior="laplace", bias_posterior="normal"
        ),
    ]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    model.compile(loss=LOSS)
    model.fit(X, np.zeros(len(X)), verbose=0)
    return weakref.ref(model)


@pytest.mark.parametrize("use", [_predicted, _trained])
def test_nothing_keeps_a_model_alive(use):
    # What is there already is not looked at again: that takes seconds beside so large libraries.
    gc.freeze()
    kept = use()
    # Keras holds the last layers made in a global state.
    keras.utils.clear_session()
    # TensorFlow frees its functions by finalizers: what they held is garbage after the first time.
    gc.collect()
    gc.collect()
    gc.unfreeze()
    assert kept() is None


def test_a_network_alone_is_the_first_of_several_also_with_convolutions():
    layers = [keras.layers.Conv2D(3, 2, activation="relu"), keras.layers.Flatten()]
    model = tfbnn.Sequential([keras.Input((4, 4, 2)), *layers, keras.layers.Dense(2)])
    model.compile(tfbnn.optimizers.IVON(0.1, seed=0), loss=LOSS)
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 2)).astype("float32")
    model.fit(x, np.arange(5) % 2, verbose=0)
    options = {"seed": 0, "keep_samples": True, "verbose": 0}
    # Of several numbers, so that what is traced is for any number.
    several = [tfbnn.predict(model, x, num_samples=n, **options).samples[0] for n in (2, 3)]
    (alone,) = tfbnn.predict(model, x, num_samples=1, **options).samples[0]
    for networks in several:
        np.testing.assert_allclose(alone, networks[0], rtol=1e-5, atol=1e-6)
