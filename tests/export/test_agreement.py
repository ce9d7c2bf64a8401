"""The check of files that draw networks: the right ones stay, whatever few rows there are."""

import numpy as np
import pytest

from tfbnn.export.agreement import required_scores

GROUPS = 16
NAMES = ("first", "second", "third")


def heavy_tailed(rng, shape):
    """Small mutual informations are sums of few squares of normal numbers."""
    return rng.normal(size=shape) ** 2


def file_of(rng, factor=1.0):
    def run(rows):
        return {name: factor * heavy_tailed(rng, len(rows[0])) for name in NAMES}

    return run


def expected(rng, count):
    return {name: heavy_tailed(rng, (GROUPS, count)) for name in NAMES}


def refused(seed, count, factor):
    rng = np.random.default_rng(seed)
    try:
        rows = [np.zeros((count, 5))]
        required_scores(expected(rng, count), file_of(rng, factor), rows, 0.0)
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize("count", [1, 3, 40])
def test_right_files_stay(count):
    # Of single rows alone, the law of the sixteen answers in Keras is known only roughly.
    assert sum(refused(seed, count, 1.0) for seed in range(100)) <= (5 if count == 1 else 1)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_wrong_files_go(count):
    assert sum(refused(seed, count, 8.0) for seed in range(100)) >= 90
