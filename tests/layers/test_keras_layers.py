"""What is known of each layer: of which kind it is, and which it is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.layers import records
from tfbnn.layers.activations import activation_of
from tfbnn.layers.keras_layers import NOISE, RECORDS, RECURRENT, record_of
from tfbnn.layers.steps import steps_of

K = keras.layers


def record(layer, shape=(4,)):
    inputs = keras.Input(shape)
    (step,) = steps_of(keras.Model(inputs, layer(inputs)))
    return record_of(step)


class Doubled(K.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


class Renamed(K.Dense):
    """Whose configuration may be another one, whatever it computes."""


class DoubledFlipout(tfbnn.layers.DenseFlipout):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training)


class RenamedFlipout(tfbnn.layers.DenseFlipout):
    pass


@pytest.mark.parametrize("cls", [Doubled, Renamed, DoubledFlipout, K.EinsumDense])
def test_a_subclass_may_do_anything(cls):
    layer = cls("ab,bc->ac", 3) if cls is K.EinsumDense else cls(3)
    assert type(record(layer)) is records.Unknown


@pytest.mark.parametrize("cls", [K.Dense, tfbnn.layers.DenseFlipout, RenamedFlipout])
def test_linear_layers(cls):
    found = record(cls(3, activation="tanh"))
    assert type(found) is records.Linear and found.mixes_all and found.units == 3
    assert found.is_variational == (cls is not K.Dense)
    assert found.activation.name == "tanh"


@pytest.mark.parametrize("layer", [K.Conv2D(4, 2, groups=2), K.DepthwiseConv2D(2)])
def test_linear_layers_of_several_groups(layer):
    found = record(layer, (5, 5, 2))
    assert isinstance(found, records.Linear) and not found.mixes_all and found.groups == 2


def test_the_deprecated_option_of_layer_normalization_is_not_known():
    with pytest.warns(UserWarning, match="rms_scaling"):
        layer = K.LayerNormalization(rms_scaling=True)
        assert type(record(layer)) is records.Unknown


def test_noise_is_what_differs_in_training_and_has_no_variables():
    names = {"AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"}
    names |= {f"SpatialDropout{rank}D" for rank in (1, 2, 3)}
    assert {cls.__name__ for cls in NOISE} == names
    for cls in NOISE:
        shape = (3,) * int(cls.__name__[-2]) if cls.__name__.endswith("D") else ()
        layer, x = cls(0.5), tf.ones((2, *shape, 5))
        np.testing.assert_array_equal(layer(x), x)
        training = layer(x, training=True).numpy()
        assert (training != 1).any() and not layer.weights
        zeros = layer(0 * x, training=True).numpy()
        kind = record(cls(0.5), (*shape, 5))
        assert (zeros == 0).all() == isinstance(kind, records.Dropout)


@pytest.mark.parametrize("cls", [K.SimpleRNN, K.LSTM, K.GRU, K.ConvLSTM2D])
def test_recurrent_layers(cls):
    assert issubclass(cls, RECURRENT) and cls not in RECORDS


@pytest.mark.parametrize(
    "layer, slope, cap",
    [
        (K.ReLU(), 0.0, None),
        (K.Activation("relu"), 0.0, None),
        (K.Dense(2, "relu6"), 0.0, 6.0),
        (K.ReLU(max_value=2.0), 0.0, 2.0),
        (K.Dense(2, "leaky_relu"), 0.2, None),
        (K.LeakyReLU(negative_slope=0.1), 0.1, None),
        (K.ReLU(negative_slope=0.1), 0.1, None),
    ],
)
def test_there_is_one_relu(layer, slope, cap):
    found = activation_of(layer, 2)
    assert (found.name, found.slope, found.cap) == ("relu", slope, cap)
    x = np.linspace(-3, 9, 25, dtype="float32")
    expected = np.where(x > 0, np.minimum(x, np.inf if cap is None else cap), slope * x)
    np.testing.assert_allclose(found.function(tf.constant(x)), expected, rtol=1e-6)


OPERATIONS = "relu relu6 leaky_relu elu selu sigmoid silu softplus softsign tanh".split()


@pytest.mark.parametrize("name", [*OPERATIONS, "hard_sigmoid", "hard_silu", "log_sigmoid"])
def test_an_operation_is_the_activation_of_its_name(name):
    found = record(getattr(keras.ops, name)).activation
    function = activation_of(K.Activation(name), 2)
    assert (found.name, found.slope, found.cap) == (function.name, function.slope, function.cap)
    x = tf.linspace(-2.0, 7.0, 10)
    np.testing.assert_allclose(found.function(x), function.function(x), rtol=1e-6)


@pytest.mark.parametrize("approximate", [True, False])
def test_the_approximate_gelu_is_another_one(approximate):
    found = record(lambda x: keras.ops.gelu(x, approximate)).activation
    assert (found.name == "gelu") == (not approximate) and found.treats_each_feature


def _own(x):
    return x


@pytest.mark.parametrize("activation", [_own, "softmax", "log_softmax", "glu"])
def test_what_may_look_at_all_features(activation):
    assert not activation_of(K.Dense(4, activation), 2).treats_each_feature


def test_a_softmax_over_another_axis_has_no_name():
    assert [activation_of(K.Softmax(axis), 3).name for axis in (-1, 2, 1)] == [
        "softmax",
        "softmax",
        None,
    ]
