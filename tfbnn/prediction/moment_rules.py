"""Moment rules: what the layers of Keras do with means and variances.

A rule takes the layer and the moments of its inputs. Activations are apart, because a layer of any
kind may end in one.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.steps import Step
from tfbnn.prediction import normals
from tfbnn.prediction.normals import Moments

# Padding for a maximum: below any number, and finite, because infinity minus infinity is not.
_LOWEST = -1e6


def has_rule(step: Step) -> bool:
    """Whether moments can pass through the layer of a step, its activation apart."""
    supported = getattr(step.layer, "data_format", "channels_last") == "channels_last"
    # Keras inserts axes where layers add values of different rank.
    alike = len({len(value.shape) for value in step.inputs}) == 1
    return supported and alike and _find(step.layer) is not None


def apply(step: Step, inputs: list[Moments]) -> Moments:
    """Moments of what a layer gives, before its activation."""
    return _find(step.layer)(step.layer, inputs)


def activation(step: Step) -> Callable[[tf.Tensor], tf.Tensor]:
    """The activation that a layer ends in or is; the identity if there is none."""
    if type(step.layer) in _ACTIVATION_LAYERS:
        return step.layer
    if isinstance(step.layer, keras.layers.Softmax):
        last = step.layer.axis in (-1, len(step.output.shape) - 1)
        return keras.activations.softmax if last else step.layer
    return getattr(step.layer, "activation", None) or keras.activations.linear


def gives_probabilities(step: Step) -> bool:
    """Whether the layer ends in a softmax or a sigmoid."""
    return activation(step) in (keras.activations.softmax, keras.activations.sigmoid)


def has_activation_rule(step: Step) -> bool:
    """Whether moments can pass through the activation of a layer."""
    if type(step.layer) in _RELU_LAYERS:
        slope, cap = _slope_and_cap(step.layer)
        return not getattr(step.layer, "threshold", 0.0) and not (slope and cap is not None)
    is_elu = type(step.layer) is keras.layers.ELU
    return is_elu or activation(step) in (*_LINEAR, *_CLOSED, *_SMOOTH)


def activate(step: Step, x: Moments) -> Moments:
    """Moments after the activation of a layer."""
    function = activation(step)
    if type(step.layer) in _RELU_LAYERS:
        return _relu(step.layer, x)
    if function in _LINEAR:
        return x
    if function in _CLOSED:
        return _CLOSED[function](x)
    return normals.through(function, x)


def _relu(layer: Any, x: Moments) -> Moments:
    slope, cap = _slope_and_cap(layer)
    if cap is not None:
        return normals.capped(x, float(cap))
    return normals.leaky_rectified(x, slope) if slope else normals.rectified(x)


def _slope_and_cap(layer: Any) -> tuple[float, float | None]:
    return layer.negative_slope or 0.0, getattr(layer, "max_value", None)


def activation_in_words(step: Step) -> str:
    """For a message, if the activation is what moments cannot pass through."""
    if has_activation_rule(step):
        return ""
    if type(step.layer) in _RELU_LAYERS:
        return " with a threshold, or with both a slope and a cap"
    return f" with the activation {getattr(activation(step), '__name__', activation(step))!r}"


def _find(layer: Any) -> Callable[[Any, list[Moments]], Moments] | None:
    # A subclass may compute something else.
    if not type(layer).__module__.startswith("keras."):
        return None
    name = type(layer).__name__
    # Operations of `keras.ops` are named like the layers, and some differ (`Average`, `Softmax`).
    if not isinstance(layer, keras.layers.Layer) and name not in _OPERATIONS:
        return None
    return _RULES.get(name)


def _on_both(function: Callable[[tf.Tensor], tf.Tensor], x: Moments) -> Moments:
    return Moments(function(x.mean), None if x.variance is None else function(x.variance))


def _affine(x: Moments, factor: Any, offset: Any) -> Moments:
    variance = None if x.variance is None else x.variance * tf.square(factor)
    return Moments(x.mean * factor + offset, variance)


def _same(layer: Any, inputs: list[Moments]) -> Moments:
    del layer
    return inputs[0]


def _moved(layer: Any, inputs: list[Moments]) -> Moments:
    """Layers that put numbers elsewhere, or zeros beside them."""
    return _on_both(layer, inputs[0])


def _fixed_linear(layer: Any, inputs: list[Moments]) -> Moments:
    """Layers of Keras with fixed weights."""
    (x,) = inputs
    kernel = _number(layer.kernel)
    mean = _linear(layer, x.mean, kernel)
    if layer.bias is not None:
        mean += _number(layer.bias)
    variance = None if x.variance is None else _linear(layer, x.variance, tf.square(kernel))
    return Moments(mean, variance)


def _number(value: Any) -> tf.Tensor:
    # Some variables keep out of Keras' casting, such as moving averages.
    return tf.cast(value, tf.float32)


def _linear(layer: Any, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    if isinstance(layer, keras.layers.Dense):
        return keras.ops.matmul(x, kernel)
    padding = layer.padding
    if isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D):
        # Keras takes tuples here, and lists below.
        options = {"strides": layer.strides, "dilation_rate": layer.dilation_rate}
        return keras.ops.depthwise_conv(x, kernel, padding=padding, **options)
    if padding == "causal":
        past = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        x, padding = tf.pad(x, [(0, 0), (past, 0), (0, 0)]), "valid"
    options = {"strides": list(layer.strides), "dilation_rate": list(layer.dilation_rate)}
    return keras.ops.conv(x, kernel, padding=padding, **options)


def _batch_normalization(layer: Any, inputs: list[Moments]) -> Moments:
    factor = tf.math.rsqrt(_number(layer.moving_variance) + layer.epsilon)
    if layer.gamma is not None:
        factor *= _number(layer.gamma)
    offset = -factor * _number(layer.moving_mean)
    if layer.beta is not None:
        offset += _number(layer.beta)
    shape = [1] * len(inputs[0].mean.shape)
    shape[layer.axis] = -1
    return _affine(inputs[0], tf.reshape(factor, shape), tf.reshape(offset, shape))


def _normalization(layer: Any, inputs: list[Moments]) -> Moments:
    mean = _number(layer.mean)
    scale = tf.sqrt(tf.maximum(_number(layer.variance), 1e-14))
    if layer.invert:
        return _affine(inputs[0], scale, mean)
    return _affine(inputs[0], 1.0 / scale, -mean / scale)


def _rescaling(layer: Any, inputs: list[Moments]) -> Moments:
    return _affine(inputs[0], layer.scale, layer.offset)


def _add(layer: Any, inputs: list[Moments]) -> Moments:
    del layer
    mean = _sum([x.mean for x in inputs])
    variances = [x.variance for x in inputs if x.variance is not None]
    if not variances:
        return Moments(mean, None)
    variance = _sum(variances)
    # The largest may have been certain.
    return Moments(mean, variance if variance.shape == mean.shape else variance + 0.0 * mean)


def _subtract(layer: Any, inputs: list[Moments]) -> Moments:
    first, second = inputs
    return _add(layer, [first, Moments(-second.mean, second.variance)])


def _average(layer: Any, inputs: list[Moments]) -> Moments:
    return _affine(_add(layer, inputs), 1.0 / len(inputs), 0.0)


def _concatenate(layer: Any, inputs: list[Moments]) -> Moments:
    axis = layer.axis
    means = tf.concat([x.mean for x in inputs], axis)
    if all(x.variance is None for x in inputs):
        return Moments(means, None)
    variances = [tf.zeros_like(x.mean) if x.variance is None else x.variance for x in inputs]
    return Moments(means, tf.concat(variances, axis))


def _max_pooling(layer: Any, inputs: list[Moments]) -> Moments:
    (x,) = inputs
    size, strides = tuple(layer.pool_size), tuple(layer.strides)
    if x.variance is None:
        return Moments(layer(x.mean), None)
    pads = [(0, 0)] * (2 + len(size))
    if layer.padding == "same":
        pads[1:-1] = _pads(x.mean.shape[1:-1], size, strides)
    padded = Moments(tf.pad(x.mean, pads, constant_values=_LOWEST), tf.pad(x.variance, pads))
    if size == strides == (2, 2):
        return _largest_of_four(padded)
    return _largest([Moments(*pair) for pair in _windows(tuple(padded), size, strides)])


def _global_max_pooling(layer: Any, inputs: list[Moments]) -> Moments:
    (x,) = inputs
    if x.variance is None:
        return Moments(layer(x.mean), None)
    size = tuple(x.mean.shape[1:-1])
    largest = _largest([Moments(*pair) for pair in _windows(tuple(x), size, size)])
    if layer.keepdims:
        return largest
    return _on_both(lambda value: tf.reshape(value, (-1, value.shape[-1])), largest)


def _average_pooling(layer: Any, inputs: list[Moments]) -> Moments:
    (x,) = inputs
    if x.variance is None:
        return Moments(layer(x.mean), None)
    sizes = x.mean.shape[1:-1]
    counts = _counts(sizes, tuple(layer.pool_size), tuple(layer.strides), layer.padding)
    return Moments(layer(x.mean), layer(x.variance) / counts)


def _global_average_pooling(layer: Any, inputs: list[Moments]) -> Moments:
    count = float(np.prod(inputs[0].mean.shape[1:-1]))
    means = _on_both(layer, inputs[0])
    return Moments(means.mean, None if means.variance is None else means.variance / count)


def _sum(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return functools.reduce(operator.add, tensors)


def _windows(
    tensors: tuple[tf.Tensor, ...], size: tuple[int, ...], strides: tuple[int, ...]
) -> Iterator[tuple[tf.Tensor, ...]]:
    """The elements of all windows, one place in the window after the other, row by row."""
    lengths = [(n - k) // s for n, k, s in zip(tensors[0].shape[1:-1], size, strides, strict=True)]
    for place in itertools.product(*map(range, size)):
        at = [slice(p, p + n * s + 1, s) for p, n, s in zip(place, lengths, strides, strict=True)]
        yield tuple(tensor[(slice(None), *at)] for tensor in tensors)


def _largest(items: list[Moments]) -> Moments:
    """The largest of several, by pairs: a tree is less wrong than a chain, and shallower.

    An item meets the one half of the list further on, as the items of `_largest_of_four` do.
    """
    while len(items) > 1:
        half = len(items) // 2
        pairs = zip(items[:half], items[half : 2 * half], strict=True)
        items = [normals.maximum(*pair) for pair in pairs] + items[2 * half :]
    return items[0]


def _largest_of_four(x: Moments) -> Moments:
    """The largest in windows of 2 x 2 side by side, the four in channels one after the other.

    The same as `_largest`, in half as many operations, and without strides: LiteRT is slow at them.
    """
    rows, columns = x.mean.shape[1:3]
    if rows % 2 or columns % 2:
        x = _on_both(lambda t: t[:, : rows - rows % 2, : columns - columns % 2], x)
    x = _on_both(lambda t: tf.nn.space_to_depth(t, 2), x)
    for _ in range(2):
        halves = [tf.split(t, 2, axis=-1) for t in x]
        x = normals.maximum(*map(Moments, *halves))
    return x


def _pads(
    sizes: Sequence[int], window: tuple[int, ...], strides: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Padding `"same"`, before and after, of each axis."""
    totals = [
        max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, window, strides, strict=True)
    ]
    return [(total // 2, total - total // 2) for total in totals]


def _counts(
    sizes: Sequence[int], window: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> np.ndarray:
    """How many elements each window of an average has: those of the padding do not count."""
    counts = np.ones((1,) * (len(sizes) + 2), np.float32)
    pads = _pads(sizes, window, strides) if padding == "same" else [(0, 0)] * len(sizes)
    for axis, (n, k, s, (before, after)) in enumerate(
        zip(sizes, window, strides, pads, strict=True), start=1
    ):
        starts = np.arange(0, n + before + after - k + 1, s) - before
        inside = np.minimum(starts + k, n) - np.maximum(starts, 0)
        shape = [1] * counts.ndim
        shape[axis] = len(inside)
        counts = counts * inside.reshape(shape).astype(np.float32)
    return counts


_RULES: dict[str, Callable[[Any, list[Moments]], Moments]] = {
    **dict.fromkeys(("Dense", "Conv1D", "Conv2D", "Conv3D"), _fixed_linear),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _fixed_linear),
    **dict.fromkeys(("Activation", "Softmax", "Identity", "ActivityRegularization"), _same),
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D"), _same),
    **dict.fromkeys(("SpatialDropout3D", "AlphaDropout", "GaussianDropout"), _same),
    **dict.fromkeys(("GaussianNoise",), _same),
    **dict.fromkeys(("Flatten", "Reshape", "Permute", "RepeatVector"), _moved),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"), _moved),
    **dict.fromkeys(("Cropping1D", "Cropping2D", "Cropping3D"), _moved),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"), _max_pooling),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"), _average_pooling),
    **dict.fromkeys((f"GlobalMaxPooling{d}D" for d in (1, 2, 3)), _global_max_pooling),
    **dict.fromkeys((f"GlobalAveragePooling{d}D" for d in (1, 2, 3)), _global_average_pooling),
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU"), _same),
    "BatchNormalization": _batch_normalization,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "Add": _add,
    "Subtract": _subtract,
    "Average": _average,
    "Concatenate": _concatenate,
}

# Operations of `keras.ops` that do what the layer of their name does.
_OPERATIONS = ("Add", "Subtract", "Concatenate", "Reshape")

_LINEAR = (keras.activations.linear,)

_RELU_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU)
_ACTIVATION_LAYERS = (*_RELU_LAYERS, keras.layers.ELU)

_CLOSED: dict[Callable, Callable[[Moments], Moments]] = {
    keras.activations.relu: normals.rectified,
    keras.activations.relu6: functools.partial(normals.capped, cap=6.0),
    # The slope that Keras' function has by default.
    keras.activations.leaky_relu: functools.partial(normals.leaky_rectified, slope=0.2),
}

_SMOOTH = (
    keras.activations.tanh,
    keras.activations.sigmoid,
    keras.activations.elu,
    keras.activations.selu,
    keras.activations.gelu,
    keras.activations.silu,
    keras.activations.softplus,
    keras.activations.exponential,
)
