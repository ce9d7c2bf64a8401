"""Laws: what is said of one weight tensor before its shape is known."""

import dataclasses
from collections.abc import Callable
from typing import Any

from tfbnn.weights.families import Normal, Point, Weight, WeightSpecification
from tfbnn.weights.priors import AbstractPrior, AutomaticRelevance


@dataclasses.dataclass(frozen=True)
class WeightLaw:
    """The laws of a weight before and after the data, and how its variables begin.

    Attributes:
        prior: `p(w)`.
        posterior: The family of `q(w)`.
        initializer: Of the mean: a name, or an object that no other weight has.
        constraint: Of the mean, or None.
        regularizer: Of a point weight, or None.
    """

    prior: AbstractPrior = AutomaticRelevance()
    posterior: Normal | Point = Normal()
    initializer: Any = "glorot_uniform"
    constraint: Any = None
    regularizer: Any = None

    def build(
        self,
        add_weight: Callable[..., Any],
        name: str,
        shape: tuple[int, ...],
        fan_in: int,
        masked: bool = False,
    ) -> Weight:
        """Make the variables with the layer's `add_weight`."""
        laws = self.initializer, self.prior, self.constraint, self.regularizer
        return self.posterior.build(
            add_weight, WeightSpecification(name, shape, fan_in, *laws, masked)
        )
