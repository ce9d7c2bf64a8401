"""What each layer of Keras is, in one place: `RECORDS` has a row for each.

To add a layer of a known kind (see `records`) is to add a row.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras.src.ops import numpy as operations

from tfbnn.layers import activations
from tfbnn.layers.linear_maps import Convolution, Dense, DepthwiseConvolution
from tfbnn.layers.records import (
    AbstractRecord,
    Affine,
    Concatenation,
    Depthwise,
    Dropout,
    Identity,
    Linear,
    Merge,
    Noise,
    Normalisation,
    Pooling,
    Rearrangement,
    Resampling,
    Unknown,
)
from tfbnn.layers.steps import Step
from tfbnn.layers.variational import AbstractVariationalLayer


def record_of(step: Step) -> AbstractRecord:
    """What the layer of a step is.

    A subclass of a layer of Keras is `Unknown`: it may compute something else, or have another
    configuration. So is a variational layer with a `call` of its own.

    Example:

    >>> import keras, tfbnn
    >>> from tfbnn.layers.steps import steps_of
    >>> layers = [keras.layers.Reshape((4, 2)), keras.layers.GlobalMaxPooling1D()]
    >>> steps = steps_of(tfbnn.Sequential([keras.Input((8,)), *layers]))
    >>> [type(record_of(step)).__name__ for step in steps]
    ['Rearrangement', 'Pooling']
    """
    cls = type(step.layer)
    if getattr(cls, "call", None) is AbstractVariationalLayer.call:
        return _linear(step, step.layer.linear_map)
    return RECORDS.get(cls, Unknown)(step)


def _linear(step: Step, linear_map: Any) -> Linear:
    is_depthwise = isinstance(linear_map, DepthwiseConvolution)
    return Depthwise(step, linear_map) if is_depthwise else Linear(step, linear_map)


def _of_map(linear_map: type) -> Callable[[Step], Linear]:
    """A row for layers whose map has fields that are named like their arguments."""
    names = [field.name for field in dataclasses.fields(linear_map)]
    return lambda step: _linear(step, linear_map(*[getattr(step.layer, name) for name in names]))


def _batch_normalization(step: Step) -> Affine:
    layer, axis = step.layer, step.layer.axis % len(step.output.shape)
    shape = [-1 if i == axis else 1 for i in range(len(step.output.shape))]

    def numbers() -> tuple[tf.Tensor, tf.Tensor]:
        factor = tf.math.rsqrt(_number(layer.moving_variance) + layer.epsilon)
        factor = factor if layer.gamma is None else factor * _number(layer.gamma)
        offset = -factor * _number(layer.moving_mean)
        offset = offset if layer.beta is None else offset + _number(layer.beta)
        return tf.reshape(factor, shape), tf.reshape(offset, shape)

    return Affine(step, numbers, axis)


def _layer_normalization(step: Step) -> AbstractRecord:
    layer, sizes = step.layer, step.inputs[0].shape
    axes = tuple(sorted(axis % len(sizes) for axis in layer.axis))
    shape = [size if axis in axes else 1 for axis, size in enumerate(sizes)]

    def numbers() -> tuple[tf.Tensor, tf.Tensor]:
        factor = 1.0 if layer.gamma is None else tf.reshape(_number(layer.gamma), shape)
        offset = 0.0 if layer.beta is None else tf.reshape(_number(layer.beta), shape)
        return _number(factor), _number(offset)

    # The deprecated option takes the mean from the variance alone.
    return Unknown(step) if layer.rms_scaling else Normalisation(step, axes, numbers)


def _normalization(step: Step) -> Affine:
    layer = step.layer

    def numbers() -> tuple[tf.Tensor, tf.Tensor]:
        mean = _number(layer.mean)
        scale = tf.maximum(tf.sqrt(_number(layer.variance)), keras.config.epsilon())
        return (scale, mean) if layer.invert else (1.0 / scale, -mean / scale)

    return Affine(step, numbers)


def _rescaling(step: Step) -> Affine:
    return Affine(step, lambda: (_number(step.layer.scale), _number(step.layer.offset)))


def _up_sampling(step: Step) -> AbstractRecord:
    repeats = getattr(step.layer, "interpolation", "nearest") == "nearest"
    return Rearrangement(step, in_space=True) if repeats else Resampling(step)


def _number(value: Any) -> tf.Tensor:
    # Some variables keep out of Keras' casting, such as moving averages.
    return tf.cast(value, tf.float32)


def _in_space(name: str, row: Callable, ranks: tuple[int, ...] = (1, 2, 3)) -> dict[type, Callable]:
    """Rows of the layers `name.format(rank)` of one, two and three dimensions."""
    return {getattr(keras.layers, name.format(rank)): row for rank in ranks}


RECURRENT = (keras.layers.RNN,)
"""Layers, with their subclasses, that go step by step, and may have noise of their own."""

_NOISE: dict[type, Callable] = {
    **dict.fromkeys((keras.layers.Dropout, keras.layers.GaussianDropout), Dropout),
    **_in_space("SpatialDropout{}D", Dropout),
    **dict.fromkeys((keras.layers.AlphaDropout, keras.layers.GaussianNoise), Noise),
}
NOISE = tuple(_NOISE)
"""Layers that are nothing but noise in training."""

_SPATIAL = functools.partial(Rearrangement, in_space=True)

RECORDS: dict[type, Callable[[Step], AbstractRecord]] = {
    keras.layers.Dense: _of_map(Dense),
    **_in_space("Conv{}D", _of_map(Convolution)),
    **_in_space("DepthwiseConv{}D", _of_map(DepthwiseConvolution), (1, 2)),
    **dict.fromkeys((*activations.OWN, keras.layers.Activation, keras.layers.Softmax), Identity),
    **dict.fromkeys((keras.layers.Identity, keras.layers.ActivityRegularization), Identity),
    **_NOISE,
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.LayerNormalization: _layer_normalization,
    keras.layers.Normalization: _normalization,
    keras.layers.Rescaling: _rescaling,
    **_in_space("MaxPooling{}D", functools.partial(Pooling, kind="maximum")),
    **_in_space("AveragePooling{}D", functools.partial(Pooling, kind="average")),
    **_in_space("GlobalMaxPooling{}D", functools.partial(Pooling, kind="maximum", is_global=True)),
    **_in_space(
        "GlobalAveragePooling{}D", functools.partial(Pooling, kind="average", is_global=True)
    ),
    **_in_space("UpSampling{}D", _up_sampling),
    **_in_space("ZeroPadding{}D", functools.partial(_SPATIAL, has_zeros=True)),
    **_in_space("Cropping{}D", _SPATIAL),
    keras.layers.Flatten: Rearrangement,
    keras.layers.Permute: Rearrangement,
    keras.layers.RepeatVector: Rearrangement,
    keras.layers.Reshape: Rearrangement,
    operations.Reshape: Rearrangement,
    **{
        cls: functools.partial(Merge, kind=kind)
        for kind in ("add", "average", "maximum", "minimum", "multiply", "subtract")
        # The operation `Average` has weights.
        for cls in [getattr(keras.layers, kind.title()), getattr(operations, kind.title())]
        if cls is not operations.Average
    },
    keras.layers.Concatenate: Concatenation,
    operations.Concatenate: Concatenation,
}
"""What makes a record of a step, by the class of the layer or operation."""
