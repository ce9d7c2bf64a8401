"""Laws of weights, and their divergences, by formulas of our own in float64."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow_probability as tfp
from scipy import special, stats

from tfbnn import priors

tfd = tfp.distributions
LogDensity = Callable[[np.ndarray], np.ndarray]
# The integral goes over so many standard deviations to each side; beyond is less than 1e-18.
_REACH = 9.0
# By the trapezoidal rule, which is good to 1e-5 where a density has a corner.
_POINTS = 2001


def random_prior(random: np.random.Generator) -> Any:
    """A prior of any kind, with random parameters."""
    return _MAKERS[random.integers(len(_MAKERS))](random)


def log_density(prior: Any, loc: float = 0.0, scale: float = 0.0) -> LogDensity:
    """`log(p(w))` of one of our random priors, by SciPy.

    Args:
        prior: The prior, of a layer that is built.
        loc: Mean of the weight, which the prior may follow.
        scale: Standard deviation of the weight.
    """
    config = prior.get_config()
    if isinstance(prior, priors.AutomaticRelevance):
        nearest = np.clip(math.hypot(loc, scale), prior.smallest_scale, prior.largest_scale)
        return stats.norm(0.0, nearest).logpdf
    if isinstance(prior, priors.ScaleMixture):
        return _of_mixture(config["pi"], (0.0, 0.0), (config["sigma1"], config["sigma2"]))
    if isinstance(prior, priors.Distribution):
        law = config["distribution"]
        parameters = law["parameters"]
        if law["type"] == "Logistic":
            return stats.logistic(parameters["loc"], parameters["scale"]).logpdf
        pi = parameters["mixture_distribution"]["parameters"]["probs"][0]
        parts = parameters["components_distribution"]["parameters"]
        return _of_mixture(pi, parts["loc"], parts["scale"])
    names = {"Normal": "norm", "Laplace": "laplace", "StudentT": "t", "Cauchy": "cauchy"}
    law = getattr(stats, names[type(prior).__name__])
    return law(**config).logpdf


def _of_mixture(pi: float, locs: Sequence[float], scales: Sequence[float]) -> LogDensity:
    def log_density(w: np.ndarray) -> np.ndarray:
        first = np.log(pi) + stats.norm.logpdf(w, locs[0], scales[0])
        return np.logaddexp(first, np.log1p(-pi) + stats.norm.logpdf(w, locs[1], scales[1]))

    return log_density


def _mixture(random: np.random.Generator) -> Any:
    narrow = _rounded(float(np.exp(random.uniform(-7, -2))))
    return priors.ScaleMixture(_share(random), _scale(random), narrow)


def _student(random: np.random.Generator) -> Any:
    return priors.StudentT(_rounded(random.uniform(1.5, 20)), _loc(random), _scale(random))


def _distribution_mixture(random: np.random.Generator) -> Any:
    pi = _share(random)
    return priors.Distribution(
        tfd.MixtureSameFamily(
            tfd.Categorical(probs=[pi, 1 - pi]),
            tfd.Normal([_loc(random), _loc(random)], [_scale(random), _scale(random)]),
        )
    )


_MAKERS = (
    lambda random: priors.Normal(_loc(random), _scale(random)),
    lambda random: priors.Normal(_loc(random), _scale(random)),
    lambda random: priors.Laplace(_loc(random), _scale(random)),
    lambda random: priors.Cauchy(_loc(random), _scale(random)),
    lambda random: priors.Distribution(tfd.Logistic(_loc(random), _scale(random))),
    _student,
    _mixture,
    _mixture,
    _distribution_mixture,
    lambda random: priors.FanIn(_rounded(float(np.exp(random.uniform(-1, 3))))),
    lambda random: priors.AutomaticRelevance(),
    lambda random: priors.AutomaticRelevance(),
    lambda random: priors.AutomaticRelevance(_scale(random)),
)


def _share(random: np.random.Generator) -> float:
    return _rounded(random.uniform(0.1, 0.9))


def _loc(random: np.random.Generator) -> float:
    return 0.0 if random.random() < 0.7 else _rounded(random.normal(0, 0.3))


def _scale(random: np.random.Generator) -> float:
    return _rounded(float(np.exp(random.uniform(-3, 1.5))))


def _rounded(number: float) -> float:
    """A number that float32 has too: the package's densities and ours get the same one."""
    return float(np.float32(number))


def expected_kl(loc: np.ndarray, scale: np.ndarray, prior: Any) -> float:
    """`KL(q || p)` summed over weights, by quadrature: `sum(E_q[log(q) - log(p)])`.

    Args:
        loc: Means, any shape.
        scale: Standard deviations, positive.
        prior: As in `log_density`.
    """
    z = np.linspace(-_REACH, _REACH, _POINTS)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    total = 0.0
    for m, s in zip(loc.ravel(), scale.ravel(), strict=True):
        total -= float(density @ log_density(prior, m, s)(m + s * z))
    return total - entropy(scale)


def kl_at(draw: np.ndarray, scale: np.ndarray, prior: Any) -> float:
    """The estimate of the KL at one draw, with the entropy of `q` known: `-H(q) - log(p(w))`."""
    return -entropy(scale) - float(np.sum(log_density(prior)(draw)))


def entropy(scale: np.ndarray) -> float:
    """Of independent normals, in nats."""
    return float(np.sum(np.log(scale) + 0.5 * np.log(2 * np.pi * np.e)))


def softplus(x: np.ndarray) -> np.ndarray:
    return special.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)
