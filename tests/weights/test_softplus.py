"""Softplus against NumPy in double precision."""

import numpy as np
import tensorflow as tf

from tfbnn.weights.polynomial import polynomial
from tfbnn.weights.softplus import softplus

GRID = np.concatenate([np.linspace(-86, 100, 20_001), [0.0, -1e-8, 1e-8]]).astype("float32")


def test_values_keep_the_digits_of_float32():
    for function in (softplus, tf.function(softplus, jit_compile=True, autograph=False)):
        values = function(tf.constant(GRID)).numpy().astype("float64")
        assert np.max(np.abs(values / np.logaddexp(0.0, GRID.astype("float64")) - 1)) < 4e-7


def test_the_gradient_is_the_logistic_function():
    x = tf.constant(GRID)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = softplus(x)
    gradient = tape.gradient(y, x).numpy().astype("float64")
    expected = 1 / (1 + np.exp(-GRID.astype("float64")))
    assert np.max(np.abs(gradient / expected - 1)) < 2e-6


def test_extremes_are_finite():
    x = tf.constant([-1e30, -200.0, 1e30])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = softplus(x)
    assert np.array_equal(y, np.float32([0.0, 0.0, 1e30]))
    assert np.array_equal(tape.gradient(y, x), [0.0, 0.0, 1.0])


def test_a_polynomial_is_numpys():
    x = np.linspace(-2, 2, 101).astype("float32")
    coefficients = [0.5, -1.0, 0.25, 3.0]
    expected = np.polynomial.polynomial.polyval(x.astype("float64"), coefficients)
    np.testing.assert_allclose(polynomial(coefficients, tf.constant(x)), expected, atol=1e-5)
