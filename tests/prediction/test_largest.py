"""The largest of several normals: how far the rule of Clark, pair by pair, is from samples."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.prediction import windows
from tfbnn.prediction.normals import Moments

WINDOWS = 400
SAMPLES = 20_000


def windows_of(count):
    """Means and standard deviations of normals that differ in both, `(count, WINDOWS)`."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, WINDOWS)), rng.uniform(0.2, 1, size=(count, WINDOWS))


# The errors of the mean in standard deviations, and of the variance; then its median.
@pytest.mark.parametrize(
    "count, mean_error, variance_error, typical",
    [(4, 0.06, 0.31, 0.04), (6, 0.1, 0.42, 0.08), (9, 0.13, 0.5, 0.12)],
)
def test_random_windows(count, mean_error, variance_error, typical):
    mean, scale = windows_of(count)
    items = [
        Moments(tf.constant(m, tf.float32), tf.constant(s**2, tf.float32))
        for m, s in zip(mean, scale, strict=True)
    ]
    found = windows.largest(items)
    noise = np.random.default_rng(1).normal(size=(SAMPLES, *mean.shape))
    largest = (mean + scale * noise).max(axis=1)
    expected, variance = largest.mean(axis=0), largest.var(axis=0)
    assert np.max(np.abs(found.mean - expected) / np.sqrt(variance)) < mean_error
    relative = np.abs(found.variance / variance - 1)
    assert np.max(relative) < variance_error and np.median(relative) < typical


@pytest.mark.parametrize("rows, columns", [(4, 6), (5, 7)])
def test_four_in_channels_are_four_in_a_list(rows, columns):
    rng = np.random.default_rng(0)
    shape = (2, rows, columns, 3)
    x = Moments(tf.constant(rng.normal(size=shape)), tf.constant(rng.uniform(0.1, 1, size=shape)))
    found = windows.largest_of_four(x)
    items = [Moments(*pair) for pair in windows.windows(tuple(x), (2, 2), (2, 2))]
    for one, other in zip(found, windows.largest(items), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
