"""Bounds of a risk that is known from some rows, and the largest threshold that keeps to one."""

import dataclasses
import math

import numpy as np

NUM_THRESHOLDS = 20
"""How many thresholds are tried, at most: a finer choice costs confidence in each."""

# Halvings of the interval that a bound lies in, to 3e-14 of it.
_HALVINGS = 45


def binomial_bound(errors: int, rows: int, confidence: float) -> float:
    """The upper bound of a probability, of `errors` that were seen in `rows`.

        the b with sum over k <= errors of C(rows, k) b**k (1 - b)**(rows - k) = 1 - confidence

    It is exact: the probability that it is below the truth is at most `1 - confidence`.

    Example:

    >>> from tfbnn.decisions import bounds
    >>> round(bounds.binomial_bound(0, 59, 0.95), 3)
    0.05

    Reference:
        Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits"; Geifman and El-Yaniv
        2017, "Selective Classification for Deep Neural Networks", lemma 3.1.
    """
    low, high = errors / max(rows, 1), 1.0
    if errors >= rows:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if shows(errors, rows, middle, confidence):
            high = middle
        else:
            low = middle
    return high


def shows(errors: int, rows: int, risk: float, confidence: float) -> bool:
    """Whether the bound is at most `risk`: as few errors are then as unlikely, or more."""
    if errors >= rows:
        return False
    k = np.arange(errors + 1)
    log_ways = np.cumsum(np.log(np.append(1.0, (rows - k[1:] + 1) / k[1:])))
    log_terms = log_ways + k * math.log(risk) + (rows - k) * math.log1p(-risk)
    return bool(np.exp(log_terms).sum() <= 1 - confidence)


def rows_needed(risk: float, confidence: float, tried: int = 1) -> int:
    """The fewest rows that can show a risk: none of them is wrong, and the bound is at most it.

    Example:

    >>> from tfbnn.decisions import bounds
    >>> bounds.rows_needed(0.05, 0.95), bounds.rows_needed(0.01, 0.95)
    (59, 299)
    """
    return math.ceil(math.log((1 - confidence) / tried) / math.log1p(-risk))


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A threshold that keeps to a risk.

    Attributes:
        threshold: What is accepted is at most this uncertain, float32.
        kept: How many of the rows it accepts.
        bound: Upper bound of the risk of what is accepted.
    """

    threshold: float
    kept: int
    bound: float


def largest_threshold(
    wrong: np.ndarray, uncertainty: np.ndarray, risk: float, confidence: float
) -> Chosen:
    """The largest uncertainty of which the bound of the risk is at most `risk`.

    Up to `NUM_THRESHOLDS` thresholds are tried, at ranks of the uncertainty that no label has a
    part in, each with the confidence `1 - (1 - confidence) / tried`. Then all bounds
    hold at once with the probability `confidence`, whichever is taken. Of a threshold that is the
    uncertainty of a row, the rows strictly below count, and are accepted: they are independent
    draws of what is accepted, which those up to the threshold, with the row itself, are not.

    Args:
        wrong: Booleans `(rows,)`.
        uncertainty: Float32, `(rows,)`.
        risk: Strictly between 0 and 1.
        confidence: Strictly between 0 and 1.

    Raises:
        ValueError: If there are fewer rows than `rows_needed`, or no threshold keeps to the risk.
    """
    rows = len(wrong)
    ranks = _ranks(rows, risk, confidence)
    each = 1 - (1 - confidence) / len(ranks)
    ordered = np.sort(uncertainty.astype(np.float32))
    # The next row's uncertainty is not accepted any more; after the last row all is.
    edges = np.append(ordered, np.float32(np.inf))[ranks]
    counts = [np.sum(uncertainty < edge) for edge in edges]
    errors = [np.sum(wrong[uncertainty < edge]) for edge in edges]
    pairs = [(int(one), int(count)) for one, count in zip(errors, counts, strict=True)]
    kept = [index for index, pair in enumerate(pairs) if shows(*pair, risk, each)]
    if not kept:
        bounds = [binomial_bound(*pair, each) for pair in pairs]
        best = int(np.argmin(bounds))
        raise ValueError(
            f"No threshold keeps the risk at {risk:g}: the lowest bound at confidence "
            f"{confidence:g} is {bounds[best]:.3g}, of the {pairs[best][1]} most certain rows, of "
            f"which {pairs[best][0]} are wrong. Accept a higher risk, or give more rows or a "
            f"better model. Received: risk={risk:g}, {rows} rows"
        )
    last = kept[-1]
    threshold = np.nextafter(edges[last], np.float32(-np.inf))
    return Chosen(float(threshold), pairs[last][1], binomial_bound(*pairs[last], each))


def _ranks(rows: int, risk: float, confidence: float) -> np.ndarray:
    """Numbers of rows to accept, from the fewest that can show the risk to all."""
    needed = rows_needed(risk, confidence)
    if rows < needed:
        raise ValueError(
            f"A risk of {risk:g} at confidence {confidence:g} needs {needed} labelled rows or "
            f"more, and all of those right: give more, or accept a higher risk. Received: {rows} "
            "rows"
        )
    tried = range(1, NUM_THRESHOLDS + 1)
    tried = [count for count in tried if rows_needed(risk, confidence, count) <= rows][-1]
    first = rows_needed(risk, confidence, tried)
    return np.unique(np.linspace(first, rows, tried).round().astype(int))
