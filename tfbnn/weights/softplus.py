"""Softplus: the map from `rho` to a standard deviation, as a few multiplications."""

import numpy as np
import tensorflow as tf

from tfbnn.weights.polynomial import polynomial

# log(1 + t) / t on [0, 1], to 5e-9. XLA computes a logarithm in its own pass over the tensor, and
# this as part of the pass that needs it.
_SERIES = np.polynomial.Chebyshev.interpolate(
    lambda t: np.log1p(t + 1e-12) / (t + 1e-12), 9, domain=[0, 1]
).convert(kind=np.polynomial.Polynomial)


def softplus(x: tf.Tensor) -> tf.Tensor:
    """`log(1 + exp(x)) = max(x, 0) + log(1 + exp(-abs(x)))`, to the precision of float32.

    The relative error stays below 3e-7 for negative `x` too, where the result is close to
    `exp(x)`: a small standard deviation keeps its digits. It is positive down to `x = -87`.
    """
    # `where` and not `abs` and `maximum`, whose gradients at 0 are not that of softplus. No custom
    # gradient: TensorFlow keeps those, and the graph they were traced in, for ever.
    positive = x >= 0
    t = tf.exp(tf.where(positive, -x, x))
    return tf.where(positive, x, 0.0) + t * polynomial(_SERIES.coef, t)


def inverse_softplus(y: tf.Tensor) -> tf.Tensor:
    """The `x` with `softplus(x) = y`, `y + log(1 - exp(-y))`, for positive `y`.

    The difference is written without one, as `tanh(y / 2) * (1 + exp(-y))`, so that a small `y`
    keeps its digits, and by operations that files for devices have.
    """
    return y + tf.math.log(tf.tanh(0.5 * y) * (1.0 + tf.exp(-y)))
