"""Statistics of sigma: what training has done to the posterior of one weight tensor.

Sigma is the posterior standard deviation, `weight.scale`. Two states of a weight say that nothing
was learnt about it, and each has a share among the statistics:

* at its start: sigma is within 1 % of `weight.initial_scale`;
* at the prior: sigma is within 10 % of the scale of a normal law nearest to the prior, and `loc`
  within 0.1 of these scales from its mean. Nearest means the smallest `KL(q || p)`: it is where a
  posterior goes when the data say nothing. See `nearest_normals`.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.variational import variational_layers
from tfbnn.weights import noise, priors
from tfbnn.weights.families import NormalWeight

# A `loc` of exactly zero (a bias at its start) has no finite ratio in dB.
SNR_FLOOR = -120.0

# Quantiles of more weights than this are those of a random subset of this size: with 2**20 the
# standard error of the share below a quantile is at most 0.0005.
_EXACT_QUANTILES = 2**20

_START_SHARE = 0.9
_PRIOR_SHARE = 0.9
# Some priors are there to gather the weights that are not needed: a net that works with 1 or 2 % of
# its weights is what people take them for.
_SORTED_OUT_SHARE = 0.999


def sigma_statistics(
    weight: NormalWeight, quantiles: Sequence[float] = (0.05, 0.5, 0.95)
) -> dict[str, float]:
    """Statistics of one random weight tensor; pruned weights are left out.

    Args:
        weight: A random weight, such as `layer.kernel` of a built variational layer.
        quantiles: Levels strictly between 0 and 1. Exact up to about a million weights, beyond
            that of a fixed random subset of a million.

    Returns:
        A dict of floats:

        * `weights`: how many there are.
        * `sigma_mean`, `sigma_stddev`, `sigma_min`, `sigma_max`, and `sigma_q5` for the level
          0.05 and so on.
        * `snr_db_mean`, `snr_db_q5`, ...: `20 * log10(abs(loc) / sigma)` in dB. Below -120 dB, so
          also for `loc = 0`, it counts as -120 dB.
        * `kl`: KL divergence from the prior in nats, summed.
        * `kl_is_exact`: 1 if it has a closed form, 0 if it is a Monte Carlo estimate. The estimate
          always uses the same noise, so that changes over time are not noise.
        * `share_at_start`, `share_at_prior`: shares of the weights, between 0 and 1, as defined at
          the head of this module. The second is NaN for priors without a nearest normal.

        All but the first, `kl` and `kl_is_exact` are NaN if no weight is left.

    Raises:
        TypeError: If `weight` is no random weight.
        ValueError: If the levels do not rise, or are not inside (0, 1).

    Example:

    >>> import tfbnn
    >>> family = tfbnn.families.Normal(initial_scale=0.25)
    >>> layer = tfbnn.layers.Dense(2, kernel_posterior=family)
    >>> layer.build((None, 3))
    >>> statistics = tfbnn.callbacks.sigma_statistics(layer.kernel)
    >>> [statistics[name] for name in ("weights", "sigma_q50", "share_at_start", "share_at_prior")]
    [6.0, 0.25, 1.0, 0.0]

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 5.1, for the ratio.
    """
    arguments.instance("weight", weight, NormalWeight, "a random weight, such as `layer.kernel`")
    quantiles = checked_quantiles(quantiles)
    loc, scale = _kept(weight)
    snr = _snr_db(loc, scale)
    at_start = np.abs(scale / weight.initial_scale - 1) <= 0.01
    return {
        "weights": float(scale.size),
        "sigma_mean": _or_nan(np.mean, scale),
        "sigma_stddev": _or_nan(np.std, scale),
        "sigma_min": _or_nan(np.min, scale),
        "sigma_max": _or_nan(np.max, scale),
        **_quantiles("sigma", scale, quantiles),
        "snr_db_mean": _or_nan(np.mean, snr),
        **_quantiles("snr_db", snr, quantiles),
        "kl": float(weight.kl(noise.as_seed(0))) if scale.size else 0.0,
        "kl_is_exact": float(weight.kl_is_exact),
        "share_at_start": _or_nan(np.mean, at_start),
        "share_at_prior": _share_at_prior(weight, loc, scale),
    }


def snr_decibels(weight: NormalWeight) -> np.ndarray:
    """`20 * log10(abs(loc) / scale)` of the weights that are not pruned, at least `SNR_FLOOR`."""
    return _snr_db(*_kept(weight))


def sigma_values(weight: NormalWeight) -> np.ndarray:
    """Posterior standard deviations of the weights that are not pruned, a flat array."""
    return _kept(weight)[1]


def named_layers(model: keras.Layer) -> dict[str, Any]:
    """The variational layers of a model by name; equal names of nested models get a number."""
    named: dict[str, Any] = {}
    for layer in variational_layers(model):
        name, number = layer.name, 1
        while name in named:
            number += 1
            name = f"{layer.name}_{number}"
        named[name] = layer
    return named


def named_weights(model: keras.Layer) -> dict[str, NormalWeight]:
    """The random weights of a built model by name: `<layer>/kernel`, `<layer>/bias`."""
    return {
        f"{name}/{weight.name}": weight
        for name, layer in named_layers(model).items()
        for weight in layer.variational_weights
    }


def checked_quantiles(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Levels that rise, or a `ValueError`."""
    expected = "rising numbers strictly between 0 and 1, such as (0.05, 0.5, 0.95)"
    return arguments.interpreted("quantiles", quantiles, _levels, expected)


