"""Blocks: random layers that fit behind a tensor, by the number of its axes."""

from typing import Any

import keras
import numpy as np

import tfbnn
from tests.fuzz import laws

ESTIMATORS = ("Reparameterization", "LocalReparameterization", "Flipout")
ACTIVATIONS = (
    *(None, None, "relu", "relu", "tanh", "sigmoid", "elu", "softplus", "selu", "gelu"),
    *("swish", "leaky_relu", "relu6", "hard_sigmoid", "softsign", "mish", "hard_silu"),
)
_LAYERS = keras.layers
# What treats each number by itself, or each row.
_ANYWHERE = (
    lambda r: _LAYERS.ReLU(max_value=_maybe(r, 2.0), negative_slope=float(r.choice([0.0, 0.1]))),
    lambda r: _LAYERS.LeakyReLU(negative_slope=0.2),
    lambda r: _LAYERS.ELU(),
    # One slope for all steps, whose number may vary.
    lambda r: _LAYERS.PReLU(shared_axes=[1]),
    lambda r: _LAYERS.Activation(str(r.choice(ACTIVATIONS[2:]))),
    lambda r: _LAYERS.Dropout(0.3, seed=1),
    lambda r: _LAYERS.GaussianNoise(0.1, seed=1),
    lambda r: _LAYERS.GaussianDropout(0.1, seed=1),
    lambda r: _LAYERS.AlphaDropout(0.1, seed=1),
    lambda r: _LAYERS.Rescaling(float(r.uniform(0.2, 1.5)), float(r.normal())),
    lambda r: _LAYERS.BatchNormalization(center=bool(r.random() < 0.7), scale=r.random() < 0.7),
    lambda r: _LAYERS.LayerNormalization(),
    lambda r: _LAYERS.RMSNormalization(),
    lambda r: _LAYERS.UnitNormalization(),
    lambda r: _LAYERS.ActivityRegularization(l2=1e-3),
    lambda r: _LAYERS.Identity(),
)


def variational_options(random: np.random.Generator) -> dict[str, Any]:
    """Random arguments that all variational layers take; the laws of kernel and bias are noted."""
    options: dict[str, Any] = {
        "kernel_prior": laws.random_prior(random),
        "kernel_posterior": tfbnn.families.Normal(float(np.exp(random.uniform(-6, -1)))),
        "seed": int(random.integers(1000)),
    }
    if random.random() < 0.3:
        options["bias_posterior"] = "point"
    if random.random() < 0.2:
        options["bias_prior"] = laws.random_prior(random)
    if random.random() < 0.15:
        options["use_bias"] = False
    if random.random() < 0.1:
        options["kernel_constraint"] = keras.constraints.MaxNorm(2.0)
    has_point_bias = options.get("use_bias", True) and "bias_posterior" in options
    if random.random() < 0.1 and has_point_bias:
        options["bias_regularizer"] = keras.regularizers.L2(1e-2)
    return options


def variational(random: np.random.Generator, linear_map: str, *sizes: Any, **options: Any) -> Any:
    """A layer `<linear_map><estimator>` with random options."""
    cls = getattr(tfbnn.layers, f"{linear_map}{random.choice(ESTIMATORS)}")
    return cls(*sizes, **variational_options(random), **options)


def block(random: np.random.Generator, tensor: Any) -> list[Any]:
    """A few layers that can follow `tensor`."""
    axes = len(tensor.shape) - 1
    if random.random() < 0.35:
        return [_ANYWHERE[random.integers(len(_ANYWHERE))](random)]
    return {1: _vector, 2: _sequence, 3: _image, 4: _volume}[axes](random, tensor)


