"""The moments of a network in NumPy and float64: the formulas that the C code stands for."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfbnn.export.variances import factorise
from tfbnn.layers import AbstractConvolution, AbstractDense, linear_maps
from tfbnn.layers.steps import steps_of
from tfbnn.prediction.points import standard_points

K = keras.layers
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
_erf = np.vectorize(math.erf)
FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + _erf(x / np.sqrt(2))),
    "softplus": lambda x: np.logaddexp(0, x),
    "exponential": np.exp,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
}


def answers_of(model, x, uncertainty="moments", precision="float32", scale="full", num_points=64):
    """The three answers for each row."""
    mean, variance, ending = outputs_of(model, x, uncertainty, precision, scale)
    return answers(model.likelihood, mean, variance, ending, num_points)


def outputs_of(model, x, uncertainty, precision, scale):
    """Mean and variance of the outputs, before a softmax or sigmoid at the end: its name."""
    steps = steps_of(model)
    values = {steps.input: (np.asarray(x, np.float64), None)}
    ending = None
    for step in steps:
        layer, given = step.layer, [values[value] for value in step.inputs]
        value = linear(layer, *given[0], uncertainty, precision, scale)
        value = value or LAYERS.get(type(layer), lambda layer, value: value)(layer, *given)
        name, parameter = activation_of(layer)
        is_end = step.output is steps.output and model.likelihood.kind != "normal"
        if is_end and name in ("softmax", "sigmoid"):
            ending, name = name, "linear"
        values[step.output] = activated(name, parameter, *value)
    return *values[steps.output], ending


def linear(layer, mean, variance, uncertainty, precision, scale):
    is_random = isinstance(layer, AbstractDense | AbstractConvolution)
    if not is_random and type(layer) not in (K.Dense, K.Conv1D, K.Conv2D):
        return None
    if is_random:
        f = layer.linear_map
        w, s = layer.kernel.loc.numpy(), layer.kernel.scale.numpy()
        b = layer.bias.loc.numpy() if layer.use_bias else 0.0
        t = layer.bias.scale.numpy() ** 2 if layer.use_bias and layer.bias.is_random else 0.0
    else:
        f, w, s, t = map_of(layer), np.asarray(layer.kernel), None, 0.0
        b = np.asarray(layer.bias) if layer.use_bias else 0.0
    if precision == "int8":
        w = rounded(w, 127)
        s = rounded(s, 255) if s is not None and scale == "full" else s
    m = apply(f, mean, w) + b
    if uncertainty == "none" or (s is None and variance is None):
        return m, None
    if s is None:
        square = np.zeros_like(w, np.float64)
    elif scale == "full":
        square = np.square(s, dtype=np.float64)
    else:
        square = factorise(s, scale).variance()
    v = apply(f, mean**2, square) + t
    if variance is not None:
        v = v + apply(f, variance, square + np.square(w, dtype=np.float64))
    return m, v


def apply(f, x, w):
    return f(tf.constant(x, tf.float64), tf.constant(w, tf.float64)).numpy()


def map_of(layer):
    if isinstance(layer, K.Dense):
        return linear_maps.Dense(layer.units)
    return linear_maps.Convolution(
        layer.rank,
        layer.filters,
        layer.kernel_size,
        layer.strides,
        layer.padding,
        layer.data_format,
        layer.dilation_rate,
        layer.groups,
    )


def rounded(values, codes):
    axes = tuple(range(values.ndim - 1))
    steps = (np.abs(values).max(axes) / codes).astype(np.float32).astype(np.float64)
    return np.rint(values / np.where(steps, steps, 1)) * steps


def activation_of(layer):
    if isinstance(layer, K.ReLU) and layer.max_value is not None:
        return "relu6", float(layer.max_value)
    if isinstance(layer, K.ReLU | K.LeakyReLU):
        return "leaky_relu", float(layer.negative_slope)
    if isinstance(layer, K.ELU | K.Softmax):
        return type(layer).__name__.lower(), None
    name = getattr(getattr(layer, "activation", None), "__name__", "linear")
    return name, {"leaky_relu": 0.2, "relu6": 6.0}.get(name, 0.0)


def activated(name, parameter, mean, variance):
    if name == "linear":
        return mean, variance
    if variance is None:
        return plain(name, parameter, mean), None
    if name == "relu6":
        m1, v1, _ = larger(mean, variance, 0.0, 0.0)
        m2, v2, _ = larger(mean - parameter, variance, 0.0, 0.0)
        m = m1 - m2
        square = v1 + m1**2 - (v2 + m2**2) - 2 * parameter * m2
        return m, np.maximum(0, square - m**2)
    if name in ("relu", "leaky_relu"):
        alpha = 0.0 if name == "relu" else parameter
        r, s, phi = larger(mean, variance, 0.0, 0.0)
        v = alpha**2 * variance + (1 - alpha) ** 2 * s + 2 * alpha * (1 - alpha) * variance * phi
        return alpha * mean + (1 - alpha) * r, v
    values = FUNCTIONS[name](mean + np.sqrt(variance) * NODES.reshape(-1, *[1] * mean.ndim))
    m = np.tensordot(WEIGHTS, values, 1)
    return m, np.tensordot(WEIGHTS, np.square(values - m), 1)


def plain(name, parameter, x):
    if name == "relu6":
        return np.clip(x, 0, parameter)
    if name in ("relu", "leaky_relu"):
        return np.where(x > 0, x, (parameter if name == "leaky_relu" else 0.0) * x)
    return FUNCTIONS[name](x)


def larger(m1, v1, m2, v2):
    theta = np.sqrt(np.maximum(v1 + v2, 1e-12))
    a = np.clip((m1 - m2) / theta, -8, 8)
    big = 1 / (1 + np.exp(-(1.5976 * a + 0.07056 * a**3)))
    small = np.exp(-(a**2) / 2) / np.sqrt(2 * np.pi)
    mean = m2 + (m1 - m2) * big + theta * small
    spread = a**2 * big * (1 - big) + a * small * (1 - 2 * big) - small**2
    return mean, np.maximum(0, v1 * big + v2 * (1 - big) + theta**2 * spread), big


def windows(layer, shape):
    """For each place of the output the places `(row, column)` that it sees, None for padding."""
    spatial = shape[1:-1]
    if "Global" in type(layer).__name__:
        yield [tuple(index) for index in np.ndindex(*spatial)]
        return
    size, strides = np.atleast_1d(layer.pool_size), np.atleast_1d(layer.strides)
    size, strides = np.broadcast_to(size, len(spatial)), np.broadcast_to(strides, len(spatial))
    same = layer.padding == "same"
    axes = list(zip(spatial, size, strides, strict=True))
    counts = [-(-n // s) if same else (n - k) // s + 1 for n, k, s in axes]
    before = [
        max((c - 1) * s + k - n, 0) // 2 if same else 0
        for c, (n, k, s) in zip(counts, axes, strict=True)
    ]
    for place in np.ndindex(*counts):
        seen = []
        for offset in np.ndindex(*size):
            index = tuple(np.array(place) * strides + offset - before)
            inside = all(0 <= i < n for i, n in zip(index, spatial, strict=True))
            seen.append(index if inside else None)
        yield seen


def pooled(layer, value):
    mean, variance = value
    combine = average if "Average" in type(layer).__name__ else tournament
    results = []
    for seen in windows(layer, mean.shape):
        elements = [
            index and (mean[:, *index], None if variance is None else variance[:, *index])
            for index in seen
        ]
        results.append(combine(elements))
    shape = (len(mean), *layer.compute_output_shape(mean.shape)[1:])
    means, variances = zip(*results, strict=True)
    return (
        np.stack(means, 1).reshape(shape),
        None if variance is None else np.stack(variances, 1).reshape(shape),
    )


def average(elements):
    means, variances = zip(*[e for e in elements if e is not None], strict=True)
    variance = None if variances[0] is None else sum(variances) / len(means) ** 2
    return sum(means) / len(means), variance


def tournament(elements):
    while len(elements) > 1:
        pairs = list(zip(elements[::2], elements[1::2], strict=False))
        rest = elements[len(pairs) * 2 :]
        elements = [winner(*pair) for pair in pairs] + rest
    return elements[0]


def winner(a, b):
    if a is None or b is None:
        return b if a is None else a
    if a[1] is None:
        return np.maximum(a[0], b[0]), None
    return larger(*a, *b)[:2]


def affine(mean, variance, factor, term):
    return mean * factor + term, None if variance is None else variance * factor**2


def batch_normalization(layer, value):
    gamma = np.asarray(layer.gamma, np.float64) if layer.scale else 1.0
    beta = np.asarray(layer.beta, np.float64) if layer.center else 0.0
    factor = gamma / np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
    return affine(*value, factor, beta - np.asarray(layer.moving_mean) * factor)


def normalization(layer, value):
    deviation = np.sqrt(np.asarray(layer.variance, np.float64))
    return affine(*value, 1 / deviation, -np.asarray(layer.mean) / deviation)


def add(layer, *values):
    variances = [variance for _, variance in values if variance is not None]
    return sum(mean for mean, _ in values), sum(variances) if variances else None


def concatenate(layer, *values):
    def joined(arrays):
        return np.concatenate(arrays, layer.axis)

    if all(variance is None for _, variance in values):
        return joined([mean for mean, _ in values]), None
    full = [np.zeros_like(m) if v is None else v for m, v in values]
    return joined([mean for mean, _ in values]), joined(full)


def each(change):
    """A layer that does the same to means and variances."""

    def layer_of(layer, value):
        return tuple(None if part is None else change(layer, part) for part in value)

    return layer_of


def reshaped(layer, x):
    return x.reshape(len(x), *layer.compute_output_shape(x.shape)[1:])


def padded(layer, x):
    padding = [layer.padding] if isinstance(layer, K.ZeroPadding1D) else layer.padding
    return np.pad(x, [(0, 0), *padding, (0, 0)])


LAYERS = {
    **dict.fromkeys([K.MaxPooling1D, K.MaxPooling2D, K.AveragePooling1D], pooled),
    **dict.fromkeys([K.AveragePooling2D, K.GlobalMaxPooling1D, K.GlobalMaxPooling2D], pooled),
    **dict.fromkeys([K.GlobalAveragePooling1D, K.GlobalAveragePooling2D], pooled),
    **dict.fromkeys([K.Flatten, K.Reshape], each(reshaped)),
    **dict.fromkeys([K.ZeroPadding1D, K.ZeroPadding2D], each(padded)),
    K.BatchNormalization: batch_normalization,
    K.Normalization: normalization,
    K.Rescaling: lambda layer, value: affine(
        *value, np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    ),
    K.Add: add,
    K.Concatenate: concatenate,
}


def answers(likelihood, mean, variance, ending, num_points):
    """Prediction, uncertainty and the third answer."""
    shape = (-1, *[1] * (mean.ndim - 1), mean.shape[-1])
    outputs = mean[np.newaxis]
    if variance is not None:
        points = standard_points(num_points, mean.shape[-1]).astype(np.float64).reshape(shape)
        outputs = mean + np.sqrt(variance) * points
    if likelihood.kind == "normal":
        return normal_answers(likelihood.loss, mean, variance, outputs)
    p = probabilities(likelihood, ending, outputs)
    q = np.stack([1 - p, p], axis=-1) if likelihood.kind == "bernoulli" else p
    total, each_one = entropy(q.mean(0)), entropy(q).mean(0)
    third = np.maximum(total - each_one, 0) if variance is not None else np.zeros_like(total)
    if likelihood.kind == "bernoulli" and p.shape[-1] == 1:
        total, third = total[..., 0], third[..., 0]
    return p.mean(0), total, third


def normal_answers(loss, mean, variance, outputs):
    variance = np.zeros_like(mean) if variance is None else variance
    if loss.scale == "head":
        targets = mean.shape[-1] // 2
        noise = np.square(np.logaddexp(0, outputs[..., targets:]) + 1e-6).mean(0)
        mean, variance = mean[..., :targets], variance[..., :targets]
    elif loss.scale == "learned":
        noise = (np.logaddexp(0, float(loss.rho_variable.numpy())) + 1e-6) ** 2
    else:
        noise = loss.scale**2
    return mean, np.sqrt(variance + noise), np.sqrt(variance)


def probabilities(likelihood, ending, outputs):
    if ending is not None:
        outputs = normalised(ending, outputs)
    elif not likelihood.from_logits:
        ending = "already"
    if ending is None or likelihood.temperature != 1.0:
        kind = "softmax" if likelihood.kind == "categorical" else "sigmoid"
        if not likelihood.from_logits:
            log = np.log(outputs)
            outputs = log if kind == "softmax" else log - np.log1p(-outputs)
        outputs = normalised(kind, outputs / likelihood.temperature)
    return outputs


def normalised(kind, x):
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-x))
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def entropy(p):
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)