def _levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    def level(name: str, value: Any) -> float:
        return arguments.real_number(name, value, 0, 1, exclusive=True)

    levels = tuple(arguments.listed("quantiles", quantiles, level))
    names = {quantile_name("sigma", level) for level in levels}
    if not levels or list(levels) != sorted(levels) or len(names) < len(levels):
        raise ValueError("they do not rise")
    return levels


def quantile_name(statistic: str, level: float) -> str:
    """The key of a quantile: `sigma_q5` for the level 0.05."""
    return f"{statistic}_q{100 * level:.6g}"


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


def sigma_warnings(
    weights: dict[str, NormalWeight], statistics: dict[str, dict[str, float]]
) -> list[str]:
    """What a user should know, and can do, about the weights at the end of training.

    Weights that are not trained are left out. `statistics` are `sigma_statistics` by the names of
    the weights, which the messages name.
    """
    trained = {name: w for name, w in weights.items() if w.rho_variable.trainable}
    stuck = {
        name: statistics[name]["share_at_start"]
        for name in trained
        if statistics[name]["share_at_start"] > _START_SHARE
    }
    fallen = {
        name: statistics[name]["share_at_prior"]
        for name, weight in trained.items()
        if statistics[name]["share_at_prior"] > _allowed_at_prior(weight.prior)
    }
    messages = []
    if stuck:
        messages.append(
            f"Sigma never left its start in {_list(stuck)}: it is within 1 % of the initial scale, "
            "so the uncertainty is the one you began with, not one learnt from the data. Train "
            "longer, raise the learning rate, or start with another scale: "
            "`kernel_posterior=tfbnn.families.Normal(initial_scale=...)`."
        )
    if fallen:
        messages.append(
            f"The posterior fell back to the prior in {_list(fallen)}: these weights are noise and "
            "carry nothing learnt from the data. Check that `num_examples` is the number of "
            "training examples (`tfbnn.check_elbo` shows both terms of the loss); then take fewer "
            "units or another prior, warm the KL up (`kl_schedule`), or lower `beta` in `compile`."
        )
    return messages


def _kept(weight: NormalWeight) -> tuple[np.ndarray, np.ndarray]:
    """`loc` and `scale` of the weights that are not pruned, flat."""
    loc, scale = weight.loc.numpy().ravel(), weight.scale.numpy().ravel()
    if weight.mask is None:
        return loc, scale
    kept = weight.mask.numpy().ravel() > 0
    return loc[kept], scale[kept]


def _snr_db(loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.maximum(np.abs(loc) / scale, 10 ** (SNR_FLOOR / 20)))


def _quantiles(statistic: str, values: np.ndarray, levels: Sequence[float]) -> dict[str, float]:
    names = [quantile_name(statistic, level) for level in levels]
    if not values.size:
        return dict.fromkeys(names, math.nan)
    if values.size > _EXACT_QUANTILES:
        # Not every k-th: that would be always the same units.
        values = values[np.random.default_rng(0).integers(values.size, size=_EXACT_QUANTILES)]
    return dict(zip(names, np.quantile(values, levels).tolist(), strict=True))


def _or_nan(function: Any, values: np.ndarray) -> float:
    return float(function(values)) if values.size else math.nan


def _share_at_prior(weight: NormalWeight, loc: np.ndarray, scale: np.ndarray) -> float:
    laws = nearest_normals(weight.prior)
    if not laws or not scale.size:
        return math.nan
    near = [
        (np.abs(loc - law_loc) < 0.1 * law_scale) & (np.abs(scale / law_scale - 1) <= 0.1)
        for law_loc, law_scale in laws
    ]
    return float(np.mean(np.logical_or.reduce(near)))


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


def _allowed_at_prior(prior: priors.AbstractPrior) -> float:
    sorts_out = isinstance(prior, (priors.ScaleMixture, priors.AutomaticRelevance))
    return _SORTED_OUT_SHARE if sorts_out else _PRIOR_SHARE


def _list(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} ({100 * share:.4g} % of it)" for name, share in shares.items())
