"""Which rows and columns belong to which unit."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.layers.steps import steps_of
from tfbnn.pruning.units import HELD, Units

Dense = tfbnn.layers.DenseFlipout
Convolution = tfbnn.layers.Convolution2DFlipout


def units_of(inputs, outputs):
    return Units(steps_of(tfbnn.Model(inputs, outputs)))


def test_pooling_and_flatten():
    """One filter feeds a row for each position."""
    inputs, convolution, last = keras.Input((6, 6, 1)), Convolution(3, 3), Dense(2)
    x = keras.layers.MaxPooling2D()(convolution(inputs))
    units = units_of(inputs, last(keras.layers.Flatten()(x)))
    np.testing.assert_array_equal(units.rows[convolution], [HELD])
    np.testing.assert_array_equal(units.columns[convolution], [1, 2, 3])
    np.testing.assert_array_equal(units.rows[last], [1, 2, 3] * 4)
    np.testing.assert_array_equal(units.columns[last], [HELD] * 2)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_up_sampling(interpolation):
    inputs, convolution, last = keras.Input((3, 3, 1)), Convolution(3, 2), Dense(2)
    x = keras.layers.UpSampling2D(interpolation=interpolation)(convolution(inputs))
    units = units_of(inputs, last(x))
    np.testing.assert_array_equal(units.rows[last], [1, 2, 3])


def test_a_depthwise_convolution():
    """Each channel feeds those outputs that read it."""
    inputs, convolution, last = keras.Input((4, 4, 1)), Convolution(3, 2), Dense(2)
    depthwise = keras.layers.DepthwiseConv2D(2, depth_multiplier=2, activation="relu")
    units = units_of(inputs, last(depthwise(convolution(inputs))))
    np.testing.assert_array_equal(units.passed[depthwise], [1, 2, 3])
    np.testing.assert_array_equal(units.rows[last], [1, 1, 2, 2, 3, 3])


def test_normalisation_over_space_leaves_the_features_by_themselves():
    inputs, first, last = keras.Input((4, 1)), Dense(3), Dense(2)
    norm = keras.layers.LayerNormalization(axis=1)
    units = units_of(inputs, last(norm(first(inputs))))
    np.testing.assert_array_equal(units.rows[last], [1, 2, 3])
    assert norm not in units.passed


def test_channels_first():
    """`Flatten` and `GlobalAveragePooling` see the channels where they are."""
    inputs = keras.Input((4, 4, 2))
    first = Dense(3)(inputs)
    x = keras.layers.Permute((3, 1, 2))(first)
    pooled = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    one, other = Dense(2), Dense(2)
    flat = keras.layers.Flatten()(x)
    units = units_of(inputs, keras.layers.Add()([one(pooled), other(flat)]))
    np.testing.assert_array_equal(units.rows[one], [1, 2, 3])
    np.testing.assert_array_equal(units.rows[other], np.repeat([1, 2, 3], 16))


@pytest.mark.parametrize(
    "join",
    [
        keras.layers.Add(),
        keras.layers.Multiply(),
        lambda pair: pair[0] + pair[1],
        lambda pair: keras.ops.maximum(*pair),
    ],
)
def test_a_residual_connection_ties(join):
    inputs, layers = keras.Input((5,)), [Dense(4), Dense(4), Dense(2)]
    x = join([layers[0](inputs), layers[1](inputs)])
    units = units_of(inputs, layers[2](x))
    for numbers in (units.columns[layers[0]], units.columns[layers[1]], units.rows[layers[2]]):
        np.testing.assert_array_equal(numbers, [1, 2, 3, 4])


def test_a_tie_to_the_input_holds():
    inputs, first, second = keras.Input((5,)), Dense(5), Dense(2)
    units = units_of(inputs, second(keras.layers.Add()([inputs, first(inputs)])))
    np.testing.assert_array_equal(units.columns[first], [HELD] * 5)
    assert units.count == 1


def test_concatenation():
    inputs, layers = keras.Input((3,)), [Dense(2), Dense(1), Dense(2)]
    x = keras.layers.Concatenate()([layers[0](inputs), inputs, layers[1](inputs)])
    units = units_of(inputs, layers[2](x))
    np.testing.assert_array_equal(units.rows[layers[2]], [1, 2, 0, 0, 0, 3])


def test_concatenation_over_positions_ties():
    inputs, layers = keras.Input((4, 3)), [Dense(2), Dense(2), Dense(2)]
    x = keras.layers.Concatenate(axis=1)([layers[0](inputs), layers[1](inputs)])
    units = units_of(inputs, layers[2](x))
    np.testing.assert_array_equal(units.columns[layers[1]], [1, 2])
    np.testing.assert_array_equal(units.rows[layers[2]], [1, 2])


def test_a_shared_layer_ties_what_its_calls_read():
    inputs, first, twice, last = keras.Input((4,)), Dense(3), Dense(3), Dense(2)
    units = units_of(inputs, last(twice(twice(first(inputs)))))
    for numbers in (units.columns[first], units.rows[twice], units.columns[twice]):
        np.testing.assert_array_equal(numbers, [1, 2, 3])


def test_reshape_ties_positions():
    inputs, first, last = keras.Input((4,)), Dense(6), Dense(2)
    x = last(keras.layers.Reshape((3, 2))(first(inputs)))
    units = units_of(inputs, keras.layers.Flatten()(x))
    np.testing.assert_array_equal(units.columns[first], [1, 2] * 3)
    np.testing.assert_array_equal(units.rows[last], [1, 2])


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.LayerNormalization(),
        keras.layers.Activation("softmax"),
        keras.layers.SeparableConv2D(4, 1),
        Convolution(4, 1, groups=2, name="grouped"),
        keras.layers.TimeDistributed(Dense(4)),
        keras.layers.Lambda(lambda x: x),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_that_is_not_known_holds(layer):
    inputs, before, after, last = keras.Input((4, 4, 2)), *(Convolution(4, 1) for _ in range(3))
    units = units_of(inputs, last(after(layer(before(inputs)))))
    np.testing.assert_array_equal(units.columns[before], [HELD] * 4)
    np.testing.assert_array_equal(units.rows[after], [HELD] * 4)
    np.testing.assert_array_equal(units.columns[after], [1, 2, 3, 4])


def test_an_activation_over_the_features_holds():
    inputs, first, last = keras.Input((4,)), Dense(3, "softmax"), Dense(2)
    assert units_of(inputs, last(first(inputs))).count == 1


def test_a_layer_inside_one_that_is_not_known_is_held():
    inputs, shared, last = keras.Input((5, 4)), Dense(3), Dense(2)
    x = keras.layers.Concatenate()([shared(inputs), keras.layers.TimeDistributed(shared)(inputs)])
    assert units_of(inputs, last(x)).count == 1
