"""Scores of predicted real numbers against SciPy, scikit-learn and draws from the prediction."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from tfbnn.scores import number_scores, number_uncertainty


def test_normal_likelihood_of_one_draw():
    loc, scale, targets = np.array([[1.0], [2.0]]), 0.5, np.array([[1.5], [0.0]])
    expected = -stats.norm.logpdf(targets, loc, scale).mean()
    assert number_scores.normal_negative_log_likelihood(loc[None], scale, targets) == pytest.approx(
        expected
    )
    assert number_scores.normal_negative_log_likelihood(
        loc[None], scale, targets[:, 0]
    ) == pytest.approx(expected)


def test_normal_likelihood_mixes_draws_of_each_output_and_adds_outputs():
    rng = np.random.default_rng(8)
    loc, targets = rng.normal(size=(7, 4, 3)), rng.normal(size=(4, 3))
    scale = np.exp(rng.normal(size=(7, 1, 3)))
    nll = -np.log(stats.norm.pdf(targets, loc, scale).mean(axis=0))
    score = number_scores.normal_negative_log_likelihood
    assert score(loc, scale, targets) == pytest.approx(nll.sum(axis=-1).mean())
    weights = rng.integers(0, 3, size=(4, 3))
    expected = (weights * nll).sum(axis=-1).mean()
    assert score(loc, scale, targets, weights) == pytest.approx(expected)


def test_normal_likelihood_far_from_the_data_is_finite():
    value = number_scores.normal_negative_log_likelihood(np.zeros((2, 1, 1)), 1.0, [[1e4]])
    assert value == pytest.approx(0.5e8 + 0.5 * np.log(2 * np.pi))


def test_root_mean_squared_error_matches_scikit_learn():
    rng = np.random.default_rng(9)
    predictions, targets = rng.normal(size=(2, 20, 1))
    value = number_scores.root_mean_squared_error(predictions, targets)
    assert value == pytest.approx(metrics.root_mean_squared_error(targets, predictions))
    assert number_scores.root_mean_squared_error(predictions, targets[:, 0]) == value


def test_a_weight_counts_targets():
    rng = np.random.default_rng(9)
    mean, targets = rng.normal(size=(2, 20, 2))
    weights = rng.integers(0, 3, size=(20, 2))
    repeat = [np.repeat(array.reshape(-1), weights.reshape(-1)) for array in (mean, targets)]
    rmse, coverage = number_scores.root_mean_squared_error, number_scores.interval_coverage
    assert rmse(mean, targets, weights) == pytest.approx(rmse(*repeat))
    expected = coverage(repeat[0] - 1, repeat[0] + 1, repeat[1])
    assert coverage(mean - 1, mean + 1, targets, weights) == pytest.approx(expected)


def test_credible_interval_covers_its_mass():
    rng = np.random.default_rng(10)
    loc = rng.normal(size=(3, 1, 1)) * np.ones((3, 4_000, 1))
    scale = np.array([0.5, 1.0, 2.0])[:, None, None]
    which = rng.integers(3, size=4_000)
    targets = rng.normal(loc[which, 0, 0], scale[which, 0, 0])
    lower, upper = number_uncertainty.credible_interval(loc, scale, mass=0.8)
    coverage = number_scores.interval_coverage(lower, upper, targets)
    assert abs(coverage - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 4_000)


def test_interval_includes_its_ends():
    assert number_scores.interval_coverage([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.1]) == (
        pytest.approx(2 / 3)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: number_scores.root_mean_squared_error(np.zeros((4, 1)), np.zeros((1, 4))),
            r"shape of the predictions, \(4, 1\). Received: targets shape=\(1, 4\)",
        ),
        (
            lambda: number_scores.root_mean_squared_error(np.zeros(4), np.zeros((4, 1))),
            r"Received: targets shape=\(4, 1\)",
        ),
        (
            lambda: number_scores.root_mean_squared_error([], []),
            r"`predictions` is empty.*Received: shape=\(0,\)",
        ),
        (
            lambda: number_scores.normal_negative_log_likelihood([[[0.0]]], 0.0, [[0.0]]),
            "no density. Received: smallest scale=0.0",
        ),
        (
            lambda: number_scores.normal_negative_log_likelihood([[[0.0]]], 1.0, [[np.nan]]),
            "`targets` must be finite",
        ),
        (
            lambda: number_scores.interval_coverage([1.0], [0.0], [0.5]),
            "swapped.*Received: smallest upper - lower=-1",
        ),
        (
            lambda: number_scores.interval_coverage([1.0], [0.0, 1.0], [0.5]),
            r"`upper` must have the shape.*Received: upper shape=\(2,\)",
        ),
    ],
)
def test_bad_regression_data(call, message):
    with pytest.raises(ValueError, match=message):
        call()
