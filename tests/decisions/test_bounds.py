"""The binomial bound against SciPy and by brute force; the chosen threshold against its promise."""

import numpy as np
import pytest
from scipy import stats

from tfbnn.decisions import bounds


@pytest.mark.parametrize("rows, errors", [(1, 0), (59, 0), (100, 3), (1000, 50), (5000, 4999)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.9975])
def test_the_bound_is_a_quantile_of_beta(rows, errors, confidence):
    expected = stats.beta.ppf(confidence, errors + 1, rows - errors)
    assert bounds.binomial_bound(errors, rows, confidence) == pytest.approx(expected, rel=1e-8)


def test_all_wrong_bounds_nothing():
    assert bounds.binomial_bound(7, 7, 0.95) == 1.0
    assert bounds.binomial_bound(0, 0, 0.95) == 1.0


@pytest.mark.parametrize("risk, confidence", [(0.05, 0.95), (0.01, 0.9), (0.3, 0.99)])
def test_the_rows_needed_are_the_fewest(risk, confidence):
    needed = bounds.rows_needed(risk, confidence)
    assert bounds.binomial_bound(0, needed, confidence) <= risk
    assert bounds.binomial_bound(0, needed - 1, confidence) > risk
    right, uncertainty = np.zeros(needed, bool), np.arange(needed)
    found = bounds.largest_threshold(right, uncertainty, risk, confidence)
    assert found.kept == needed and found.bound <= risk
    with pytest.raises(ValueError, match=f"needs {needed} labelled rows.*Received: {needed - 1} r"):
        bounds.largest_threshold(right[1:], uncertainty[1:], risk, confidence)


def test_no_threshold_is_an_error_with_the_best_bound():
    wrong = np.arange(400) % 4 == 0
    with pytest.raises(ValueError, match="No threshold keeps the risk at 0.05: .*Received: risk="):
        bounds.largest_threshold(wrong, np.arange(400), 0.05, 0.95)


def test_all_is_accepted_where_nothing_is_wrong():
    found = bounds.largest_threshold(np.zeros(500, bool), np.ones(500), 0.05, 0.95)
    assert found.kept == 500 and found.threshold == np.finfo(np.float32).max


def test_rows_that_are_as_certain_are_accepted_or_not_together():
    uncertainty = np.repeat([0.1, 0.2], 500).astype(np.float32)
    wrong = np.arange(1000) >= 500
    found = bounds.largest_threshold(wrong, uncertainty, 0.05, 0.95)
    assert found.kept == np.sum(uncertainty <= np.float32(found.threshold)) == 500


def risk_below(threshold, of_row, grid):
    """The true risk of what is accepted, for uniform uncertainties."""
    accepted = grid <= threshold
    return of_row(grid[accepted]).mean()


@pytest.mark.parametrize(
    "of_row",
    [
        lambda u: 0.3 * u,
        lambda u: 0.0501 + 0 * u,  # the threshold has nothing to go by, and 5 % is too little
        lambda u: np.where(u < 0.5, 0.02, 0.5),
        lambda u: np.where(u < 0.2, 0.2, 0.02),  # the most certain are wrong most often
    ],
    ids=["rising", "the same for all", "a step", "a wrong order"],
)
def test_the_risk_is_kept_to_in_95_of_100_splits(of_row):
    splits, grid = 200, (np.arange(100_000) + 0.5) / 100_000
    exceeded = 0
    for seed in range(splits):
        rng = np.random.default_rng(seed)
        uncertainty = rng.random(500).astype(np.float32)
        wrong = rng.random(500) < of_row(uncertainty)
        try:
            found = bounds.largest_threshold(wrong, uncertainty, 0.05, 0.95)
        except ValueError:
            continue
        exceeded += risk_below(found.threshold, of_row, grid) > 0.05
    assert exceeded / splits <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / splits)


def test_it_keeps_about_what_could_be_kept():
    # A risk of 0.4 u**3 is 5 % on average up to u = 0.5**(1 / 3) = 0.794.
    kept = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        uncertainty = rng.random(5000).astype(np.float32)
        wrong = rng.random(5000) < 0.4 * uncertainty**3
        kept.append(bounds.largest_threshold(wrong, uncertainty, 0.05, 0.95).kept / 5000)
    assert 0.65 < np.mean(kept) < 0.794
