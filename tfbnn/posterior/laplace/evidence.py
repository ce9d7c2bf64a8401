"""Evidence: the marginal likelihood of Laplace's approximation, and the prior that it favours.

With eigenvalues `lambda` of the curvature, weights `w` of blocks of `n` weights at the mode, and a
prior `N(0, 1 / delta)` of each,

    log p(D) = log p(D | w) + sum over blocks of
               (n log(delta) - delta |w|^2 - sum of log(lambda + delta)) / 2

It is stationary where `delta |w|^2` is the effective number of weights, `sum of lambda / (lambda +
delta)` (MacKay). One side grows with `delta` and the other falls, so there is one such place.

Reference:
    MacKay 1992, "A Practical Bayesian Framework for Backpropagation Networks".
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Standard deviations of 1e5 and 1e-5: where the weights, or the curvature, are zero.
SMALLEST_PRECISION, LARGEST_PRECISION = 1e-10, 1e10
# Bisections of the logarithm between these: down to the steps of float64.
_BISECTIONS = 60


class Block(NamedTuple):
    """Weights that are independent of those of other blocks.

    Attributes:
        eigenvalues: Of the curvature, a vector in float64.
        square: Sum of the squares of the weights at the mode.
    """

    eigenvalues: np.ndarray
    square: float

    def effective(self, precision: float) -> float:
        """How many weights the data have determined."""
        return float((self.eigenvalues / (self.eigenvalues + precision)).sum())

    def log_ratio(self, precision: float) -> float:
        """What the block adds to the log marginal likelihood."""
        logs = len(self.eigenvalues) * math.log(precision)
        logs -= float(np.log(self.eigenvalues + precision).sum())
        return 0.5 * (logs - precision * self.square)


def best_precision(blocks: Sequence[Block]) -> float:
    """The prior precision of some blocks under which the marginal likelihood is largest."""
    low, high = math.log(SMALLEST_PRECISION), math.log(LARGEST_PRECISION)
    square = sum(block.square for block in blocks)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        precision = math.exp(middle)
        if sum(block.effective(precision) for block in blocks) > precision * square:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))
