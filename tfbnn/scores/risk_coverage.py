"""Is the uncertainty worth acting on? The risk of the most certain answers, as more are given.

`wrong`, booleans `(rows,)`, and `uncertainty`, numbers of any unit `(rows,)`:

| function | what | unit, range | best |
|---|---|---|---|
| `risk_coverage` | share of wrong answers among the most certain ones | shares, 0 to 1 | 0 |
| `area_under_risk_coverage` | its mean over all numbers of answers | share, 0 to 1 | 0 |

The area is that of a model and of its uncertainty at once: a model with fewer wrong answers has a
lower one. Where no uncertainty tells wrong answers from right ones it is the error.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfbnn.scores.arrays import finite_array


class RiskCoverage(NamedTuple):
    """The risk of the most certain answers.

    Attributes:
        coverage: Share of the rows that are answered, rising to 1, `(rows,)`.
        risk: Share of wrong ones among these, `(rows,)`.
        uncertainty: The largest of these, `(rows,)`.
    """

    coverage: np.ndarray
    risk: np.ndarray
    uncertainty: np.ndarray

    @property
    def area(self) -> float:
        """The mean risk over all numbers of answers."""
        return float(self.risk.mean())


def risk_coverage(wrong: ArrayLike, uncertainty: ArrayLike) -> RiskCoverage:
    """The share of wrong answers among the `k` most certain ones, for each `k`.

    Of those that are as certain, in any order: their mean.

    Args:
        wrong: Which rows are wrong, `(rows,)`.
        uncertainty: How unsure the model is of each, `(rows,)`.

    Returns:
        A `RiskCoverage`.

    Raises:
        ValueError: If the inputs are empty, not finite or do not fit.

    Example:

    >>> from tfbnn.scores import risk_coverage
    >>> curve = risk_coverage.risk_coverage([True, False], [0.9, 0.1])
    >>> curve.coverage.tolist(), curve.risk.tolist()
    ([0.5, 1.0], [0.0, 0.5])

    Reference:
        El-Yaniv and Wiener 2010, "On the Foundations of Noise-free Selective Classification".
    """
    wrong, uncertainty = (
        finite_array(name, value, min_rank=1)
        for name, value in (("wrong", wrong), ("uncertainty", uncertainty))
    )
    if wrong.shape != uncertainty.shape or wrong.ndim != 1 or not np.isin(wrong, (0, 1)).all():
        raise ValueError(
            "`wrong` must be booleans `(rows,)`, one for each uncertainty. Received: wrong of "
            f"shape {wrong.shape}, uncertainty of shape {uncertainty.shape}"
        )
    _, level = np.unique(uncertainty, return_inverse=True)
    shares = np.bincount(level, weights=wrong) / np.bincount(level)
    numbers = np.arange(1, len(wrong) + 1)
    risk = np.cumsum(shares[np.sort(level)]) / numbers
    return RiskCoverage(numbers / len(wrong), risk, np.sort(uncertainty))


def area_under_risk_coverage(wrong: ArrayLike, uncertainty: ArrayLike) -> float:
    """The mean, over all numbers of answers that are given, of the share of wrong ones.

    Args:
        wrong, uncertainty: As in `risk_coverage`.

    Returns:
        Share, from 0 to 1.

    Raises:
        ValueError: If the inputs are empty, not finite or do not fit.

    Example:

    >>> from tfbnn.scores import risk_coverage
    >>> risk_coverage.area_under_risk_coverage([True, False], [0.9, 0.1])
    0.25

    Reference:
        Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers",
        sec. 2.
    """
    return risk_coverage(wrong, uncertainty).area
