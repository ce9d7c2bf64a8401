"""Priors with a place and a width."""

from typing import Any

import keras
import tensorflow_probability as tfp

from tfbnn import arguments
from tfbnn.weights.abstract_prior import PACKAGE, AbstractPrior

tfd = tfp.distributions

LARGEST_WEIGHT = 1e6
"""How far out a prior may lie: over the smallest scale, float32 still holds the square of it."""


class AbstractLocScale(AbstractPrior):
    """A law with a place and a width: `loc` in the unit of the weight, `scale` positive."""

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = arguments.real_number("loc", loc, -LARGEST_WEIGHT, LARGEST_WEIGHT)
        self.scale = arguments.standard_deviation("scale", scale)

    def get_config(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale}


@keras.saving.register_keras_serializable(PACKAGE)
class Normal(AbstractLocScale):
    """Normal prior.

    `p(w) = exp(-((w - loc) / scale)**2 / 2) / (scale * sqrt(2 * pi))`

    Args:
        loc: Mean.
        scale: Standard deviation, positive.

    Raises:
        ValueError: If `loc` is beyond +-1e6 or `scale` is not between 1e-12 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Normal(scale=2.0).log_prob(0.0)), 4)
    -1.6121
    """

    numbers = ("loc", "scale")

    def distribution(self) -> tfd.Distribution:
        return tfd.Normal(self.loc, self.scale)


@keras.saving.register_keras_serializable(PACKAGE)
class Laplace(AbstractLocScale):
    """Laplace (double exponential) prior.

    `p(w) = exp(-abs(w - loc) / scale) / (2 * scale)`

    Args:
        loc: Mean and median.
        scale: Mean absolute deviation, positive; the standard deviation is `sqrt(2) * scale`.

    Raises:
        ValueError: If `loc` is beyond +-1e6 or `scale` is not between 1e-12 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Laplace(scale=0.5).log_prob(1.0)), 4)
    -2.0
    """

    numbers = ("loc", "scale")

    def distribution(self) -> tfd.Distribution:
        return tfd.Laplace(self.loc, self.scale)


@keras.saving.register_keras_serializable(PACKAGE)
class StudentT(AbstractLocScale):
    """Student t prior.

    `p(w)` is proportional to `(1 + ((w - loc) / scale)**2 / df)**(-(df + 1) / 2)`

    Args:
        df: Degrees of freedom, positive. The default, 3, is the smallest whole number with a
            finite variance.
        loc: Median.
        scale: Width, positive; the standard deviation is `scale * sqrt(df / (df - 2))`, `df > 2`.

    Raises:
        ValueError: If `loc` is beyond +-1e6, `scale` is not between 1e-12 and 1e12, or `df` is not
            between 1e-6 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.StudentT(df=3.0).log_prob(0.0)), 4)
    -1.0009
    """

    numbers = ("loc", "scale")

    def __init__(self, df: float = 3.0, loc: float = 0.0, scale: float = 1.0):
        self.df = arguments.real_number("df", df, 1e-6, 1e12)
        super().__init__(loc, scale)

    def distribution(self) -> tfd.Distribution:
        return tfd.StudentT(self.df, self.loc, self.scale)

    def get_config(self) -> dict[str, Any]:
        return {"df": self.df, **super().get_config()}


@keras.saving.register_keras_serializable(PACKAGE)
class Cauchy(AbstractLocScale):
    """Cauchy prior.

    `p(w) = 1 / (pi * scale * (1 + ((w - loc) / scale)**2))`

    Args:
        loc: Median; the mean does not exist.
        scale: Half width at half maximum, positive; the standard deviation does not exist.

    Raises:
        ValueError: If `loc` is beyond +-1e6 or `scale` is not between 1e-12 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Cauchy().log_prob(0.0)), 4)
    -1.1447
    """

    numbers = ("loc", "scale")

    def distribution(self) -> tfd.Distribution:
        return tfd.Cauchy(self.loc, self.scale)
