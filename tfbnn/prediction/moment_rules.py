"""Moment rules: what each kind of layer does with means and variances.

A rule takes the record of a layer and the moments of its inputs. Activations are apart, because a
layer of any kind may end in one.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfbnn.layers import records
from tfbnn.layers.activations import Activation
from tfbnn.layers.records import AbstractRecord
from tfbnn.prediction import normals, windows
from tfbnn.prediction.normals import Moments

# Padding for a maximum: below any number, and finite, because infinity minus infinity is not.
_LOWEST = -1e6
_SMOOTH = {"elu", "exponential", "gelu", "selu", "sigmoid", "silu", "softplus", "tanh"}


def has_rule(record: AbstractRecord) -> bool:
    """Whether moments can pass through a layer, its activation apart."""
    return record.channels_last and record.same_rank and record.entry_in(RULES) is not None


def apply(record: AbstractRecord, inputs: list[Moments]) -> Moments:
    """Moments of what a layer gives, before its activation."""
    return record.entry_in(RULES)(record, *inputs)


def has_activation_rule(activation: Activation) -> bool:
    """Whether moments can pass through an activation."""
    if activation.name == "relu":
        return not activation.threshold and not (activation.slope and activation.cap is not None)
    return activation.name == "linear" or activation.name in _SMOOTH


def activate(activation: Activation, x: Moments) -> Moments:
    """Moments after an activation."""
    if activation.name == "linear":
        return x
    if activation.name != "relu":
        return normals.through(activation.function, x)
    if activation.cap is not None:
        return normals.capped(x, float(activation.cap))
    slope = activation.slope
    return normals.leaky_rectified(x, slope) if slope else normals.rectified(x)


def activation_in_words(activation: Activation) -> str:
    """For a message, if the activation is what moments cannot pass through."""
    if has_activation_rule(activation):
        return ""
    if activation.name == "relu":
        return " with a threshold, or with both a slope and a cap"
    return f" with the activation {activation.words!r}"


def _affine(x: Moments, factor: Any, offset: Any) -> Moments:
    variance = None if x.variance is None else x.variance * tf.square(factor)
    return Moments(x.mean * factor + offset, variance)


def _fixed_linear(record: records.AnyLinear, x: Moments) -> Moments:
    """Layers of Keras with fixed weights."""
    layer, linear_map = record.layer, record.linear_map
    kernel = tf.cast(layer.kernel, tf.float32)
    mean = linear_map(x.mean, kernel)
    if layer.bias is not None:
        mean = linear_map.add_bias(mean, layer.bias)
    variance = None if x.variance is None else linear_map(x.variance, tf.square(kernel))
    return Moments(mean, variance)


def _normalised(record: records.Normalisation, x: Moments) -> Moments:
    return _affine(normals.normalised(x, record.axes, record.layer.epsilon), *record.numbers())


def _add(record: records.Merge, *inputs: Moments) -> Moments:
    del record
    mean = _sum([x.mean for x in inputs])
    variances = [x.variance for x in inputs if x.variance is not None]
    if not variances:
        return Moments(mean, None)
    variance = _sum(variances)
    # The largest may have been certain.
    return Moments(mean, variance if variance.shape == mean.shape else variance + 0.0 * mean)


def _subtract(record: records.Merge, first: Moments, second: Moments) -> Moments:
    return _add(record, first, Moments(-second.mean, second.variance))


def _average(record: records.Merge, *inputs: Moments) -> Moments:
    return _affine(_add(record, *inputs), 1.0 / len(inputs), 0.0)


def _concatenate(record: records.Concatenation, *inputs: Moments) -> Moments:
    means = tf.concat([x.mean for x in inputs], record.axis)
    if all(x.variance is None for x in inputs):
        return Moments(means, None)
    variances = [tf.zeros_like(x.mean) if x.variance is None else x.variance for x in inputs]
    return Moments(means, tf.concat(variances, record.axis))


def _max_pooling(record: records.Pooling, x: Moments) -> Moments:
    if x.variance is None:
        return Moments(record.layer(x.mean), None)
    spatial = x.mean.shape[1:-1]
    size, strides, padding = record.window(spatial)
    if padding == "same":
        pads = windows.pads(spatial, size, strides, padding)
        x = Moments(tf.pad(x.mean, pads, constant_values=_LOWEST), tf.pad(x.variance, pads))
    if size == strides == (2, 2):
        found = windows.largest_of_four(x)
    else:
        found = windows.largest([Moments(*p) for p in windows.windows(tuple(x), size, strides)])
    if not record.is_global or record.layer.keepdims:
        return found
    return normals.on_both(lambda value: tf.reshape(value, (-1, value.shape[-1])), found)


def _average_pooling(record: records.Pooling, x: Moments) -> Moments:
    means = normals.on_both(record.layer, x)
    if x.variance is None:
        return means
    spatial = x.mean.shape[1:-1]
    is_one = record.is_global
    counts = math.prod(spatial) if is_one else windows.counts(spatial, *record.window(spatial))
    return Moments(means.mean, means.variance / counts)


def _sum(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return functools.reduce(operator.add, tensors)


RULES: dict[type[AbstractRecord], Any] = {
    records.AnyLinear: _fixed_linear,
    records.Identity: lambda record, x: x,
    records.Affine: lambda record, x: _affine(x, *record.numbers()),
    records.Normalisation: _normalised,
    records.Pooling: {"maximum": _max_pooling, "average": _average_pooling},
    records.Rearrangement: lambda record, x: normals.on_both(record.layer, x),
    records.Merge: {"add": _add, "average": _average, "subtract": _subtract},
    records.Concatenation: _concatenate,
}
"""Rules by the kind of the record, and by its `kind` where that matters."""
