"""Means over runs, and how far they can be trusted."""

from collections.abc import Sequence

import numpy as np


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error, which is None for one value.

    Example:

    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    """
    if len(values) == 1:
        return float(values[0]), None
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def in_words(values: Sequence[float], digits: int) -> str:
    """Mean and standard error, as in `0.123 ± 0.004`."""
    mean, error = mean_and_error(values)
    return f"{mean:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
