"""What each layer of Keras is, in one place: `RECORDS` has a row for each."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers import activations, records
from tfbnn.layers.depthwise import DepthwiseConvolution
from tfbnn.layers.keras_internals import numpy_operations as operations
from tfbnn.layers.linear_layer import AbstractLinearLayer
from tfbnn.layers.linear_maps import Convolution, Dense, LinearMap
from tfbnn.layers.records import AbstractRecord, AnyLinear, Linear
from tfbnn.layers.steps import Step


def record_of(step: Step) -> AbstractRecord:
    """What the layer of a step is.

    A subclass of a layer of Keras is `Unknown`: it may compute something else, or have another
    configuration. So is a variational layer with a `call` of its own.
    """
    cls = type(step.layer)
    if getattr(cls, "call", None) is AbstractLinearLayer.call:
        return _linear(step, step.layer.linear_map)
    return RECORDS.get(cls, records.Unknown)(step)


def _linear(step: Step, linear_map: LinearMap) -> AnyLinear:
    return MAPS.get(type(linear_map), AnyLinear)(step, linear_map)


MAPS = {Dense: Linear, Convolution: Linear, DepthwiseConvolution: records.Depthwise}
"""The record of a map whose kernels pruning of units and C know; of any other `AnyLinear`."""


def _of_map(linear_map: type[LinearMap]) -> Callable[[Step], AnyLinear]:
    return lambda step: _linear(step, linear_map.of(step.layer))


def _batch_normalization(step: Step) -> records.Affine:
    layer, axis = step.layer, step.layer.axis % len(step.output.shape)
    shape = [-1 if i == axis else 1 for i in range(len(step.output.shape))]

    def numbers() -> tuple[tf.Tensor, tf.Tensor]:
        factor = _number(layer.gamma, 1.0) * tf.math.rsqrt(
            _number(layer.moving_variance) + layer.epsilon
        )
        offset = _number(layer.beta, 0.0) - _number(layer.moving_mean) * factor
        return tf.reshape(factor, shape), tf.reshape(offset, shape)

    return records.Affine(step, numbers, axis)


def _layer_normalization(step: Step) -> AbstractRecord:
    layer, sizes = step.layer, step.inputs[0].shape
    axes = tuple(sorted(axis % len(sizes) for axis in layer.axis))
    shape = [size if axis in axes else 1 for axis, size in enumerate(sizes)]

    def numbers() -> tuple[tf.Tensor, tf.Tensor]:
        pair = _number(layer.gamma, tf.ones(shape)), _number(layer.beta, tf.zeros(shape))
        return tuple(tf.reshape(number, shape) for number in pair)

    # What the deprecated option does has another name, and is in no row.
    known = not layer.rms_scaling
    return records.Normalisation(step, numbers, axes) if known else records.Unknown(step)


def _normalization(step: Step) -> records.Affine:
    layer = step.layer

    def numbers() -> tuple[tf.Tensor, tf.Tensor]:
        mean = _number(layer.mean)
        scale = tf.maximum(tf.sqrt(_number(layer.variance)), keras.config.epsilon())
        return (scale, mean) if layer.invert else (1.0 / scale, -mean / scale)

    return records.Affine(step, numbers)


def _rescaling(step: Step) -> records.Affine:
    return records.Affine(step, lambda: (_number(step.layer.scale), _number(step.layer.offset)))


def _up_sampling(step: Step) -> AbstractRecord:
    repeats = getattr(step.layer, "interpolation", "nearest") == "nearest"
    return records.Rearrangement(step, in_space=True) if repeats else records.Resampling(step)


def _number(value: Any, default: Any = None) -> tf.Tensor:
    # Some variables keep out of Keras' casting, such as moving averages.
    return tf.cast(default if value is None else value, tf.float32)


def _rows(names: str, record: Callable[..., AbstractRecord], **facts: Any) -> dict[type, Callable]:
    """A row for each of some layers; `{}` stands for one, two and three dimensions."""
    listed = dict.fromkeys(name.format(rank) for name in names.split() for rank in (1, 2, 3))
    layers = [getattr(keras.layers, name) for name in listed if hasattr(keras.layers, name)]
    return dict.fromkeys(layers, functools.partial(record, **facts) if facts else record)


RECURRENT = (keras.layers.RNN,)
"""Layers, with their subclasses, that go step by step, and may have noise of their own."""

_NOISE = {
    **_rows("Dropout GaussianDropout SpatialDropout{}D", records.Dropout),
    **_rows("AlphaDropout GaussianNoise", records.Noise),
}
NOISE = tuple(_NOISE)
"""Layers that are nothing but noise in training."""

RECORDS: dict[type, Callable[[Step], AbstractRecord]] = {
    **_rows("Dense", _of_map(Dense)),
    **_rows("Conv{}D", _of_map(Convolution)),
    **_rows("DepthwiseConv{}D", _of_map(DepthwiseConvolution)),
    **_rows("Activation ActivityRegularization Identity Softmax", records.Identity),
    **dict.fromkeys(activations.OWN, records.Identity),
    **_NOISE,
    **_rows("BatchNormalization", _batch_normalization),
    **_rows("LayerNormalization", _layer_normalization),
    **_rows("Normalization", _normalization),
    **_rows("Rescaling", _rescaling),
    **_rows("MaxPooling{}D", records.Pooling, kind="maximum"),
    **_rows("AveragePooling{}D", records.Pooling, kind="average"),
    **_rows("GlobalMaxPooling{}D", records.Pooling, kind="maximum", is_global=True),
    **_rows("GlobalAveragePooling{}D", records.Pooling, kind="average", is_global=True),
    **_rows("Flatten Permute RepeatVector Reshape", records.Rearrangement),
    **_rows("Cropping{}D", records.Rearrangement, in_space=True),
    **_rows("ZeroPadding{}D", records.Rearrangement, in_space=True, has_zeros=True),
    **_rows("UpSampling{}D", _up_sampling),
    **_rows("Concatenate", records.Concatenation),
    **_rows("Add", records.Merge, kind="add"),
    **_rows("Average", records.Merge, kind="average"),
    **_rows("Maximum", records.Merge, kind="maximum"),
    **_rows("Minimum", records.Merge, kind="minimum"),
    **_rows("Multiply", records.Merge, kind="multiply"),
    **_rows("Subtract", records.Merge, kind="subtract"),
}
"""What makes a record of a step, by the class of the layer or of the operation of `keras.ops`."""

# `Average` is another one: that has weights.
for _name in ("Add", "Concatenate", "Maximum", "Minimum", "Multiply", "Reshape", "Subtract"):
    RECORDS[getattr(operations, _name)] = RECORDS[getattr(keras.layers, _name)]
