"""The quantile of split conformal prediction: its rank, and how many rows it needs."""

import fractions

import numpy as np
import pytest

from tfbnn.decisions import quantiles


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99, 2 / 3])
def test_the_rows_needed_are_the_fewest_that_have_a_quantile(coverage):
    share = fractions.Fraction(repr(coverage))
    fewest = next(n for n in range(1, 1000) if -(-(n + 1) * share // 1) <= n)
    assert quantiles.rows_needed(coverage) == fewest
    scores = np.arange(fewest)
    assert quantiles.quantile(scores, coverage) == fewest - 1
    with pytest.raises(ValueError, match=f"needs {fewest} labelled rows.*Received: {fewest - 1} r"):
        quantiles.quantile(scores[1:], coverage)


@pytest.mark.parametrize("rows", [19, 20, 99, 100])
def test_the_rank_is_that_of_the_formula(rows):
    # Without rounding: 10 * 0.9 and the like.
    scores = np.random.default_rng(rows).permutation(rows) + 1
    rank = -(-(rows + 1) * 9 // 10)
    assert quantiles.quantile(scores, 0.9) == rank


def test_each_place_has_its_own():
    scores = np.random.default_rng(0).normal(size=(50, 2, 3))
    each = [[quantiles.quantile(scores[:, i, j], 0.9) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(quantiles.quantile(scores, 0.9), each)


def test_coverage_is_exact_for_scores_without_ties():
    # `P(another score <= quantile) = rank / (n + 1)`, whatever the law.
    rows, splits = 30, 4000
    scores = np.random.default_rng(1).exponential(size=(splits, rows + 1))
    held = [one[-1] <= quantiles.quantile(one[:-1], 0.8) for one in scores]
    expected = 25 / 31
    assert abs(np.mean(held) - expected) < 4 * np.sqrt(expected * (1 - expected) / splits)
