"""Statistics of sigma: what training has done to the posterior of one weight tensor.

Sigma is the posterior standard deviation, `weight.scale`. Two states of a weight say that nothing
was learnt about it, and each has a share among the statistics:

* at its start: sigma is within 1 % of `weight.initial_scale`;
* at the prior: sigma is within 10 % of the scale of a normal law nearest to the prior, and `loc`
  within 0.1 of these scales from its mean. Nearest means the smallest `KL(q || p)`: it is where a
  posterior goes when the data say nothing. See `tfbnn.training.nearest_normals`.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfbnn import arguments
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.variational import variational_layers
from tfbnn.training.nearest_normals import nearest_normals
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
        * `correlation`: rank correlation (Spearman) of `abs(loc)` and sigma, from -1 to 1; NaN
          where either is the same number for all.
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
    return joint_statistics([weight], checked_quantiles(quantiles))


def joint_statistics(
    weights: Sequence[NormalWeight], quantiles: Sequence[float]
) -> dict[str, float]:
    """`sigma_statistics` of several tensors together, such as those of a layer."""
    loc, scale = map(np.concatenate, zip(*map(kept, weights), strict=True))
    snr = snr_decibels(loc, scale)
    at_start, at_prior = (_joined(share, weights) for share in (_at_start, _at_prior))
    return {
        "weights": float(scale.size),
        "sigma_mean": _or_nan(np.mean, scale),
        "sigma_stddev": _or_nan(np.std, scale),
        "sigma_min": _or_nan(np.min, scale),
        "sigma_max": _or_nan(np.max, scale),
        **_quantiles("sigma", scale, quantiles),
        "snr_db_mean": _or_nan(np.mean, snr),
        **_quantiles("snr_db", snr, quantiles),
        "correlation": _rank_correlation(np.abs(loc), scale),
        "kl": float(sum(weight.kl(noise.as_seed(0)) for weight in weights)) if scale.size else 0.0,
        "kl_is_exact": float(all(weight.kl_is_exact for weight in weights)),
        "share_at_start": _or_nan(np.mean, at_start),
        "share_at_prior": _or_nan(np.mean, at_prior),
    }


def unidentified(weights: Sequence[NormalWeight]) -> float:
    """Share of the weights of which the data have said nothing, NaN if none is left.

    Their sigma is at its start, or that of the prior within 10 %, about a mean that the prior
    gives, too, within three scales: a plain training leaves such means where they began.
    """

    def found(weight: NormalWeight) -> np.ndarray:
        # Of a prior that is each weight's own nothing is known, which is not less than it.
        return _at_start(weight) | (_at_prior(weight, 3.0) > 0)

    return _or_nan(np.mean, _joined(found, weights))


def kept(weight: NormalWeight) -> tuple[np.ndarray, np.ndarray]:
    """`loc` and `scale` of the weights that are not pruned, flat."""
    loc, scale = weight.loc.numpy().ravel(), weight.scale.numpy().ravel()
    if weight.mask is None:
        return loc, scale
    left = weight.mask.numpy().ravel() > 0
    return loc[left], scale[left]


def snr_decibels(loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`20 * log10(abs(loc) / scale)`, at least `SNR_FLOOR`."""
    return 20 * np.log10(np.maximum(np.abs(loc) / scale, 10 ** (SNR_FLOOR / 20)))


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


def named_maps(model: keras.Layer) -> dict[str, RandomMap]:
    """The random maps of a built model by name: that of the layer, and theirs if it has more."""
    return {
        name if len(layer.maps) == 1 else f"{name}/{one.name}": one
        for name, layer in named_layers(model).items()
        for one in layer.maps.values()
    }


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


def _joined(found: Any, weights: Sequence[NormalWeight]) -> np.ndarray:
    return np.concatenate([found(weight) for weight in weights])


def _quantiles(statistic: str, values: np.ndarray, levels: Sequence[float]) -> dict[str, float]:
    names = [quantile_name(statistic, level) for level in levels]
    if not values.size:
        return dict.fromkeys(names, math.nan)
    return dict(zip(names, np.quantile(_some(values), levels).tolist(), strict=True))


def _some(values: np.ndarray) -> np.ndarray:
    """All values, or of more than `_EXACT_QUANTILES` random ones, always the same places."""
    if values.size <= _EXACT_QUANTILES:
        return values
    # Not every k-th: that would be always the same units.
    return values[np.random.default_rng(0).integers(values.size, size=_EXACT_QUANTILES)]


def _rank_correlation(values: np.ndarray, others: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks, which of equal numbers are their mean."""
    ranks = []
    for one in map(_some, (values, others)):
        _, places, counts = np.unique(one, return_inverse=True, return_counts=True)
        if len(counts) < 2:
            return math.nan
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[places])
    return float(np.corrcoef(ranks)[0, 1])


def _or_nan(function: Any, values: np.ndarray) -> float:
    return float(function(values)) if values.size else math.nan


def _at_start(weight: NormalWeight) -> np.ndarray:
    """Whether sigma is at its start, of each weight that is not pruned."""
    return np.abs(kept(weight)[1] / weight.initial_scale - 1) <= 0.01


def _at_prior(weight: NormalWeight, distance: float = 0.1) -> np.ndarray:
    """1 of each weight that is at the prior, its `loc` within so many scales, 0 of others.

    NaN where no nearest normal is known.
    """
    (loc, scale), laws = kept(weight), nearest_normals(weight.prior)
    if not laws:
        return np.full(scale.size, math.nan)
    near = [
        (np.abs(loc - law_loc) < distance * law_scale) & (np.abs(scale / law_scale - 1) <= 0.1)
        for law_loc, law_scale in laws
    ]
    return np.logical_or.reduce(near).astype(float)


def _allowed_at_prior(prior: priors.AbstractPrior) -> float:
    sorts_out = isinstance(prior, (priors.ScaleMixture, priors.AutomaticRelevance))
    return _SORTED_OUT_SHARE if sorts_out else _PRIOR_SHARE


def _list(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} ({100 * share:.4g} % of it)" for name, share in shares.items())
