"""`tfbnn.prune`: what goes, that it stays gone, and that nothing else changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.pruning.models import spread
from tests.quiet import QUIET
from tfbnn.layers import variational_layers
from tfbnn.posterior import posterior_of
from tfbnn.pruning import masks
from tfbnn.pruning.scores import CRITERIA
from tfbnn.training.objective import total_kl
from tfbnn.weights import noise

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
Y = RNG.integers(0, 3, size=32)
Dense = tfbnn.layers.DenseFlipout


def make_model(**compile_options):
    options = QUIET | {"bias_posterior": "normal"}
    layers = [keras.Input((6,)), Dense(8, "relu", **options), Dense(3, **QUIET)]
    model = tfbnn.Sequential(layers)
    model.compile(**{"optimizer": "adam", "loss": SPARSE, **compile_options})
    return spread(model)


def kernels(model):
    return [layer.kernel for layer in variational_layers(model)]


def snrs(model):
    return [np.abs(k.loc.numpy()) / k.scale.numpy() for k in kernels(model)]


def kept(model):
    return [k.mask.numpy() == 1 for k in kernels(model)]


def assert_zero_where_pruned(model):
    """In the variable, in the effective mean and scale, and in every draw."""
    posterior = posterior_of(model)
    draws = dict(zip(posterior.weights, posterior.draws(noise.as_seed(0), 0, 3), strict=True))
    for kernel, keep in zip(kernels(model), kept(model), strict=True):
        assert not keep.all()
        for values in (kernel.loc_variable.numpy(), kernel.loc.numpy(), kernel.scale.numpy()):
            assert (values[~keep] == 0).all() and (values[keep] != 0).all()
        assert (draws[kernel].numpy()[:, ~keep] == 0).all()


# What goes.


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9, 0.95])
def test_the_lowest_scores_go_globally(sparsity):
    model = make_model()
    pruned = tfbnn.prune(model, sparsity=sparsity)
    ordered = np.sort(np.concatenate([s.ravel() for s in snrs(model)]))
    count = round(sparsity * 72)
    for score, keep in zip(snrs(model), kept(pruned), strict=True):
        np.testing.assert_array_equal(keep, score >= ordered[count])
    assert masks.num_weights(pruned) == 72 - count
    assert masks.sparsity_of(pruned) == pytest.approx(count / 72)


def test_each_layer_by_itself():
    model = make_model()
    pruned = tfbnn.prune(model, sparsity=0.75, scope="layer")
    assert [int(keep.sum()) for keep in kept(pruned)] == [12, 6]
    for score, keep in zip(snrs(model), kept(pruned), strict=True):
        assert score[keep].min() > score[~keep].max()
    assert [int(k.sum()) for k in kept(tfbnn.prune(model, sparsity=0.75))] != [12, 6]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_exactly_as_many_where_scores_tie(scope):
    model = make_model()
    for weight in posterior_of(model).weights:
        weight.loc_variable.assign(np.ones(weight.shape))
        weight.rho_variable.assign(np.ones(weight.shape))
    pruned = tfbnn.prune(model, sparsity=0.5, scope=scope)
    assert masks.num_weights(pruned) == 36


def test_one_weight_is_always_left():
    one = tfbnn.Sequential([keras.Input((6,)), Dense(3)])
    one.compile("adam", SPARSE)
    assert masks.num_weights(tfbnn.prune(spread(one), sparsity=0.999)) == 1
    pruned = tfbnn.prune(make_model(), sparsity=0.999, scope="layer")
    assert [int(keep.sum()) for keep in kept(pruned)] == [1, 1]


@pytest.mark.parametrize("criterion", ["snr", "zero_density", "savage_dickey"])
def test_threshold(criterion):
    model = make_model()
    scores = [CRITERIA[criterion](kernel).numpy() for kernel in kernels(model)]
    threshold = float(np.median(scores[0]))
    pruned = tfbnn.prune(model, threshold=threshold, criterion=criterion)
    for score, keep in zip(scores, kept(pruned), strict=True):
        np.testing.assert_array_equal(keep, score > threshold)


def test_savage_dickey_has_a_threshold_of_its_own():
    model = make_model()
    pruned = tfbnn.prune(model, criterion="savage_dickey")
    for kernel, score, keep in zip(kernels(model), snrs(model), kept(pruned), strict=True):
        limit = np.sqrt(2 * np.maximum(-np.log(kernel.scale.numpy()), 0))
        np.testing.assert_array_equal(keep, score > limit)
    assert 0 < masks.sparsity_of(pruned) < 1


def test_pruning_again_is_cumulative():
    half = tfbnn.prune(make_model(), sparsity=0.5)
    more = tfbnn.prune(half, sparsity=0.75)
    assert masks.num_weights(half) == 36 and masks.num_weights(more) == 18
    for before, after in zip(kept(half), kept(more), strict=True):
        assert not (after & ~before).any()
    assert masks.num_weights(tfbnn.prune(more, sparsity=0.5)) == 18
    below = tfbnn.prune(more, threshold=-1e9)
    assert masks.num_weights(below) == 18


# It stays gone.


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adam(0.05),
        keras.optimizers.AdamW(0.05, weight_decay=0.1),
        keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01),
    ],
    ids=["Adam", "AdamW", "SGD"],
)
def test_through_training_saving_and_training_again(optimizer, tmp_path):
    model = make_model(optimizer=optimizer)
    pruned = tfbnn.prune(model, sparsity=0.75)
    keep = kept(pruned)
    start = [k.loc.numpy() for k in kernels(pruned)]
    pruned.fit(X, Y, epochs=3, verbose=0)
    assert_zero_where_pruned(pruned)
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    assert_zero_where_pruned(loaded)
    one, other = (tfbnn.predict(m, X, 3, seed=0).prediction for m in (pruned, loaded))
    np.testing.assert_allclose(one, other, atol=1e-6)
    loaded.fit(X, Y, epochs=3, verbose=0)
    assert_zero_where_pruned(loaded)
    for before, after in zip(keep, kept(loaded), strict=True):
        np.testing.assert_array_equal(before, after)
    assert all((a != k.loc.numpy()).any() for a, k in zip(start, kernels(loaded), strict=True))


def test_pruned_weights_leave_the_kl():
    pruned = tfbnn.prune(make_model(), sparsity=0.75)
    expected = 0.0
    for weight in posterior_of(pruned).weights:
        loc, scale = weight.loc.numpy(), weight.scale.numpy()
        left = scale > 0
        loc, scale = loc[left].astype("float64"), scale[left].astype("float64")
        expected += np.sum(0.5 * (loc**2 + scale**2 - 1) - np.log(scale))
    assert float(total_kl(pruned, None)) == pytest.approx(expected, rel=1e-5)


def test_pruned_weights_leave_the_kl_of_the_default_prior():
    model = tfbnn.Sequential([keras.Input((6,)), Dense(8, "relu"), Dense(3)])
    model.compile("adam", SPARSE)
    pruned = tfbnn.prune(spread(model), sparsity=0.75)
    expected = 0.0
    for layer in variational_layers(pruned):
        fan_in = layer.kernel.shape[0]
        for weight in layer.variational_weights:
            loc, scale = (part.numpy().astype("float64") for part in (weight.loc, weight.scale))
            loc, scale = loc[scale > 0], scale[scale > 0]
            second = loc**2 + scale**2
            clipped = np.clip(second, 0.3 / fan_in, 30 / fan_in)
            prior = clipped if weight is layer.kernel else 10 / fan_in
            expected += np.sum(np.log(prior / scale**2) + second / prior - 1) / 2
    assert float(total_kl(pruned, None)) == pytest.approx(expected, rel=1e-5)


def test_biases_are_not_pruned():
    model = make_model()
    pruned = tfbnn.prune(model, sparsity=0.9)
    for old, new in zip(model.layers, pruned.layers, strict=True):
        np.testing.assert_array_equal(old.bias.loc, new.bias.loc)
    assert model.layers[0].bias.is_random and pruned.layers[0].bias.mask is None


# Nothing else changes.


def test_the_model_itself_is_unchanged():
    model = make_model()
    before = [v.numpy() for v in model.variables]
    pruned = tfbnn.prune(model, sparsity=0.9)
    pruned.fit(X, Y, verbose=0)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    assert kernels(model)[0].mask is None
    assert type(pruned) is type(model) and pruned.name == model.name


def test_sparsity_zero_changes_no_answer():
    model = make_model()
    pruned = tfbnn.prune(model, sparsity=0.0)
    np.testing.assert_array_equal(model.predict(X, verbose=0), pruned.predict(X, verbose=0))
    one, other = (tfbnn.predict(m, X, 3, seed=0).prediction for m in (model, pruned))
    np.testing.assert_array_equal(one, other)


def test_what_compile_was_told_is_kept():
    model = make_model(
        optimizer=keras.optimizers.AdamW(0.02, weight_decay=0.03),
        metrics=["accuracy"],
        beta=0.5,
        num_draws=2,
        jit_compile=True,
    )
    model.num_examples, model.example_rows = 32, X
    model.optimizer.learning_rate.assign(0.01)
    model.likelihood.temperature, model.likelihood.mean_temperature = 1.5, 0.7
    pruned = tfbnn.prune(model, sparsity=0.5)
    assert isinstance(pruned.optimizer, keras.optimizers.AdamW)
    assert pruned.optimizer.get_config() == model.optimizer.get_config()
    assert float(pruned.optimizer.learning_rate) == pytest.approx(0.01)
    assert (pruned.num_examples, pruned.objective.beta, pruned.num_draws) == (32, 0.5, 2)
    assert pruned.jit_compile is True
    assert pruned.likelihood.temperature == 1.5 and pruned.likelihood.mean_temperature == 0.7
    assert pruned.likelihood.name == "categorical"
    np.testing.assert_array_equal(pruned.example_rows, X)
    assert pruned.get_compile_config()["metrics"] == ["accuracy"]


def test_learned_noise_and_moving_statistics_are_kept():
    layers = [keras.Input((6,)), Dense(4), keras.layers.BatchNormalization(), Dense(2)]
    model = tfbnn.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.1), tfbnn.losses.NormalNLL(scale="learned"))
    model.fit(X, X[:, :2], epochs=2, verbose=0)
    pruned = tfbnn.prune(model, sparsity=0.0)
    for before, after in zip(*(m.likelihood.loss.variables for m in (model, pruned)), strict=True):
        assert before is not after and before.shape == (2,)
        np.testing.assert_array_equal(before, after)
    one, other = (tfbnn.predict(m, X, 3, seed=0) for m in (model, pruned))
    np.testing.assert_allclose(one.prediction, other.prediction, atol=1e-6)
    np.testing.assert_array_equal(one.aleatoric, other.aleatoric)


# Kinds of models.


@keras.saving.register_keras_serializable("test_masks")
class Block(keras.layers.Layer):
    """A layer of the user's whose configuration holds the variational layer."""

    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner or Dense(6)

    def build(self, input_shape):
        if not self.inner.built:
            self.inner.build(input_shape)

    def call(self, inputs, training=None):
        return inputs + self.inner(inputs, training=training)

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)


