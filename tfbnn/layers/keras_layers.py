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

from tfbnn.layers import activations, linear_maps
from tfbnn.layers.records import (
    AbstractRecord,
    Affine,
    Concatenation,
    Depthwise,
    Identity,
    Linear,
    Merge,
    Noise,
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
        return Linear(step, step.layer.linear_map)
    return RECORDS.get(cls, Unknown)(step)


def _linear(record: type[Linear], linear_map: type) -> Callable[[Step], Linear]:
    """A row for layers whose map has fields that are named like their arguments."""
    names = [field.name for field in dataclasses.fields(linear_map)]

    def row(step: Step) -> Linear:
        return record(step, linear_map(**{name: getattr(step.layer, name) for name in names}))

    return row


def _batch_normalization(layer: Any) -> tuple[Any, Any]:
    factor = tf.math.rsqrt(_number(layer.moving_variance) + layer.epsilon)
    if layer.gamma is not None:
        factor *= _number(layer.gamma)
    offset = -factor * _number(layer.moving_mean)
    return factor, offset if layer.beta is None else offset + _number(layer.beta)


def _normalization(layer: Any) -> tuple[Any, Any]:
    mean = _number(layer.mean)
    scale = tf.maximum(tf.sqrt(_number(layer.variance)), keras.config.epsilon())
    return (scale, mean) if layer.invert else (1.0 / scale, -mean / scale)


def _number(value: Any) -> tf.Tensor:
    # Some variables keep out of Keras' casting, such as moving averages.
    return tf.cast(value, tf.float32)


def _in_space(name: str, row: Callable, ranks: tuple[int, ...] = (1, 2, 3)) -> dict[type, Callable]:
    """Rows of the layers `name.format(rank)` of one, two and three dimensions."""
    return {getattr(keras.layers, name.format(rank)): row for rank in ranks}


RECURRENT = (keras.layers.RNN,)
"""Layers, with their subclasses, that go step by step, and may have noise of their own."""

_NOISE: dict[type, Callable] = {
    keras.layers.Dropout: functools.partial(Noise, keeps_zeros=True),
    **_in_space("SpatialDropout{}D", functools.partial(Noise, keeps_zeros=True)),
    keras.layers.GaussianDropout: functools.partial(Noise, keeps_zeros=True),
    keras.layers.GaussianNoise: functools.partial(Noise, keeps_zeros=False),
    keras.layers.AlphaDropout: functools.partial(Noise, keeps_zeros=False),
}
NOISE = tuple(_NOISE)
"""Layers that are nothing but noise in training."""

_SPATIAL = functools.partial(Rearrangement, in_space=True)

RECORDS: dict[type, Callable[[Step], AbstractRecord]] = {
    keras.layers.Dense: _linear(Linear, linear_maps.Dense),
    **_in_space("Conv{}D", _linear(Linear, linear_maps.Convolution)),
    **_in_space("DepthwiseConv{}D", _linear(Depthwise, linear_maps.DepthwiseConvolution), (1, 2)),
    **dict.fromkeys((*activations.OWN, keras.layers.Activation, keras.layers.Softmax), Identity),
    **dict.fromkeys((keras.layers.Identity, keras.layers.ActivityRegularization), Identity),
    **_NOISE,
    keras.layers.BatchNormalization: functools.partial(
        Affine, read=_batch_normalization, has_size=True
    ),
    keras.layers.Normalization: functools.partial(Affine, read=_normalization),
    keras.layers.Rescaling: functools.partial(Affine, read=lambda x: (x.scale, x.offset)),
    **_in_space("MaxPooling{}D", functools.partial(Pooling, kind="maximum")),
    **_in_space("AveragePooling{}D", functools.partial(Pooling, kind="average")),
    **_in_space("GlobalMaxPooling{}D", functools.partial(Pooling, kind="maximum", is_global=True)),
    **_in_space(
        "GlobalAveragePooling{}D", functools.partial(Pooling, kind="average", is_global=True)
    ),
    **_in_space("UpSampling{}D", Resampling),
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
