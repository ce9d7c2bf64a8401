"""The fixed points: moments, symmetry, spread, and the same ones everywhere."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.prediction.points import standard_points


# So many features take seconds: once.
@pytest.mark.parametrize(
    "num_points, features", [*itertools.product([2, 16, 64], [1, 3, 10]), (64, 1000)]
)
def test_each_feature_is_standard_and_symmetric(num_points, features):
    points = standard_points(num_points, features)
    assert points.shape == (num_points, features) and points.dtype == np.float32
    np.testing.assert_array_equal(points[: num_points // 2], -points[num_points // 2 :])
    np.testing.assert_allclose(np.mean(np.square(points, dtype=np.float64), axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("features", [1, 10, 1000])
def test_the_mean_of_each_feature_is_zero(features):
    means = standard_points(64, features).mean(axis=0, dtype=np.float64)
    np.testing.assert_array_equal(means, np.zeros(features))


def test_the_same_points_at_each_call():
    first = standard_points(16, 4)
    standard_points.cache_clear()
    np.testing.assert_array_equal(standard_points(16, 4), first)
    standard_points.cache_clear()
    # Numbers, even where a graph is traced.
    tf.function(lambda: tf.constant(standard_points(16, 4)), autograph=False)()
    np.testing.assert_array_equal(standard_points(16, 4), first)


def test_they_average_a_sigmoid_better_than_random_points_would():
    # E sigmoid(1 + z), by quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    exact = np.sum(weights / (1 + np.exp(-1 - nodes))) / np.sqrt(2 * np.pi)
    means = np.mean(1 / (1 + np.exp(-1 - standard_points(64, 10).astype(np.float64))), axis=0)
    # 64 random points scatter with 0.2 / 8 = 0.025.
    assert np.abs(means - exact).max() < 0.005


def test_features_are_not_copies_of_each_other():
    correlation = np.corrcoef(standard_points(64, 10).T) - np.eye(10)
    assert np.abs(correlation).max() < 0.5


def test_another_process_has_the_same_points():
    program = (
        "import tensorflow as tf; tf.random.set_seed(7); "
        "from tfbnn.prediction.points import standard_points; "
        "print(standard_points(8, 3).tobytes().hex())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.strip() == standard_points(8, 3).tobytes().hex(), ended.stderr


def test_nobody_can_write_to_them():
    with pytest.raises(ValueError, match="read-only"):
        standard_points(8, 3)[0, 0] = 1.0


@pytest.mark.parametrize("num_points", [0, 1, 7])
def test_an_odd_number_is_an_error(num_points):
    with pytest.raises(ValueError, match=f"even and at least 2.*num_points={num_points}"):
        standard_points(num_points, 3)


@pytest.mark.parametrize("features", [0, 1001])
def test_too_many_or_no_features_are_an_error(features):
    with pytest.raises(ValueError, match=f"from 1 to 1000.*features={features}"):
        standard_points(8, features)
