"""Small networks with layers of every kind that Laplace's approximation knows."""

import keras
import numpy as np

K = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
ROWS = 6


def _functional(inputs, outputs, loss=LOSS):
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss=loss)
    return model


def dense():
    inputs = keras.Input((4,))
    return _functional(inputs, K.Dense(3)(K.Dense(5, "tanh")(inputs)))


def convolution():
    inputs = x = keras.Input((6, 6, 2))
    x = K.Conv2D(4, 3, 2, "same", activation="tanh", groups=2)(x)
    x = K.DepthwiseConv2D(2, depth_multiplier=2)(x)
    x = K.GlobalAveragePooling2D()(K.Conv2D(3, 2, dilation_rate=1, use_bias=False)(x))
    return _functional(inputs, K.Dense(3)(x))


def sequence():
    inputs = x = keras.Input((7, 2))
    x = K.Conv1D(3, 2, padding="causal", dilation_rate=2, activation="tanh")(x)
    x = K.DepthwiseConv1D(3)(x)
    x = K.RMSNormalization()(x)
    return _functional(inputs, K.Dense(3)(K.GlobalAveragePooling1D()(x)))


def volume():
    inputs = x = keras.Input((4, 4, 4, 1))
    x = K.Conv3D(2, 2, 2, activation="tanh")(x)
    return _functional(inputs, K.Dense(3)(K.Flatten()(x)))


def residual():
    inputs = keras.Input((5, 5, 3))
    x = K.Conv2D(3, 3, padding="same")(inputs)
    x = K.Activation("tanh")(K.BatchNormalization()(x))
    x = K.GroupNormalization(3)(K.Add()([x, inputs]))
    return _functional(inputs, K.Dense(3)(K.GlobalAveragePooling2D()(x)))


def nested():
    inner = keras.Sequential([keras.Input((4,)), K.Dense(4, "tanh"), K.LayerNormalization()])
    inputs = keras.Input((4,))
    return _functional(inputs, K.Dense(3)(inner(inputs)))


def shared():
    inputs = keras.Input((4,))
    layer = K.Dense(4, "tanh")
    return _functional(inputs, K.Dense(3)(layer(layer(inputs))))


class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.hidden = K.Dense(4, "tanh")
        self.head = K.Dense(3)

    def call(self, inputs):
        return self.head(self.hidden(inputs) + inputs)


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    model.compile("sgd", loss=LOSS)
    return model


class Positions(K.Layer):
    """The same numbers for every row, as positions in a sequence have."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = K.Embedding(5, 4)

    def call(self, inputs):
        return inputs + self.table(keras.ops.arange(5))


def attention():
    inputs = keras.Input((5,), dtype="int32")
    x = Positions()(K.Embedding(6, 4)(inputs))
    x = K.Add()([x, K.MultiHeadAttention(2, 3)(x, x)])
    return _functional(inputs, K.Dense(3)(K.GlobalAveragePooling1D()(x)))


def several():
    inputs = keras.Input((4,))
    x = K.Dense(4, "tanh")(inputs)
    losses = [LOSS, keras.losses.BinaryCrossentropy(from_logits=True)]
    return _functional(inputs, [K.Dense(3)(x), K.Dense(2)(x)], losses)


def steps():
    """An answer for each step, of which some do not count."""
    inputs = keras.Input((5,), dtype="int32")
    x = K.Embedding(6, 3, mask_zero=True)(inputs)
    return _functional(inputs, K.Dense(3)(K.Dense(4, "tanh")(x)))


NETWORKS = {
    one.__name__: one
    for one in (
        dense,
        convolution,
        sequence,
        volume,
        residual,
        nested,
        shared,
        subclassed,
        attention,
        several,
        steps,
    )
}
SHAPES = {"convolution": (6, 6, 2), "sequence": (7, 2), "volume": (4, 4, 4, 1)}
SHAPES |= {"residual": (5, 5, 3), "attention": (5,), "steps": (5,)}


def made(name):
    """A network with weights and moving statistics of every size, and its inputs and targets."""
    keras.utils.set_random_seed(1)
    model, rng = NETWORKS[name](), np.random.default_rng(1)
    for variable in model.weights:
        noise = rng.normal(0, 0.4, variable.shape)
        variable.assign(np.abs(noise) + 0.5 if "variance" in variable.name else noise)
    shape = (ROWS, *SHAPES.get(name, (4,)))
    words = name in ("attention", "steps")
    x = rng.integers(0, 6, shape) if words else rng.normal(size=shape).astype("float32")
    y = rng.integers(0, 3, (ROWS, 5) if name == "steps" else ROWS)
    return model, x, [y, rng.integers(0, 2, (ROWS, 2))] if name == "several" else y
