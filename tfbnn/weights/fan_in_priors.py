"""Priors whose scales are known when a layer is built, from the inputs of its units."""

import math
from typing import Any

import keras
import tensorflow_probability as tfp

from tfbnn import arguments
from tfbnn.weights.abstract_prior import PACKAGE, AbstractPrior
from tfbnn.weights.loc_scale_priors import Normal

tfd = tfp.distributions

_SMALLEST_VARIANCE_TIMES_FAN_IN = 0.3
_LARGEST_VARIANCE_TIMES_FAN_IN = 30


@keras.saving.register_keras_serializable(PACKAGE)
class FanIn(AbstractPrior):
    """Normal prior whose variance is shared by the inputs of a unit.

    `p(w) = N(w; 0, max(variance / fan_in, smallest_scale**2))`

    With it the functions that the prior calls likely do not depend on the width of the network. The
    scale is known when a layer is built, and `layer.kernel.prior` is then a `Normal`.

    Args:
        variance: Variance of a sum over all inputs of a unit, each of which is 1 or -1. From 1 to
            10 is usual; a small one keeps the network from bending.
        smallest_scale: Standard deviation below which it does not go.

    Raises:
        ValueError: If `variance` is not between 1e-24 and 1e24, or `smallest_scale` is neither 0
            nor a standard deviation.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.FanIn(variance=10.0).at_fan_in(1000)
    Normal(loc=0.0, scale=0.1)

    Reference:
        Neal 1996, "Bayesian Learning for Neural Networks", sec. 2.1.
    """

    def __init__(self, variance: float = 10.0, smallest_scale: float = 0.0):
        self.variance = arguments.real_number("variance", variance, 1e-24, 1e24)
        self.smallest_scale = arguments.real_number(
            "smallest_scale", smallest_scale, 0, arguments.LARGEST_SCALE
        )

    def at_fan_in(self, fan_in: int) -> AbstractPrior:
        smallest = max(self.smallest_scale, arguments.SMALLEST_SCALE)
        return Normal(scale=max(math.sqrt(self.variance / fan_in), smallest))

    def distribution(self) -> tfd.Distribution:
        raise ValueError(
            "The scale of this prior is known when a layer is built: see `layer.kernel.prior`, or "
            f"call `at_fan_in`. Received: {self}"
        )

    def get_config(self) -> dict[str, Any]:
        return {"variance": self.variance, "smallest_scale": self.smallest_scale}


@keras.saving.register_keras_serializable(PACKAGE)
class AutomaticRelevance(AbstractPrior):
    """Normal prior whose scale is each weight's own, and the one under which the ELBO is largest.

    `p(w) = N(w; 0, s**2)`, `s**2 = loc**2 + scale**2` or the nearest number to it from
    `smallest_scale**2` to `largest_scale**2`

    so that `KL = (log(s**2 / scale**2) + (loc**2 + scale**2) / s**2 - 1) / 2`: between the two
    scales `log(1 + loc**2 / scale**2) / 2`, whatever the size of the weight. Those that the data do
    not need fall back to `N(0, smallest_scale**2)`. They can be pruned, and are uncertain, which
    inputs that the data never had are answered with. Larger weights are held back by a normal prior
    of the largest scale. Without one, all could grow together with their standard deviations at no
    cost: a long training with little of the KL would be sure of everything. Where rows are many it
    may be larger than the default.

    Because its scales are learnt, it is no density, and the ELBO is that of empirical Bayes: do not
    compare models by it.

    Args:
        smallest_scale: Standard deviation, or `"fan_in"`: `sqrt(0.3 / fan_in)`, known when a layer
            is built.
        largest_scale: The same; `"fan_in"` is `sqrt(30 / fan_in)`.

    Raises:
        ValueError: If one of them is neither, or the smallest is larger than the largest.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.AutomaticRelevance().at_fan_in(30).largest_scale
    1.0

    References:
        Neal 1996, "Bayesian Learning for Neural Networks", sec. 4.3, for the idea and its name;
        Kharitonov et al. 2018, "Variational Dropout via Empirical Bayes", eq. 14, for the KL
        without bounds.
    """

    numbers = ("smallest_scale", "largest_scale")

    def __init__(
        self, smallest_scale: float | str = "fan_in", largest_scale: float | str = "fan_in"
    ):
        check = arguments.standard_deviation_or_fan_in
        self.smallest_scale = check("smallest_scale", smallest_scale)
        self.largest_scale = check("largest_scale", largest_scale)
        scales = [self.smallest_scale, self.largest_scale]
        if "fan_in" not in scales and scales[0] > scales[1]:
            raise ValueError(
                "`smallest_scale` must not be above `largest_scale`. Received: "
                f"smallest_scale={smallest_scale}, largest_scale={largest_scale}"
            )

    def at_fan_in(self, fan_in: int) -> AbstractPrior:
        smallest, largest = self.smallest_scale, self.largest_scale
        if smallest == "fan_in":
            smallest = math.sqrt(_SMALLEST_VARIANCE_TIMES_FAN_IN / fan_in)
            # A number for the other one is what was asked for.
            smallest = smallest if largest == "fan_in" else min(smallest, largest)
        if largest == "fan_in":
            largest = max(smallest, math.sqrt(_LARGEST_VARIANCE_TIMES_FAN_IN / fan_in))
        return AutomaticRelevance(smallest, largest)

    def distribution(self) -> tfd.Distribution:
        raise ValueError(
            "The scale of this prior follows the posterior, so that it is no law by itself; take "
            f"`tfbnn.priors.FanIn()` where one is needed. Received: {self}"
        )

    def get_config(self) -> dict[str, Any]:
        return {"smallest_scale": self.smallest_scale, "largest_scale": self.largest_scale}
