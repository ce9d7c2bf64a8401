"""Polynomials: multiplications and additions, which XLA fuses with what is around them."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def polynomial(coefficients: Sequence[float], x: tf.Tensor) -> tf.Tensor:
    """`coefficients[0] + coefficients[1] * x + coefficients[2] * x**2 + ...`, by Horner's rule."""
    value = tf.fill(tf.shape(x), np.float32(coefficients[-1]))
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + np.float32(coefficient)
    return value
