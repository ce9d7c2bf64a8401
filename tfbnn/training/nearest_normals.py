"""The normal laws that a posterior falls back to when the data say nothing."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.weights import priors


@functools.singledispatch
def nearest_normals(prior: priors.AbstractPrior) -> list[tuple[float, float]]:
    """Normal laws `(loc, scale)` that a posterior falls back to when the data say nothing.

    `Normal`: the prior itself. `ScaleMixture`: each of its components. `AutomaticRelevance`: the
    one with the smallest scale. Any other prior: the normal law around its mean (its mode, if it
    has no mean) with the smallest `KL(q || p)`. For a Laplace prior that is
    `sqrt(pi / 2) * prior.scale`, 11 % below the prior's standard deviation; a Cauchy prior has one
    too. None if each weight has a prior of its own.
    """
    distribution = prior.distribution()
    if distribution.batch_shape.rank != 0:
        return []
    return [_nearest_normal(prior)]


@nearest_normals.register
def _(prior: priors.Normal) -> list[tuple[float, float]]:
    return [(prior.loc, prior.scale)]


@nearest_normals.register
def _(prior: priors.ScaleMixture) -> list[tuple[float, float]]:
    return [(0.0, prior.sigma1), (0.0, prior.sigma2)]


@nearest_normals.register
def _(prior: priors.AutomaticRelevance) -> list[tuple[float, float]]:
    return [(0.0, prior.smallest_scale)]


@functools.lru_cache(maxsize=64)
def _nearest_normal(prior: priors.AbstractPrior) -> tuple[float, float]:
    """The normal law around the prior's mean or mode with the smallest KL, its scale to 1 %.

    `KL = -log(s) - E[log(p(loc + s * z))] + constant`, the expectation by Gauss-Hermite quadrature.
    """
    distribution = prior.distribution()
    loc = float(_mean_or_mode(distribution))
    nodes, shares = np.polynomial.hermite_e.hermegauss(64)
    scales = np.geomspace(1e-6, 1e6, 2801)  # in steps of 1 %
    log_prob = prior.log_prob(tf.constant(loc + scales[:, None] * nodes)).numpy()
    kl = -np.log(scales) - log_prob @ (shares / shares.sum())
    return loc, float(scales[np.nanargmin(kl)])


def _mean_or_mode(distribution: Any) -> tf.Tensor:
    try:
        mean = distribution.mean()
        return mean if np.isfinite(mean) else distribution.mode()
    except NotImplementedError:
        return distribution.mode()
