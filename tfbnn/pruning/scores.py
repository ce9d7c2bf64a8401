"""Scores: how much a weight is worth, from its posterior. Higher is kept longer.

| criterion | score of a weight | of a group of weights | threshold it has by itself |
|---|---|---|---|
| `snr` | `abs(loc) / scale` | `sqrt(sum(loc**2) / sum(scale**2))` | none |
| `zero_density` | `-log(q(0))` | sum | none |
| `savage_dickey` | `log(p(0)) - log(q(0))` | sum | 0: below, the data favour zero |

The weights of a group are independent in `q` and in `p`, so log densities add up: the sum of
`savage_dickey` is what the evidence loses if the whole group is set to zero.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfbnn.weights.families import NormalWeight


def snr(weight: NormalWeight) -> tf.Tensor:
    """Signal-to-noise ratio of each weight, `abs(loc) / scale`.

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 5.1.
    """
    return tf.abs(weight.loc) / tf.maximum(weight.scale, _TINY)


def zero_density(weight: NormalWeight) -> tf.Tensor:
    """Minus the log density of the posterior at zero, `-log(q(0))`, of each weight, in nats.

    Unlike the signal-to-noise ratio it also removes weights that are small and certain.
    """
    scale = tf.maximum(weight.scale, _TINY)
    return 0.5 * tf.square(weight.loc / scale) + tf.math.log(scale) + 0.5 * math.log(2 * math.pi)


def savage_dickey(weight: NormalWeight) -> tf.Tensor:
    """Log Bayes factor against a weight of zero, `log(p(0)) - log(q(0))`, in nats.

    The Savage-Dickey density ratio: at or below 0 the posterior density at zero is at least the
    prior's, so setting the weight to zero does not lower the evidence (as far as `q` is the
    posterior). It needs no threshold of the user's.

    It is such a ratio for a normal prior, with a fixed scale, at beta 1. A prior with a spike at
    zero has a large `p(0)`, so that few weights are removed, and at beta below 1 `q` is not the
    posterior of that prior.

    Raises:
        ValueError: If the prior is no law by itself, as the default one of layers.

    Reference:
        Dickey 1971, "The Weighted Likelihood Ratio, Linear Hypotheses on Normal Location
        Parameters"; Beckers et al. 2022, "Principled Pruning of Bayesian Neural Networks through
        Variational Free Energy Minimization".
    """
    try:
        prior = weight.prior.log_prob(tf.zeros(weight.shape))
    except ValueError as error:
        raise ValueError(
            "The criterion 'savage_dickey' compares the posterior with the prior at zero; choose "
            f"'snr', or train with a prior that has a density there. {error}"
        ) from error
    return zero_density(weight) + prior


CRITERIA: dict[str, Callable[[NormalWeight], tf.Tensor]] = {
    "snr": snr,
    "zero_density": zero_density,
    "savage_dickey": savage_dickey,
}
"""The criteria by name."""


@dataclasses.dataclass(frozen=True)
class GroupScore:
    """The score of a group, from sums over its weights.

    Attributes:
        terms: The numbers that are summed, arrays of the shape of the weight, from the weight.
        of_sums: The scores, from one array of sums for each term.
    """

    terms: Callable[[NormalWeight], tuple[np.ndarray, ...]]
    of_sums: Callable[..., np.ndarray]


def _squares(weight: NormalWeight) -> tuple[np.ndarray, ...]:
    loc, scale = (part.numpy().astype(np.float64) for part in (weight.loc, weight.scale))
    return loc**2, scale**2


def _group_snr(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.sqrt(signal / np.maximum(noise, _TINY**2))


def _sum_of(score: Callable[[NormalWeight], tf.Tensor]) -> GroupScore:
    def terms(weight: NormalWeight) -> tuple[np.ndarray, ...]:
        return (score(weight).numpy().astype(np.float64),)

    return GroupScore(terms, lambda total: total)


GROUP_CRITERIA = {
    "snr": GroupScore(_squares, _group_snr),
    "zero_density": _sum_of(zero_density),
    "savage_dickey": _sum_of(savage_dickey),
}
"""The same criteria for groups; the sums leave out weights that are pruned."""

NATURAL_THRESHOLDS = {"savage_dickey": 0.0}
"""The threshold of the criteria that have one by themselves."""

# Below any posterior scale; only pruned weights, whose score does not count, come near.
_TINY = 1e-12
