"""`tfbnn.compact`: a smaller model that answers as the pruned one does."""

import functools

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import tfbnn
from tests.export import flat
from tests.pruning.models import spread
from tfbnn.layers import variational_layers
from tfbnn.pruning import masks

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# A unit with a random bias is no constant.
Dense = functools.partial(tfbnn.layers.DenseFlipout, bias_posterior="point")
Convolution = functools.partial(tfbnn.layers.Convolution2DFlipout, bias_posterior="point")
# Small networks have too few units for a high sparsity.
UNREACHED = "ignore:Pruning of units could not reach:UserWarning"


def compiled(model):
    """The model with a loss, a posterior in which every weight differs, and biases."""
    model.compile("adam", SPARSE)
    return spread(model, biases=True)


def dense():
    layers = [Dense(20, "relu"), Dense(10, "tanh", bias_posterior="normal"), Dense(3)]
    return compiled(tfbnn.Sequential([keras.Input((6,)), *layers]))


def lenet():
    """With the biases that layers have by default."""
    dense, convolution = tfbnn.layers.DenseFlipout, tfbnn.layers.Convolution2DFlipout
    layers = [
        keras.Input((16, 16, 1)),
        convolution(6, 5, activation="relu"),
        keras.layers.MaxPooling2D(),
        convolution(8, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        dense(20, "relu"),
        dense(3),
    ]
    return compiled(tfbnn.Sequential(layers))


def batch_norm():
    inputs = keras.Input((8, 8, 2))
    x = Convolution(6, 3, padding="same", use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.Dropout(0.2)(keras.layers.AveragePooling2D(2)(x))
    x = keras.layers.GlobalAveragePooling2D()(Convolution(5, 3, activation="relu")(x))
    return with_statistics(compiled(tfbnn.Model(inputs, Dense(3)(x))))


def residual():
    """A projection, an identity connection, and a block that ends in another width."""
    inputs = keras.Input((8, 8, 2))
    start = Convolution(6, 3, padding="same", activation="relu")(inputs)
    x = Convolution(5, 3, padding="same", activation="relu")(start)
    x = Convolution(6, 3, padding="same")(x)
    x = keras.layers.ReLU()(keras.layers.Add()([x, start]))
    y = keras.layers.BatchNormalization()(Convolution(7, 3, strides=2, padding="same")(x))
    y = keras.ops.relu(y + Convolution(7, 1, strides=2)(x))
    y = Dense(9, "relu")(keras.layers.Flatten()(y))
    return with_statistics(compiled(tfbnn.Model(inputs, Dense(3)(y))))


def concatenated():
    inputs = keras.Input((6,))
    branches = [Dense(n, "relu")(inputs) for n in (7, 5)]
    x = keras.layers.Concatenate()([branches[0], inputs, branches[1]])
    gate = Dense(18, "sigmoid")(inputs)
    return compiled(tfbnn.Model(inputs, Dense(3)(keras.layers.Multiply()([x, gate]))))


def nested():
    inner = tfbnn.Sequential([keras.Input((6,)), Dense(7, "relu"), Dense(8, "relu")])
    outer = keras.Sequential([inner, keras.layers.Dropout(0.1)])
    return compiled(tfbnn.Sequential([keras.Input((6,)), outer, Dense(5, "elu"), Dense(3)]))


def nested_behind():
    """Models that read units, one in the other, of both kinds."""
    inner = tfbnn.Sequential([keras.Input((8,)), keras.layers.ReLU(), Dense(7, "relu")])
    middle = keras.Sequential([keras.Input((8,)), inner, Dense(6, "relu")])
    start = keras.Input((6,))
    last = tfbnn.Model(start, Dense(5, "tanh")(keras.layers.Dropout(0.1)(start)))
    inputs = keras.Input((6,))
    x = last(middle(Dense(8)(inputs)))
    return compiled(tfbnn.Model(inputs, Dense(3)(x)))


def nested_sequential():
    inner = tfbnn.Sequential([Dense(6, "relu"), keras.Sequential([Dense(7, "relu")])])
    return compiled(tfbnn.Sequential([keras.Input((6,)), Dense(8, "relu"), inner, Dense(3)]))


def nested_convolutions():
    """Channels that enter a model, and a model that begins with a flat value."""
    start = keras.Input((8, 8, 6))
    x = keras.layers.BatchNormalization()(start)
    x = keras.layers.Add()([Convolution(6, 3, padding="same", activation="relu")(x), start])
    block = keras.Model(start, keras.layers.MaxPooling2D()(x))
    head = tfbnn.Sequential([keras.Input((96,)), Dense(7, "relu"), Dense(3)])
    layers = [Convolution(6, 3, padding="same", activation="relu"), block, keras.layers.Flatten()]
    return compiled(tfbnn.Sequential([keras.Input((8, 8, 2)), *layers, head]))


def nested_twice():
    """A model without variables that two branches go through: it has one input shape."""
    inner = keras.Sequential([keras.Input((8,)), keras.layers.ReLU()])
    inputs = keras.Input((6,))
    x = keras.layers.Concatenate()([inner(Dense(8)(inputs)), inner(Dense(8)(inputs))])
    return compiled(tfbnn.Model(inputs, Dense(3)(x)))


def shared():
    inputs, twice = keras.Input((6,)), Dense(9, "relu")
    x = Dense(9, "relu")(inputs)
    return compiled(tfbnn.Model(inputs, Dense(3)(twice(twice(x)))))


def reshaped():
    layers = [
        keras.Input((6,)),
        Dense(32, "relu"),
        keras.layers.Reshape((2, 2, 8)),
        keras.layers.UpSampling2D(),
        Convolution(5, 3, activation="relu"),
        keras.layers.Reshape((-1,)),
        Dense(6, "relu"),
        keras.layers.Reshape((3, 2)),
        keras.layers.Permute((2, 1)),
        keras.layers.Flatten(),
        Dense(3),
    ]
    return compiled(tfbnn.Sequential(layers))


def convolution_1d():
    layer = tfbnn.layers.Convolution1DReparameterization
    layers = [
        keras.Input((12, 2)),
        layer(6, 3, padding="causal", activation="relu"),
        keras.layers.MaxPooling1D(),
        keras.layers.ZeroPadding1D(1),
        layer(5, 3, activation="tanh", bias_posterior="normal"),
        keras.layers.GlobalMaxPooling1D(),
        tfbnn.layers.DenseLocalReparameterization(3),
    ]
    return compiled(tfbnn.Sequential(layers))


def convolution_3d():
    layer = tfbnn.layers.Convolution3DLocalReparameterization
    layers = [keras.Input((6, 6, 6, 1)), layer(4, 3, activation="relu"), layer(5, 2)]
    layers += [keras.layers.Cropping3D(1), keras.layers.ReLU(), keras.layers.Flatten(), Dense(3)]
    return compiled(tfbnn.Sequential(layers))


def with_plain_layers():
    layers = [keras.Input((6,)), keras.layers.Dense(7, "relu"), Dense(8, "relu")]
    layers += [keras.layers.Dense(6, "relu"), Dense(9, "relu"), Dense(3)]
    return compiled(tfbnn.Sequential(layers))


def without_input():
    model = tfbnn.Sequential([Dense(9, "relu"), Dense(8, "relu"), Dense(3)])
    model.build((None, 6))
    return compiled(model)


def with_layers_that_are_not_known():
    layers = [
        keras.Input((6,)),
        Dense(8, "relu"),
        keras.layers.UnitNormalization(),
        Dense(7, "softmax"),
        Dense(8, "relu"),
        keras.layers.Reshape((4, 2)),
        keras.layers.TimeDistributed(Dense(5, "relu")),
        keras.layers.Flatten(),
        Dense(6, "relu"),
        Dense(3),
    ]
    return compiled(tfbnn.Sequential(layers))


def depthwise():
    """With several outputs for a channel, and with the channels behind a residual connection."""
    inputs = keras.Input((8, 8, 2))
    start = Convolution(6, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(start)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
    x = keras.layers.Add()([Convolution(6, 1)(x), start])
    x = keras.layers.DepthwiseConv2D(2, 2, depth_multiplier=3, activation="tanh")(x)
    x = keras.layers.GlobalAveragePooling2D()(Convolution(5, 1, activation="relu")(x))
    model = with_statistics(compiled(tfbnn.Model(inputs, Dense(3)(x))))
    rng = np.random.default_rng(4)
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D) and layer.use_bias:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


def depthwise_1d():
    layer = tfbnn.layers.Convolution1DFlipout
    layers = [layer(4, 2, activation="relu"), keras.layers.DepthwiseConv1D(3, strides=2)]
    return compiled(
        tfbnn.Sequential([keras.Input((9, 2)), *layers, keras.layers.Flatten(), Dense(3)])
    )


def normalised():
    """Over the features, which stay, and over positions, where they go as anywhere else."""
    layers = [keras.Input((6, 4)), Dense(8, "relu"), keras.layers.LayerNormalization(axis=1)]
    layers += [Dense(7, "relu"), keras.layers.LayerNormalization(), Dense(9, "relu")]
    model = compiled(tfbnn.Sequential([*layers, keras.layers.Flatten(), Dense(3)]))
    for variable in (model.layers[1].beta, model.layers[3].gamma):
        variable.assign(np.random.default_rng(3).normal(size=variable.shape))
    return model


def grouped():
    inputs = keras.Input((6, 6, 4))
    x = Convolution(4, 1, activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(3)(x)
    x = Convolution(6, 2, activation="relu")(x)
    return compiled(tfbnn.Model(inputs, Dense(3)(keras.layers.Flatten()(x))))


NETWORKS = [
    dense,
    lenet,
    batch_norm,
    residual,
    concatenated,
    nested,
    nested_behind,
    nested_sequential,
    nested_convolutions,
    nested_twice,
    shared,
    reshaped,
    convolution_1d,
    convolution_3d,
    with_plain_layers,
    without_input,
    with_layers_that_are_not_known,
    grouped,
    depthwise,
    depthwise_1d,
    normalised,
]


@functools.cache
def made(make):
    """The network, made once for all tests that leave it as it is."""
    keras.utils.set_random_seed(0)
    return make()


def with_statistics(model):
    """The model with other statistics, gains and biases in each batch normalization."""
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                variable.assign(rng.uniform(0.5, 1.5, size=variable.shape))
            layer.beta.assign(rng.normal(size=layer.beta.shape))
    return model


def inputs_of(model, rows=10):
    return np.random.default_rng(0).normal(size=(rows, *model.input_shape[1:])).astype("float32")


def sizes(model):
    return [layer.kernel.shape[-1] for layer in variational_layers(model)]


def assert_same_means(model, smaller):
    x = inputs_of(model)
    expected = np.asarray(model(x))
    np.testing.assert_allclose(smaller(x), expected, atol=1e-5 * (1 + np.abs(expected).max()))


UNIT, WEIGHT = {"granularity": "unit"}, {"granularity": "weight", "scope": "layer"}


@pytest.mark.filterwarnings(UNREACHED)
@pytest.mark.parametrize(
    "make, sparsity, options",
    # Every network with both granularities and both sparsities, and these with each other.
    [
        (make, sparsity, (UNIT, WEIGHT)[(row + column) % 2])
        for row, make in enumerate(NETWORKS)
        for column, sparsity in enumerate([0.5, 0.95])
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_same_means(make, sparsity, options):
    pruned = tfbnn.prune(made(make), sparsity=sparsity, **options)
    smaller = tfbnn.compact(pruned)
    assert_same_means(pruned, smaller)
    assert masks.num_weights(smaller) <= masks.num_weights(pruned)


def test_no_unit_that_was_removed_is_left():
    """The widths that pruning left, for every kind of layer that is known."""
    known = (dense, lenet, batch_norm, residual, concatenated, shared, reshaped, depthwise)
    inside = (nested, nested_behind, nested_sequential, nested_convolutions, nested_twice)
    for make in known + inside:
        pruned = tfbnn.prune(made(make), sparsity=0.6, granularity="unit")
        smaller = tfbnn.compact(pruned)
        kernels = masks.prunable_weights(smaller)
        assert masks.num_weights(smaller) == masks.num_weights(pruned), make.__name__
        assert sum(kernel.size for kernel in kernels) == masks.num_weights(pruned), make.__name__
        assert not any(layer.masked for layer in variational_layers(smaller))
        assert not any(kernel.mask_variable for kernel in kernels)
        assert smaller.output_shape == (None, 3) and smaller.input_shape == pruned.input_shape


@pytest.mark.parametrize("granularity", ["unit", "weight"])
@pytest.mark.parametrize("make", [dense, lenet, residual], ids=lambda make: make.__name__)
def test_weights_that_stay_are_the_same_bit_for_bit(make, granularity):
    pruned = tfbnn.prune(made(make), sparsity=0.6, granularity=granularity)
    smaller = tfbnn.compact(pruned)
    pairs = zip(masks.prunable_weights(pruned), masks.prunable_weights(smaller), strict=True)
    for old, new in pairs:
        before, after = pairs_of(old), pairs_of(new)
        assert after <= before
        assert granularity == "weight" or after == before
    for old, new in zip(variational_layers(pruned), variational_layers(smaller), strict=True):
        assert set(new.bias.loc.numpy()) <= set(old.bias.loc.numpy())
        assert new.bias.is_random == old.bias.is_random


def pairs_of(kernel):
    """Mean and rho of the weights that are not pruned."""
    alive = masks.mask_of(kernel) > 0
    loc, rho = kernel.loc_variable.numpy(), kernel.rho_variable.numpy()
    return set(zip(loc[alive].tolist(), rho[alive].tolist(), strict=True))


@pytest.mark.parametrize("make", [dense, residual], ids=lambda make: make.__name__)
def test_same_moments_of_the_predictions(make):
    pruned = tfbnn.prune(make(), sparsity=0.6, granularity="unit")
    pruned.compile("adam", tfbnn.losses.NormalNLL(scale=1.0))
    smaller = tfbnn.compact(pruned)
    x, draws = inputs_of(pruned, 5), 400
    one, other = (tfbnn.predict(m, x, draws, seed=s) for m, s in ((pruned, 0), (smaller, 1)))
    deviation = np.maximum(one.epistemic, other.epistemic)
    error = deviation * np.sqrt(2 / draws)
    np.testing.assert_array_less(np.abs(one.prediction - other.prediction), 5 * error + 1e-6)
    # Products of normal weights have heavy tails: the standard error of a standard deviation is
    # taken for a kurtosis of 9, that of a product of two.
    error = deviation * np.sqrt(2 * (9 - 1) / (4 * draws))
    np.testing.assert_array_less(np.abs(one.epistemic - other.epistemic), 5 * error + 1e-6)


def test_it_goes_on_as_any_model(tmp_path):
    model = lenet()
    model.example_rows = inputs_of(model)
    model.likelihood.temperature, model.likelihood.mean_temperature = 1.5, 0.7
    x, y = inputs_of(model, 32), np.arange(32) % 3
    smaller = tfbnn.prune(model, sparsity=0.6, granularity="unit", compact=True)
    twice = tfbnn.compact(tfbnn.prune(model, sparsity=0.6, granularity="unit"))
    assert sizes(smaller) == sizes(twice) and len(smaller.weights) == len(twice.weights)
    for one, other in zip(smaller.weights, twice.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert smaller.likelihood.temperature == 1.5 and smaller.likelihood.mean_temperature == 0.7
    assert smaller.example_rows is model.example_rows
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
    assert type(smaller) is type(model) and smaller.name == model.name
    smaller.fit(x, y, epochs=1, verbose=0)
    again = tfbnn.compact(tfbnn.prune(smaller, sparsity=0.3, granularity="unit"))
    assert sum(sizes(again)) < sum(sizes(smaller)) < sum(sizes(model))
    again.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), again(x), atol=1e-4)
    assert sizes(loaded) == sizes(again)


@pytest.mark.parametrize(
    "make", [nested_behind, nested_sequential, nested_convolutions], ids=lambda make: make.__name__
)
def test_models_inside_go_on_as_any_model(make, tmp_path):
    pruned = tfbnn.prune(made(make), sparsity=0.6, granularity="unit")
    smaller = tfbnn.compact(pruned)
    smaller.fit(inputs_of(smaller), np.arange(10) % 3, epochs=1, verbose=0)
    again = tfbnn.compact(tfbnn.prune(smaller, sparsity=0.8, granularity="unit"))
    assert sum(sizes(again)) < sum(sizes(smaller)) < sum(sizes(pruned))
    again.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_means(again, loaded)
    assert sizes(loaded) == sizes(again)


def test_the_exported_file_is_smaller(tmp_path):
    model = dense()
    x = inputs_of(model, 40)
    smaller = tfbnn.compact(tfbnn.prune(model, sparsity=0.6, granularity="unit"))
    written = {
        name: flat.tflite(m, tmp_path / f"{name}.tflite", uncertainty="none", check_data=x)
        for name, m in (("model", model), ("smaller", smaller))
    }
    assert written["smaller"]["bytes"] < written["model"]["bytes"]


def test_learned_noise_and_moving_statistics_are_kept():
    model = batch_norm()
    model.compile("adam", tfbnn.losses.NormalNLL(scale="learned"))
    for number, variable in enumerate(model.likelihood.loss.variables):
        variable.assign(np.arange(3.0) + number)
    pruned = tfbnn.prune(model, sparsity=0.5, granularity="unit")
    smaller = tfbnn.compact(pruned)
    for number, variable in enumerate(smaller.likelihood.loss.variables):
        np.testing.assert_array_equal(variable, np.arange(3.0) + number)
    old, new = (
        next(x for x in m.layers if isinstance(x, keras.layers.BatchNormalization))
        for m in (pruned, smaller)
    )
    for before, after in zip(old.weights, new.weights, strict=True):
        assert after.shape[0] < before.shape[0]
        assert set(after.numpy()) <= set(before.numpy())


def test_the_model_itself_is_unchanged():
    pruned = tfbnn.prune(dense(), sparsity=0.6, granularity="unit")
    before = [v.numpy() for v in pruned.variables]
    tfbnn.compact(pruned).fit(inputs_of(pruned), np.arange(10) % 3, verbose=0)
    for old, variable in zip(before, pruned.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_a_model_that_is_not_pruned_stays_as_it_is():
    model = dense()
    same = tfbnn.compact(model)
    assert sizes(same) == sizes(model)
    np.testing.assert_array_equal(model(inputs_of(model)), same(inputs_of(model)))


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    pruned = tfbnn.prune(batch_norm(), sparsity=0.5, granularity="unit")
    smaller = tfbnn.compact(pruned)
    expected = np.asarray(pruned(inputs_of(pruned)), np.float32)
    np.testing.assert_allclose(smaller(inputs_of(pruned)), expected, rtol=0.01, atol=0.05)
    assert sum(sizes(smaller)) < sum(sizes(pruned))


# Units that are constants.


def with_masks(model, masks_by_layer):
    """The model with masks of its own, as `prune` would have set them."""
    masked = tfbnn.prune(model, sparsity=0.0)
    for index, change in masks_by_layer.items():
        kernel = masked.layers[index].kernel
        mask = np.ones(kernel.shape, np.float32)
        change(mask)
        kernel.mask_variable.assign(mask)
        kernel.loc_variable.assign(np.asarray(kernel.loc))
    return masked


def columns(*numbers):
    def change(mask):
        mask[..., list(numbers)] = 0

    return change


def rows(*numbers):
    def change(mask):
        mask[..., list(numbers), :] = 0

    return change


def small(
    bias=(-1.0, 0.5, 0.0, 1.0), activation="relu", last="point", use_bias=True, first="point"
):
    """Four hidden units with the given biases."""
    layers = [Dense(4, activation, bias_posterior=first)]
    layers += [Dense(3, bias_posterior=last, use_bias=use_bias)]
    model = compiled(tfbnn.Sequential([keras.Input((6,)), *layers]))
    model.layers[0].bias.loc_variable.assign(bias)
    return model


def test_a_unit_that_nobody_reads_goes():
    smaller = tfbnn.compact(with_masks(small(), {1: rows(1, 3)}))
    assert sizes(smaller) == [2, 3]


def test_a_constant_of_zero_goes():
    """relu(-1) and relu(0) are zero, relu(0.5) is not."""
    masked = with_masks(small(), {0: columns(0, 1, 2)})
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [2, 3]
    np.testing.assert_array_equal(smaller.layers[0].bias.loc, [0.5, 1.0])
    assert_same_means(masked, smaller)


def test_another_constant_stays_if_the_bias_is_a_point():
    masked = with_masks(small(activation="sigmoid"), {0: columns(0, 1)})
    assert sizes(tfbnn.compact(masked)) == [4, 3]
    assert sizes(tfbnn.compact(with_masks(small(use_bias=False), {0: columns(1)}))) == [4, 3]


@pytest.mark.parametrize("fold", [False, True])
def test_a_random_bias_is_no_constant(fold):
    masked = with_masks(small(first="normal", last="normal"), {0: columns(0, 1), 1: rows(3)})
    smaller = tfbnn.compact(masked, fold=fold)
    assert sizes(smaller) == [3, 3]
    np.testing.assert_array_equal(smaller.layers[0].bias.scale, masked.layers[0].bias.scale[:3])
    assert_same_means(masked, smaller)


def test_a_constant_goes_into_a_random_bias():
    masked = with_masks(small(last="normal"), {0: columns(1)})
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [3, 3]
    kernel, old, new = masked.layers[1].kernel, masked.layers[1].bias, smaller.layers[1].bias
    np.testing.assert_allclose(new.loc, old.loc + 0.5 * kernel.loc[1], rtol=1e-5)
    variance = old.scale**2 + 0.5**2 * kernel.scale[1] ** 2
    np.testing.assert_allclose(new.scale, np.sqrt(variance), rtol=1e-4)
    assert_same_means(masked, smaller)


def test_the_law_of_the_outputs_is_kept_where_constants_are_folded():
    """One hidden unit is left, and its weights are certain: the outputs are normal."""
    masked = with_masks(small(last="normal", activation=None), {0: columns(0, 1, 3)})
    masked.layers[0].kernel.rho_variable.assign(np.full((6, 4), -20.0))
    masked.compile("adam", tfbnn.losses.NormalNLL(scale=1.0))
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [1, 3]
    x, draws = inputs_of(masked, 4), 2000
    one, other = (tfbnn.predict(m, x, draws, seed=s) for m, s in ((masked, 0), (smaller, 1)))
    error = np.asarray(one.epistemic) * np.sqrt(2 / draws)
    np.testing.assert_array_less(np.abs(one.prediction - other.prediction), 5 * error)
    error = np.asarray(one.epistemic) / np.sqrt(draws)
    np.testing.assert_array_less(np.abs(one.epistemic - other.epistemic), 5 * error)


def test_fold_moves_the_mean_into_a_point_bias():
    masked = with_masks(small(), {0: columns(1)})
    smaller = tfbnn.compact(masked, fold=True)
    assert sizes(smaller) == [3, 3]
    expected = masked.layers[1].bias.loc + 0.5 * masked.layers[1].kernel.loc[1]
    np.testing.assert_allclose(smaller.layers[1].bias.loc, expected, rtol=1e-5)
    assert_same_means(masked, smaller)
    unchanged = tfbnn.compact(with_masks(small(use_bias=False), {0: columns(1)}), fold=True)
    assert sizes(unchanged) == [4, 3]


def test_plain_layers_take_constants_exactly():
    layers = [Dense(4, "relu"), keras.layers.Dense(5, "relu"), Dense(3)]
    model = compiled(tfbnn.Sequential([keras.Input((6,)), *layers]))
    model.layers[0].bias.loc_variable.assign([-1.0, 0.5, 0.0, 1.0])
    masked = with_masks(model, {0: columns(0, 1), 2: rows(2)})
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [2, 3] and smaller.layers[1].units == 4
    assert_same_means(masked, smaller)


@pytest.mark.parametrize(("padding", "left"), [("valid", 3), ("same", 4)])
def test_padding_keeps_a_constant(padding, left):
    """At the border a convolution reads zeros beside the constant."""
    layers = [Convolution(4, 3, activation="relu")]
    layers += [Convolution(5, 3, padding=padding, bias_posterior="normal")]
    layers += [keras.layers.Flatten(), Dense(3)]
    model = compiled(tfbnn.Sequential([keras.Input((8, 8, 1)), *layers]))
    model.layers[0].bias.loc_variable.assign([1.0, 0.5, 1.0, 1.0])
    masked = with_masks(model, {0: columns(1)})
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [left, 5, 3]
    assert_same_means(masked, smaller)


def test_batch_normalization_makes_a_constant_of_a_constant():
    model = batch_norm()
    norm = model.layers[2]
    variables = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    for variable, value in zip(variables, (1.0, 0.5, 1.0, 1.0), strict=True):
        variable.assign(np.full(6, value))
    # gamma * (0 - 1) + 0.5 < 0, so relu gives zero; the last unit comes out above zero.
    norm.beta.assign([0.5] * 5 + [1.5])
    masked = with_masks(model, {1: columns(0, 1, 5)})
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [4, 5, 3]
    assert_same_means(masked, smaller)


@pytest.mark.parametrize(
    ("padding", "constant", "left"), [("valid", -1.0, 3), ("same", -1.0, 3), ("same", 0.5, 4)]
)
def test_a_depthwise_convolution_makes_a_constant_of_a_constant(padding, constant, left):
    layers = [Convolution(4, 3, activation="relu")]
    layers += [keras.layers.DepthwiseConv2D(2, padding=padding, depth_multiplier=2)]
    layers += [keras.layers.ReLU(), Convolution(5, 1, bias_posterior="normal")]
    layers += [keras.layers.Flatten(), Dense(3)]
    model = compiled(tfbnn.Sequential([keras.Input((8, 8, 1)), *layers]))
    model.layers[0].bias.loc_variable.assign([1.0, constant, 1.0, 1.0])
    model.layers[1].bias.assign(np.linspace(0.1, 0.8, 8))
    masked = with_masks(model, {0: columns(1)})
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [left, 5, 3]
    assert_same_means(masked, smaller)


def test_a_residual_unit_goes_only_if_it_is_dead_in_all():
    inputs = keras.Input((6,))
    one, other = Dense(4, "relu"), Dense(4, "relu")
    x = keras.layers.Add()([one(inputs), other(inputs)])
    model = compiled(tfbnn.Model(inputs, Dense(3)(x)))
    for layer in (one, other):
        layer.bias.loc_variable.assign([-1.0] * 4)
    indices = [model.layers.index(layer) for layer in (one, other)]
    masked = with_masks(model, {indices[0]: columns(0, 1), indices[1]: columns(1, 2)})
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [3, 3, 3]
    assert_same_means(masked, smaller)


def test_a_removed_unit_sets_others_free():
    layers = [Dense(4, "relu"), Dense(4, "relu"), Dense(4, "relu"), Dense(3)]
    model = compiled(tfbnn.Sequential([keras.Input((6,)), *layers]))

    def only_from_2_to_2(mask):
        mask[2, :2] = mask[2, 3] = 0

    masked = with_masks(model, {1: only_from_2_to_2, 2: rows(2)})
    assert sizes(tfbnn.compact(masked)) == [3, 3, 4, 3]


def test_one_unit_of_each_layer_stays():
    masked = with_masks(small(), {1: rows(0, 1, 2, 3)})
    smaller = tfbnn.compact(masked)
    assert sizes(smaller) == [1, 3]
    assert_same_means(masked, smaller)
    smaller.fit(inputs_of(smaller), np.arange(10) % 3, verbose=0)
    assert (smaller.layers[1].kernel.loc.numpy() == 0).all()


@pytest.mark.filterwarnings(UNREACHED)
@hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
@hypothesis.given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    activations=st.lists(st.sampled_from(["relu", "tanh", "sigmoid", None]), min_size=3),
    random_bias=st.booleans(),
    sparsity=st.floats(0.0, 0.95),
    granularity=st.sampled_from(["weight", "unit"]),
)
def test_any_stack(widths, activations, random_bias, sparsity, granularity):
    bias = "normal" if random_bias else "point"
    hidden = [
        Dense(width, activation, bias_posterior=bias)
        for width, activation in zip(widths, activations, strict=False)
    ]
    layers = [keras.Input((5,)), *hidden, Dense(3, bias_posterior=bias)]
    model = compiled(tfbnn.Sequential(layers))
    pruned = tfbnn.prune(model, sparsity, scope="layer", granularity=granularity)
    assert_same_means(pruned, tfbnn.compact(pruned))
    assert_same_means(pruned, tfbnn.compact(pruned, fold=True))


# Bad input.


@keras.saving.register_keras_serializable("test_compaction")
class Subclass(tfbnn.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.last = Dense(3)

    def call(self, inputs, training=None):
        return self.last(inputs, training=training)


def test_a_graph_that_is_not_known():
    model = Subclass()
    model(np.zeros((1, 6), "float32"))
    with pytest.raises(ValueError, match="in a `call` of its own.*type Subclass"):
        tfbnn.compact(compiled(model))


@keras.saving.register_keras_serializable("test_compaction")
class OwnConfiguration(tfbnn.Model):
    def __init__(self, units=4, **kwargs):
        inputs = keras.Input((6,))
        super().__init__(inputs, Dense(3)(Dense(units)(inputs)), **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_a_configuration_without_layers():
    model = compiled(OwnConfiguration())
    with pytest.raises(ValueError, match="does not list its layers.*type OwnConfiguration"):
        tfbnn.compact(model)


def test_no_model_of_ours():
    with pytest.raises(TypeError, match="`tfbnn.Sequential` or `tfbnn.Model`.*Received: model"):
        tfbnn.compact(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))


@pytest.mark.filterwarnings(UNREACHED)
def test_weights_keep_the_prior_that_they_were_trained_with():
    fan_in = {"kernel_prior": "fan_in", "bias_posterior": "normal"}
    layers = [Dense(16, "relu", **fan_in), Dense(8, "relu", **fan_in), Dense(3, **fan_in)]
    model = compiled(tfbnn.Sequential([keras.Input((6,)), *layers]))
    small = tfbnn.compact(tfbnn.prune(model, 0.7, granularity="unit"))
    assert small.layers[1].kernel.shape[0] < 16
    for layer, source in zip(variational_layers(small), variational_layers(model), strict=True):
        assert layer.kernel.prior == source.kernel.prior
        assert layer.bias.prior == source.bias.prior