@keras.saving.register_keras_serializable("test_masks")
class ClosedBlock(Block):
    """The same with a configuration that does not tell."""

    def get_config(self):
        return keras.layers.Layer.get_config(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("test_masks")
class Subclass(tfbnn.Model):
    """A subclass with hyperparameters and a variable of its own."""

    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden, self.last = Dense(units), Dense(3)
        self.gain = self.add_weight(name="gain", shape=(), initializer="ones")

    def call(self, inputs, training=None):
        hidden = self.hidden(inputs, training=training)
        return self.gain * self.last(hidden, training=training)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def nested():
    inner = tfbnn.Sequential([keras.Input((6,)), Dense(4), Dense(5)])
    return tfbnn.Sequential([keras.Input((6,)), keras.Sequential([inner]), Dense(3)])


def shared():
    inputs, dense = keras.Input((6,)), Dense(6)
    return tfbnn.Model(inputs, Dense(3)(dense(dense(inputs))))


def time_distributed():
    layers = [
        keras.Input((6,)),
        keras.layers.Reshape((2, 3)),
        keras.layers.TimeDistributed(Dense(4)),
    ]
    return tfbnn.Sequential([*layers, keras.layers.Flatten(), Dense(3)])


def block():
    return tfbnn.Sequential([keras.Input((6,)), Block(), Dense(3)])


def without_input():
    model = tfbnn.Sequential([Dense(4), Dense(3)])
    model.build((None, 6))
    return model


def subclass():
    model = Subclass(units=4)
    model(X)
    model.gain.assign(2.0)
    return model


@pytest.mark.parametrize(
    "make",
    [nested, shared, time_distributed, block, without_input, subclass],
    ids=lambda f: f.__name__,
)
def test_every_kind_of_model(make, tmp_path):
    model = make()
    model.compile("adam", SPARSE)
    spread(model)
    same = tfbnn.prune(model, sparsity=0.0)
    np.testing.assert_allclose(model(X), same(X), atol=1e-5)
    pruned = tfbnn.prune(model, sparsity=0.6)
    total = sum(k.size for k in kernels(model))
    assert masks.num_weights(pruned) == total - round(0.6 * total)
    score, keep = (np.concatenate([a.ravel() for a in f]) for f in (snrs(model), kept(pruned)))
    assert score[~keep].max() < score[keep].min()
    assert_zero_where_pruned(pruned)
    pruned.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(pruned(X), loaded(X), atol=1e-6)
    assert_zero_where_pruned(loaded)


def test_a_subclass_that_is_not_registered():
    class Local(Subclass):
        pass

    model = Local(units=4)
    model(X)
    model.compile("adam", tfbnn.losses.NormalNLL(scale="learned"))
    spread(model)
    model.gain.assign(3.0)
    model.likelihood.loss.rho_variable.assign(-1.0)
    model.likelihood.loss.unit_variable.assign(2.0)
    pruned = tfbnn.prune(model, sparsity=0.5)
    # Three scalars, which must not change places.
    assert float(pruned.gain) == 3.0
    assert [float(variable) for variable in pruned.likelihood.loss.variables] == [-1.0, 2.0]
    assert masks.sparsity_of(pruned) == 0.5


def test_a_layer_that_hides_its_own():
    model = tfbnn.Sequential([keras.Input((6,)), ClosedBlock(), Dense(3)])
    model.compile("adam", SPARSE)
    with pytest.raises(ValueError, match="let `get_config` of that layer hold it.*masked=False"):
        tfbnn.prune(model, sparsity=0.5)


def test_convolution_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    layers = [
        keras.Input((8, 8, 1)),
        tfbnn.layers.Convolution2DFlipout(4, 3),
        keras.layers.Flatten(),
        Dense(3),
    ]
    model = tfbnn.Sequential(layers)
    model.compile("adam", SPARSE)
    pruned = tfbnn.prune(spread(model), sparsity=0.5)
    pruned.fit(RNG.normal(size=(32, 8, 8, 1)), Y, verbose=0)
    assert_zero_where_pruned(pruned)


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.0}, r"share of weights to remove.*in \[0, 1\). Received: sparsity=1.0"),
        ({"sparsity": -0.1}, "Received: sparsity=-0.1"),
        ({"sparsity": np.nan}, "Received: sparsity=nan"),
        ({}, "Give either `sparsity` or `threshold`.*sparsity=None, threshold=None"),
        ({"sparsity": 0.5, "threshold": 1.0}, "Give either.*sparsity=0.5, threshold=1.0"),
        ({"criterion": "zero_density"}, "Give either"),
        ({"threshold": np.nan}, "`threshold` must be a number, finite.* Received: threshold=nan"),
        (
            {"threshold": 1e9},
            r"layer 'dense_flipout(_\d+)?' would be left without a weight. Choose a lower "
            r"`threshold`.*Received: threshold=1e\+09, highest score \d+",
        ),
        (
            {"sparsity": 0.999},
            "layer 'dense_flipout.*' would be left without a weight. Choose a lower `sparsity`, or "
            "scope='layer'.*Received: sparsity=0.999, scope='global'",
        ),
        ({"sparsity": 0.5, "granularity": "row"}, "'unit'.. Received: granularity='row'"),
        ({"sparsity": 0.5, "block_size": 8}, r"one of \(4, 16\). Received: block_size=8"),
        ({"sparsity": 0.5, "criterion": "size"}, "one of .*'snr'.*Received: criterion='size'"),
        ({"sparsity": 0.5, "scope": "row"}, "one of .*'layer'.. Received: scope='row'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfbnn.prune(make_model(), **arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["loc_variable", "rho_variable"])
def test_diverged_weights(part, bad):
    model = make_model()
    variable = getattr(kernels(model)[0], part)
    variable.assign(tf.fill(variable.shape, bad))
    with pytest.raises(
        ValueError, match="training has diverged. Received: 48 such numbers in .*kernel"
    ):
        tfbnn.prune(model, sparsity=0.5)


@pytest.mark.parametrize("make", [keras.Sequential, lambda: None])
def test_no_model_of_ours(make):
    with pytest.raises(
        TypeError, match="Only a `tfbnn.Sequential` or `tfbnn.Model`.*Received: model"
    ):
        tfbnn.prune(make(), sparsity=0.5)


def test_a_model_without_a_posterior():
    with pytest.raises(ValueError, match="no weights yet"):
        tfbnn.prune(tfbnn.Sequential([Dense(2)]), sparsity=0.5)
    with pytest.raises(ValueError, match="no likelihood"):
        tfbnn.prune(tfbnn.Sequential([keras.Input((3,)), Dense(2)]), sparsity=0.5)