def _vector(random: np.random.Generator, tensor: Any) -> list[Any]:
    units = int(random.integers(1, 9))
    choice = random.random()
    if choice < 0.65:
        return [variational(random, "Dense", units, activation=_activation(random))]
    if choice < 0.85:
        return [_LAYERS.Dense(units, activation=_activation(random))]
    size = tensor.shape[-1]
    if size % 2 == 0 and size > 2:
        return [_LAYERS.Reshape((size // 2, 2))]
    return [_LAYERS.RepeatVector(3)] if random.random() < 0.5 else [_LAYERS.Flatten()]


def _sequence(random: np.random.Generator, tensor: Any) -> list[Any]:
    steps = tensor.shape[1]
    filters, choice = int(random.integers(1, 6)), random.random()
    if choice < 0.35:
        return [_convolution(random, tensor, "Convolution1D")]
    if choice < 0.55:
        return [variational(random, "Dense", filters, activation=_activation(random))]
    if choice < 0.62:
        return [keras.layers.Conv1D(filters, 2, padding="causal", activation=_activation(random))]
    if choice < 0.68:
        cls = (_LAYERS.SimpleRNN, _LAYERS.LSTM, _LAYERS.GRU)[random.integers(3)]
        unroll = steps is not None and random.random() < 0.5
        return [cls(filters, return_sequences=bool(random.random() < 0.6), unroll=unroll)]
    if choice < 0.72:
        return [_LAYERS.TimeDistributed(_LAYERS.Dense(filters))]
    if choice < 0.76 and steps is not None:
        return [_LAYERS.Permute((2, 1))]
    if steps is None or steps < 4:
        return [_LAYERS.ZeroPadding1D(1)]
    return [
        (
            _LAYERS.MaxPooling1D(2, padding=_padding(random)),
            _LAYERS.AveragePooling1D(2, padding=_padding(random)),
            _LAYERS.ZeroPadding1D((1, 2)),
            _LAYERS.Cropping1D(1),
            _LAYERS.UpSampling1D(2),
            _LAYERS.SpatialDropout1D(0.2, seed=1),
        )[random.integers(6)]
    ]


def _image(random: np.random.Generator, tensor: Any) -> list[Any]:
    filters, choice = int(random.integers(1, 5)), random.random()
    if choice < 0.5:
        return [_convolution(random, tensor, "Convolution2D")]
    if choice < 0.58:
        return [variational(random, "Dense", filters, activation=_activation(random))]
    if choice < 0.66:
        cls = (_LAYERS.Conv2D, _LAYERS.SeparableConv2D)[random.integers(2)]
        return [cls(filters, 2, padding="same", activation=_activation(random))]
    if choice < 0.7:
        if random.random() < 0.5:
            return [_LAYERS.DepthwiseConv2D(2, padding="same", depth_multiplier=1 + filters % 2)]
        options = {**variational_options(random), "activation": _activation(random)}
        return [tfbnn.layers.DepthwiseConv2D(2, padding="same", **options)]
    if min(tensor.shape[1:3]) < 4:
        return [_LAYERS.ZeroPadding2D(1)]
    return [
        (
            _LAYERS.MaxPooling2D(2, padding=_padding(random)),
            _LAYERS.MaxPooling2D(3, strides=2, padding=_padding(random)),
            _LAYERS.AveragePooling2D(2, padding=_padding(random)),
            _LAYERS.ZeroPadding2D(((1, 0), (0, 2))),
            _LAYERS.Cropping2D(1),
            _LAYERS.UpSampling2D(2),
            _LAYERS.SpatialDropout2D(0.2, seed=1),
        )[random.integers(7)]
    ]


def _volume(random: np.random.Generator, tensor: Any) -> list[Any]:
    if random.random() < 0.6:
        return [_convolution(random, tensor, "Convolution3D")]
    if min(tensor.shape[1:4]) < 2:
        return [_LAYERS.ZeroPadding3D(1)]
    return [
        (
            _LAYERS.MaxPooling3D(2, padding="same"),
            # On CPUs TensorFlow has it in two types, neither of which is that of every policy.
            _LAYERS.AveragePooling3D(2, padding="same", dtype="float32"),
            _LAYERS.Conv3D(2, 2, padding="same"),
            _LAYERS.ZeroPadding3D(1),
            _LAYERS.UpSampling3D(2),
        )[random.integers(5)]
    ]


def _convolution(random: np.random.Generator, tensor: Any, name: str) -> Any:
    spatial = [size for size in tensor.shape[1:-1] if size is not None]
    size = int(random.integers(1, 1 + min([3, *spatial])))
    options: dict[str, Any] = {"padding": _padding(random), "activation": _activation(random)}
    if name == "Convolution1D" and random.random() < 0.2:
        options["padding"] = "causal"
    if random.random() < 0.25:
        options["strides"] = 2
    elif random.random() < 0.15 and options["padding"] != "valid":
        options["dilation_rate"] = 2
    filters = int(random.integers(1, 5))
    return variational(random, name, filters, size, **options)


def _activation(random: np.random.Generator) -> str | None:
    return ACTIVATIONS[random.integers(len(ACTIVATIONS))]


def _padding(random: np.random.Generator) -> str:
    return str(random.choice(["same", "valid"]))


def _maybe(random: np.random.Generator, value: float) -> float | None:
    return value if random.random() < 0.4 else None
