"""Scores: how much a weight is worth, from its posterior. Higher is kept longer.

| criterion | score | threshold it has by itself |
|---|---|---|
| `snr` | `abs(loc) / scale` | none |
| `zero_density` | `-log(q(0))` | none |
| `savage_dickey` | `log(p(0)) - log(q(0))` | 0: below, the data favour a weight of zero |
"""

import math
from collections.abc import Callable

import tensorflow as tf

from tfbnn.weights.families import NormalWeight


def snr(weight: NormalWeight) -> tf.Tensor:
    """Signal-to-noise ratio of each weight, `abs(loc) / scale`.

    Args:
        weight: A random weight.

    Returns:
        A float32 tensor of the shape of the weight.

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 5.1.
    """
    return tf.abs(weight.loc) / tf.maximum(weight.scale, _TINY)


def zero_density(weight: NormalWeight) -> tf.Tensor:
    """Minus the log density of the posterior at zero, `-log(q(0))`, in nats.

    Unlike the signal-to-noise ratio it also removes weights that are small and certain.

    Args:
        weight: A random weight.

    Returns:
        A float32 tensor of the shape of the weight.
    """
    scale = tf.maximum(weight.scale, _TINY)
    return 0.5 * tf.square(weight.loc / scale) + tf.math.log(scale) + 0.5 * math.log(2 * math.pi)


def savage_dickey(weight: NormalWeight) -> tf.Tensor:
    """Log Bayes factor against a weight of zero, `log(p(0)) - log(q(0))`, in nats.

    The Savage-Dickey density ratio: at or below 0 the posterior density at zero is at least the
    prior's, so setting the weight to zero does not lower the evidence (as far as `q` is the
    posterior). It needs no threshold of the user's.

    Args:
        weight: A random weight.

    Returns:
        A float32 tensor of the shape of the weight.

    Reference:
        Dickey 1971, "The Weighted Likelihood Ratio, Linear Hypotheses on Normal Location
        Parameters"; Beckers et al. 2022, "Principled Pruning of Bayesian Neural Networks through
        Variational Free Energy Minimization".
    """
    return zero_density(weight) + weight.prior.log_prob(tf.zeros(weight.shape))


CRITERIA: dict[str, Callable[[NormalWeight], tf.Tensor]] = {
    "snr": snr,
    "zero_density": zero_density,
    "savage_dickey": savage_dickey,
}
"""The criteria by name."""

NATURAL_THRESHOLDS = {"savage_dickey": 0.0}
"""The threshold of the criteria that have one by themselves."""

# Below any posterior scale; only pruned weights, whose score does not count, come near.
_TINY = 1e-12
