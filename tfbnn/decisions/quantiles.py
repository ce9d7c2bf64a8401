"""Quantiles that hold for a row to come, however few rows they are of."""

import fractions
import math

import numpy as np


def rows_needed(coverage: float) -> int:
    """The fewest rows of which a quantile can have a coverage, `coverage / (1 - coverage)`.

    Example:

    >>> from tfbnn.decisions import quantiles
    >>> quantiles.rows_needed(0.9), quantiles.rows_needed(0.95)
    (9, 19)
    """
    share = _exactly(coverage)
    return math.ceil(share / (1 - share))


def quantile(scores: np.ndarray, coverage: float) -> np.ndarray:
    """The score that another one is at most as large as with probability `coverage`, or more.

    If `n` scores and another one come in any order with the same probability, it is the score of
    rank `ceil((n + 1) * coverage)` among the `n`. Where no two are equal, the probability is less
    than `coverage + 1 / (n + 1)`.

    Args:
        scores: `(rows, ...)`.
        coverage: Strictly between 0 and 1.

    Returns:
        `(...)`, each one of the scores.

    Raises:
        ValueError: If there are fewer rows than `rows_needed(coverage)`.

    Example:

    >>> import numpy as np
    >>> from tfbnn.decisions import quantiles
    >>> int(quantiles.quantile(np.arange(1, 20), 0.9))
    18

    Reference:
        Vovk et al. 2005, "Algorithmic Learning in a Random World", sec. 2.2.
    """
    needed, rows = rows_needed(coverage), len(scores)
    if rows < needed:
        raise ValueError(
            f"A coverage of {coverage:g} needs {needed} labelled rows or more: give more, or ask "
            f"for a lower coverage. Received: {rows} rows"
        )
    rank = math.ceil((rows + 1) * _exactly(coverage))
    return np.sort(scores, axis=0)[rank - 1]


def _exactly(number: float) -> fractions.Fraction:
    """What was meant: `0.9` is nine tenths, and no more."""
    return fractions.Fraction(repr(float(number)))
