"""Small networks with every layer and option that there is C for."""

import keras
import numpy as np

import tfbnn

LAYERS = tfbnn.layers
K = keras.layers
NLL = tfbnn.losses.NormalNLL
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PROBABILITIES = keras.losses.CategoricalCrossentropy(from_logits=False)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)
BINARY_PROBABILITIES = keras.losses.BinaryCrossentropy(from_logits=False)
SCALE = 0.1


def family():
    return tfbnn.families.Normal(SCALE)


def dense(units, estimator="Flipout", **options):
    return getattr(LAYERS, f"Dense{estimator}")(units, kernel_posterior=family(), **options)


def convolution(rank, *arguments, estimator="Flipout", **options):
    layer = getattr(LAYERS, f"Convolution{rank}D{estimator}")
    return layer(*arguments, kernel_posterior=family(), **options)


def sequential(shape, *layers, loss=LOGITS, **options):
    model = tfbnn.Sequential([keras.Input(shape), *layers])
    model.compile(loss=loss)
    return finished(model, **options)


def finished(model, sparsity=0.0, temperature=1.0, mean_temperature=1.0):
    """Every variable away from its start, and some weights pruned."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if np.dtype(variable.dtype).kind == "f":
            noise = rng.normal(size=variable.shape) * 0.2
            variable.assign(variable + (np.abs(noise) if "variance" in variable.path else noise))
    model.likelihood.temperature = temperature
    model.likelihood.mean_temperature = mean_temperature
    if sparsity:
        model = tfbnn.prune(model, sparsity=sparsity)
    return model


def functional(shape, build, loss=LOGITS, **options):
    inputs = keras.Input(shape)
    model = tfbnn.Model(inputs, build(inputs))
    model.compile(loss=loss)
    return finished(model, **options)


def flatten():
    return K.Flatten()


def _residual(inputs):
    x = convolution(2, 4, 3, padding="same", activation="relu")(inputs)
    x = K.BatchNormalization()(x)
    y = convolution(2, 4, 3, padding="same", bias_posterior="normal")(x)
    x = K.MaxPooling2D()(K.Add()([x, y]))
    return dense(3)(K.Dropout(0.5)(flatten()(x)))


def _branches(inputs):
    x = convolution(2, 4, 3, padding="same")(inputs)
    y = K.Concatenate()([inputs, x, K.ReLU()(x)])
    z = K.Add()([x, inputs, K.Activation("tanh")(x)])
    joined = K.Concatenate(axis=1)([y, K.Concatenate()([z, z, z])])
    return dense(3)(K.GlobalAveragePooling2D()(joined))


def _shared(inputs):
    layer = dense(5, activation="tanh")
    return dense(3)(layer(layer(inputs)))


def _nested(inputs):
    inner = keras.Sequential([keras.Input((6,)), dense(8, activation="relu"), K.Dropout(0.1)])
    return dense(2)(inner(inputs))


def _pooled(layer):
    return lambda: sequential(
        (7, 6, 2), convolution(2, 3, 2, activation="relu"), layer, flatten(), dense(3)
    )


def _pooled_1d(layer):
    return lambda: sequential((9, 2), convolution(1, 3, 2), layer, flatten(), dense(3))


def _activated(activation):
    # Twice: of numbers that are random, and of their means and variances.
    second = K.Activation("tanh" if activation == "exponential" else activation)
    return lambda: sequential((5,), dense(8, activation=activation), dense(4), second, dense(3))


def _normalization():
    layer = K.Normalization()
    layer.adapt(np.random.default_rng(0).normal(1, 2, (50, 6)))
    return layer


ACTIVATIONS = (
    "relu relu6 leaky_relu tanh sigmoid elu selu silu gelu softplus exponential linear".split()
)
MODELS = {
    "dense": ((5,), lambda: sequential((5,), dense(8, activation="relu"), dense(3))),
    "local reparameterization": (
        (5,), lambda: sequential((5,), dense(3, "LocalReparameterization"))
    ),
    "reparameterization": ((5,), lambda: sequential((5,), dense(3, "Reparameterization"))),
    "normal bias": (
        (5,), lambda: sequential((5,), dense(7, bias_posterior="normal"), dense(3, use_bias=False))
    ),
    "point bias": (
        (5,),
        lambda: sequential(
            (5,), *(dense(n, activation="tanh", bias_posterior="point") for n in (7, 3))
        ),
    ),
    "pruned": (
        (300,), lambda: sequential((300,), dense(20, activation="relu"), dense(3), sparsity=0.9)
    ),
    "pruned to gaps above 255": ((900,), lambda: sequential((900,), dense(3), sparsity=0.995)),
    "pruned convolution": (
        (8, 8, 3),
        lambda: sequential(
            (8, 8, 3), convolution(2, 8, 3, activation="relu"), flatten(), dense(3), sparsity=0.8
        ),
    ),
    "sequence": ((6, 3), lambda: sequential((6, 3), dense(4, activation="relu"), dense(2))),
    "causal": (
        (9, 2),
        lambda: sequential(
            (9, 2), convolution(1, 4, 3, padding="causal", dilation_rate=2), flatten(), dense(3)
        ),
    ),
    "strides": (
        (7, 8, 2),
        lambda: sequential(
            (7, 8, 2),
            convolution(2, 4, 3, strides=2, padding="same"),
            convolution(2, 4, (2, 3), strides=(1, 2), padding="same", activation="relu"),
            flatten(),
            dense(3),
        ),
    ),
    "dilation": (
        (8, 8, 2),
        lambda: sequential(
            (8, 8, 2),
            convolution(2, 4, 3, dilation_rate=2),
            convolution(2, 3, 2, dilation_rate=(1, 2), padding="same"),
            flatten(),
            dense(3),
        ),
    ),
    "groups": (
        (6, 6, 4),
        lambda: sequential(
            (6, 6, 4),
            convolution(2, 6, 3, groups=2, padding="same", activation="relu"),
            convolution(2, 6, 2, groups=3),
            flatten(),
            dense(3),
        ),
    ),
    "1x1": ((4, 4, 3), lambda: sequential((4, 4, 3), convolution(2, 5, 1), flatten(), dense(3))),
    "plain Keras": (
        (8, 8, 2),
        lambda: sequential(
            (8, 8, 2),
            K.Conv2D(4, 3, padding="same", activation="relu"),
            convolution(2, 4, 3, activation="relu"),
            K.Conv2D(3, 2, groups=1, use_bias=False),
            flatten(),
            K.Dense(6, activation="tanh"),
            dense(3),
        ),
    ),
    "plain Keras 1D": (
        (8, 2),
        lambda: sequential((8, 2), K.Conv1D(4, 3, padding="causal"), flatten(), dense(3)),
    ),
    "residual": ((8, 8, 2), lambda: functional((8, 8, 2), _residual)),
    "branches": ((4, 4, 4), lambda: functional((4, 4, 4), _branches)),
    "shared": ((5,), lambda: functional((5,), _shared)),
    "nested": ((6,), lambda: functional((6,), _nested)),
    "padding": (
        (5, 4, 2),
        lambda: sequential(
            (5, 4, 2),
            K.ZeroPadding2D(((1, 2), (0, 3))),
            convolution(2, 3, 2),
            K.ZeroPadding2D(1),
            flatten(),
            dense(3),
        ),
    ),
    "padding 1D": (
        (5, 2), lambda: sequential((5, 2), K.ZeroPadding1D((2, 1)), convolution(1, 3, 2), flatten())
    ),
    "depthwise": (
        (6, 6, 2),
        lambda: sequential(
            (6, 6, 2),
            convolution(2, 3, 2, activation="relu"),
            K.DepthwiseConv2D(2, depth_multiplier=2, padding="same", activation="relu"),
            K.DepthwiseConv2D(3, strides=2, use_bias=False),
            flatten(),
            dense(3),
        ),
    ),
    "depthwise 1D": (
        (7, 2),
        lambda: sequential(
            (7, 2), convolution(1, 3, 2), K.DepthwiseConv1D(1), flatten(), dense(3)
        ),
    ),
    "layer normalization": (
        (4, 3),
        lambda: sequential(
            (4, 3),
            K.LayerNormalization(),
            dense(5),
            K.LayerNormalization(axis=(1, 2), scale=False),
            dense(6, activation="relu"),
            K.LayerNormalization(center=False),
            flatten(),
            dense(3),
        ),
    ),
    "up-sampling": (
        (3, 2, 2),
        lambda: sequential(
            (3, 2, 2), K.UpSampling2D((2, 3)), convolution(2, 3, 2), K.UpSampling2D(), flatten()
        ),
    ),
    "up-sampling 1D": (
        (5, 2), lambda: sequential((5, 2), convolution(1, 3, 2), K.UpSampling1D(3), flatten())
    ),
    "moved": (
        (5, 4, 2),
        lambda: sequential(
            (5, 4, 2),
            convolution(2, 3, 2),
            K.Permute((3, 1, 2)),
            K.Cropping2D(((1, 0), (0, 2))),
            flatten(),
            dense(3),
            K.RepeatVector(2),
        ),
    ),
    "maximum": ((7, 6, 2), _pooled(K.MaxPooling2D())),
    "maximum, same": ((7, 6, 2), _pooled(K.MaxPooling2D(3, strides=2, padding="same"))),
    "average": ((7, 6, 2), _pooled(K.AveragePooling2D((3, 2), strides=1))),
    "average, same": ((7, 6, 2), _pooled(K.AveragePooling2D(3, strides=2, padding="same"))),
    "maximum 1D": ((9, 2), _pooled_1d(K.MaxPooling1D(3, padding="same"))),
    "average 1D": ((9, 2), _pooled_1d(K.AveragePooling1D(3))),
    "global maximum": ((7, 6, 2), _pooled(K.GlobalMaxPooling2D(keepdims=True))),
    "global average": ((7, 6, 2), _pooled(K.GlobalAveragePooling2D(keepdims=True))),
    "global 1D": ((9, 2), _pooled_1d(K.GlobalMaxPooling1D())),
    "pooled inputs": (
        (8, 8, 2), lambda: sequential((8, 8, 2), K.MaxPooling2D(), flatten(), dense(3))
    ),
    "affine": (
        (6,),
        lambda: sequential(
            (6,),
            K.Rescaling(0.5, 1.0),
            _normalization(),
            dense(6),
            K.BatchNormalization(center=False),
            K.ReLU(max_value=2.5),
            dense(6),
            K.LeakyReLU(negative_slope=0.3),
            K.Rescaling([1.0, 2.0, -1.0, 0.5, 1.5, 0.1]),
            K.ReLU(negative_slope=0.1),
            K.Reshape((3, 2)),
            flatten(),
            K.ELU(),
            dense(3),
        ),
    ),
    "binary": ((5,), lambda: sequential((5,), dense(1), loss=BINARY)),
    "several binary": (
        (5,), lambda: sequential((5,), dense(4, activation="sigmoid"), loss=BINARY_PROBABILITIES)
    ),
    "binary, temperature": (
        (5,),
        lambda: sequential(
            (5,), dense(2, activation="sigmoid"), loss=BINARY_PROBABILITIES, temperature=2.5
        ),
    ),
    "temperature": ((5,), lambda: sequential((5,), dense(3), temperature=2.5)),
    "temperature of the mean": ((5,), lambda: sequential((5,), dense(3), mean_temperature=0.5)),
    "probabilities, both temperatures": (
        (5,),
        lambda: sequential(
            (5,),
            dense(3, activation="softmax"),
            loss=PROBABILITIES,
            temperature=0.7,
            mean_temperature=1.8,
        ),
    ),
    "binary, temperature of the mean": (
        (5,), lambda: sequential((5,), dense(1), loss=BINARY, mean_temperature=0.4)
    ),
    "several binary, temperature of the mean": (
        (4, 5),
        lambda: sequential(
            (4, 5),
            dense(2, activation="sigmoid"),
            loss=BINARY_PROBABILITIES,
            mean_temperature=2.5,
        ),
    ),
    "several binary of one softmax": (
        (3, 5),
        lambda: sequential((3, 5), dense(3, activation="softmax"), loss=BINARY_PROBABILITIES),
    ),
    "probabilities": (
        (5,), lambda: sequential((5,), dense(3, activation="softmax"), loss=PROBABILITIES)
    ),
    "probabilities, temperature": (
        (5,),
        lambda: sequential((5,), dense(3), K.Softmax(), loss=PROBABILITIES, temperature=0.5),
    ),
    "fixed scale": ((5,), lambda: sequential((5,), dense(2), loss=NLL(scale=0.3))),
    "learned scale": (
        (5,), lambda: sequential((5,), dense(4, activation="tanh"), dense(2), loss=NLL("learned"))
    ),
    "predicted scale": (
        (5,), lambda: sequential((5,), dense(8, activation="relu"), dense(4), loss=NLL("head"))
    ),
    "targets in several units": (
        (5,),
        lambda: sequential(
            (5,),
            dense(4, activation="tanh"),
            dense(2),
            K.Normalization(mean=[100.0, 0.5], variance=[2500.0, 0.01], invert=True),
            loss=NLL("learned"),
        ),
    ),
    "real numbers in an interval": (
        (4, 5),
        lambda: sequential(
            (4, 5), dense(8, activation="relu"), dense(4, activation="sigmoid"), loss=NLL("head")
        ),
    ),
    "real number in an interval": (
        (5,), lambda: sequential((5,), dense(1, activation="sigmoid"), loss=NLL("learned"))
    ),
    "other axis": (
        (4, 5),
        lambda: sequential((4, 5), dense(3), K.BatchNormalization(axis=1), flatten(), dense(2)),
    ),
    **{name: ((5,), _activated(name)) for name in ACTIVATIONS},
}  # fmt: skip


def inputs_of(shape, rows=1000):
    return np.random.default_rng(1).normal(size=(rows, *shape)).astype(np.float32)
