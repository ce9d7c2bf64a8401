"""Keras models of every kind, small: the tests of conversion run over `ARCHITECTURES`."""

from collections.abc import Callable

import keras
import numpy as np

K = keras.layers


def sequential():
    return keras.Sequential([keras.Input((4,)), K.Dense(5, "relu"), K.Dropout(0.2), K.Dense(3)])


def convolutions():
    layers = [
        K.Rescaling(0.5),
        K.Conv2D(4, 3, padding="same", use_bias=False),
        K.BatchNormalization(),
        K.ReLU(),
        K.DepthwiseConv2D(2, depth_multiplier=2, activation="tanh"),
        K.SeparableConv2D(3, 2),
        K.GlobalAveragePooling2D(),
        K.Dense(3),
    ]
    return keras.Sequential([keras.Input((6, 6, 2)), *layers])


def residual():
    x = keras.Input((4,))
    h = K.Dense(4, "relu")(x)
    h = K.LayerNormalization()(x + h * 0.5)
    return keras.Model(x, K.Dense(2)(K.Concatenate()([h, keras.ops.square(h)])))


def nested():
    inner = keras.Sequential([keras.Input((5,)), K.Dense(5, "tanh"), K.BatchNormalization()])
    a = keras.Input((5,))
    block = keras.Model(a, inner(a) + a)
    x = keras.Input((4,))
    return keras.Model(x, K.Dense(3)(block(K.Dense(5)(x))))


def shared():
    x = keras.Input((4,))
    layer = K.Dense(4, "relu")
    return keras.Model(x, K.Dense(2)(layer(layer(x))))


def several():
    first, second = keras.Input((4,), name="first"), keras.Input((2,), name="second")
    h = K.Dense(5, "relu")(K.Concatenate()([first, second]))
    return keras.Model([first, second], {"one": K.Dense(2)(h), "two": K.Dense(3)(h)})


def dictionary():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((2,), name="b")}
    return keras.Model(inputs, K.Dense(2)(K.Concatenate()([inputs["a"], inputs["b"]])))


def one_in_a_list():
    x = keras.Input((4,))
    return keras.Model([x], [K.Dense(2)(x)])


def recurrent():
    layers = [K.Conv1D(4, 2, padding="causal"), K.LSTM(3, return_sequences=True)]
    layers += [K.Bidirectional(K.GRU(2)), K.Dense(2)]
    return keras.Sequential([keras.Input((5, 2)), *layers])


def attention():
    x = keras.Input((5, 4))
    h = x + K.MultiHeadAttention(2, 2)(x, x)
    h = h + K.Dense(4)(K.Dense(8, "gelu")(K.LayerNormalization()(h)))
    return keras.Model(x, K.Dense(2)(K.Flatten()(h)))


def function_of_ones_own():
    x = keras.Input((4,))
    h = K.Lambda(lambda t: t * 2.0, output_shape=(4,))(x)
    return keras.Model(x, K.Dense(2, activation=lambda t: t * keras.ops.sigmoid(t))(h))


class Block(K.Layer):
    """A layer of a user's, with layers in it, and a weight of its own."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = [K.Dense(units, "relu"), K.Dense(units)]
        self.gates = {"gate": K.Dense(units, "sigmoid")}

    def build(self, input_shape):
        self.factor = self.add_weight(name="factor", shape=(self.units,), initializer="normal")
        self.late = K.Dense(self.units)

    def call(self, inputs):
        h = inputs
        for dense in self.dense:
            h = dense(h)
        return self.late(inputs) + self.factor * h * self.gates["gate"](inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def block():
    return keras.Sequential([keras.Input((4,)), Block(), K.Dense(2)])


class Net(keras.Model):
    """A subclassed model."""

    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [K.Dense(units, "relu"), Block(units)]
        self.norm = K.BatchNormalization()
        self.head = K.Dense(2)

    def call(self, inputs, training=None):
        h = inputs
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h, training=training))

    def hidden(self, inputs):
        """A method of a user's."""
        return self.blocks[0](inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def subclassed():
    model = Net()
    model(np.zeros((1, 4), "float32"))
    return model


ARCHITECTURES: dict[str, Callable[[], keras.Model]] = {
    make.__name__: make
    for make in (
        sequential,
        convolutions,
        residual,
        nested,
        shared,
        several,
        dictionary,
        one_in_a_list,
        recurrent,
        attention,
        function_of_ones_own,
        block,
        subclassed,
    )
}


def trained(name):
    """A model whose variables are all other than at the start, and none are zero."""
    keras.utils.set_random_seed(0)
    model, rng = ARCHITECTURES[name](), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    for variable in model.non_trainable_variables:
        if "moving" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def rows(model, count=7):
    """Inputs in the structure that the model takes."""
    rng = np.random.default_rng(1)
    shapes = (None, 4) if isinstance(model, Net) else model.input_shape
    return keras.tree.map_shape_structure(
        lambda shape: rng.normal(size=(count, *shape[1:])).astype("float32"), shapes
    )
