"""How sure are predicted real numbers? Pure functions of posterior draws.

Axis 0 is always the draw: one network from the posterior, applied to the whole batch. Each draw is
a normal with mean `loc` of shape `(num_samples, batch, ..., outputs)` and standard deviation
`scale`, which broadcasts to it; results have shape `(batch, ..., outputs)`.

| function | question | unit |
|---|---|---|
| `aleatoric_variance` | how much of the spread is noise in the targets? | target**2 |
| `epistemic_variance` | how much would more data remove? | target**2 |
| `total_standard_deviation` | how unsure in all? | target |
| `mixture_quantile`, `credible_interval` | where does the target lie? | target |
| `sample_quantile` | where do the draws of anything lie? | its own |

Everything is computed in float64. A single draw (`num_samples=1`) is allowed: its epistemic parts
are zero.
"""

import numpy as np
from numpy.typing import ArrayLike

from tfbnn import arguments
from tfbnn.scores.arrays import finite_array

# Position of a quantile, in units of the narrowest component: 1000 times below the promised 1e-6.
_ROOT_TOLERANCE = 1e-9
# Bisection alone shrinks a bracket by 2**200 (1e60); float64 is exhausted long before.
_ROOT_STEPS = 200


def sample_quantile(samples: ArrayLike, q: float) -> np.ndarray:
    """Quantile over the draws, of class probabilities or of any other quantity.

    Linear interpolation between order statistics, as `numpy.quantile`. For the quantile of a target
    with noise use `mixture_quantile`.

    Args:
        samples: Shape `(num_samples, batch, ...)`.
        q: Level, between 0 and 1, both included.

    Returns:
        Quantile in the unit of `samples`, float64, shape `(batch, ...)`.

    Raises:
        ValueError: If `samples` are not finite or `q` is not a number from 0 to 1.

    Example:

    >>> from tfbnn.scores import number_uncertainty
    >>> number_uncertainty.sample_quantile([[1.0], [2.0], [4.0]], q=0.5).tolist()
    [2.0]
    """
    q = arguments.real_number("q", q, 0, 1, single=False)
    return np.quantile(finite_array("samples", samples, min_rank=1), q, axis=0)


def epistemic_variance(loc: ArrayLike) -> np.ndarray:
    """Variance of the mean over the draws: what more data would remove.

    `var(loc, axis=draws)`, not the unbiased estimate: the variance of the mixture of these draws.

    Args:
        loc: Means, shape `(num_samples, batch, ..., outputs)`.

    Returns:
        Variance in the square of the target's unit, float64, shape `(batch, ..., outputs)`.

    Raises:
        ValueError: If `loc` is not finite.

    Example:

    >>> from tfbnn.scores import number_uncertainty
    >>> number_uncertainty.epistemic_variance([[[1.0]], [[3.0]]]).tolist()
    [[1.0]]

    Reference:
        Depeweg et al. 2018, the variance decomposition.
    """
    return finite_array("loc", loc, min_rank=2).var(axis=0)


def aleatoric_variance(loc: ArrayLike, scale: ArrayLike) -> np.ndarray:
    """Mean variance of the noise over the draws: what no amount of data removes.

    `mean(scale**2, axis=draws)`.

    Args:
        loc: Means, shape `(num_samples, batch, ..., outputs)`; only the shape is used.
        scale: Standard deviations, not negative; any shape that broadcasts to that of `loc`.

    Returns:
        Variance in the square of the target's unit, float64, shape `(batch, ..., outputs)`.

    Raises:
        ValueError: If `loc` or `scale` is not finite, or their shapes do not fit.

    Example:

    >>> from tfbnn.scores import number_uncertainty
    >>> number_uncertainty.aleatoric_variance([[[1.0]], [[3.0]]], scale=[[[1.0]], [[2.0]]]).tolist()
    [[2.5]]

    Reference:
        Depeweg et al. 2018, the variance decomposition.
    """
    _, checked_scale = checked_normals(loc, scale)
    return np.square(checked_scale).mean(axis=0)


def total_standard_deviation(loc: ArrayLike, scale: ArrayLike) -> np.ndarray:
    """Standard deviation of the predictive distribution, by the law of total variance.

    `sqrt(var(loc) + mean(scale**2))`, over draws: epistemic plus aleatoric.

    Args:
        loc: Means, shape `(num_samples, batch, ..., outputs)`.
        scale: Standard deviations, not negative; any shape that broadcasts to that of `loc`.

    Returns:
        Standard deviation in the target's unit, float64, shape `(batch, ..., outputs)`.

    Raises:
        ValueError: If `loc` or `scale` is not finite, or their shapes do not fit.

    Example:

    >>> from tfbnn.scores import number_uncertainty
    >>> number_uncertainty.total_standard_deviation([[[-4.0]], [[4.0]]], scale=3.0).tolist()
    [[5.0]]

    Reference:
        Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using
        Deep Ensembles", sec. 2.4 (the variance of the mixture).
    """
    return np.sqrt(epistemic_variance(loc) + aleatoric_variance(loc, scale))


def mixture_quantile(loc: ArrayLike, scale: ArrayLike, q: float) -> np.ndarray:
    """Quantile of the predictive distribution, an equal mixture of one normal per draw.

    The root x of `mean(cdf((x - loc) / scale), axis=draws) = q`, exact to 1e-6 of the narrowest
    draw's standard deviation, as far as float64 can tell: between modes more than about 15 standard
    deviations apart the mixture is flat, and any point of the flat part may be returned.

    Args:
        loc: Means, shape `(num_samples, batch, ..., outputs)`.
        scale: Standard deviations, positive; any shape that broadcasts to that of `loc`.
        q: Level, between 0 and 1, both excluded.

    Returns:
        Quantile in the target's unit, float64, shape `(batch, ..., outputs)`.

    Raises:
        ValueError: If `loc` is not finite, `scale` not positive, or `q` not inside (0, 1).

    Example:

    >>> from tfbnn.scores import number_uncertainty
    >>> number_uncertainty.mixture_quantile([[[5.0]]], scale=2.0, q=0.975).round(2).tolist()
    [[8.92]]
    >>> number_uncertainty.mixture_quantile([[[0.0]], [[1.0]]], scale=1.0, q=0.5).round(6).tolist()
    [[0.5]]

    Reference:
        Chandrupatla 1997, "A new hybrid quadratic/bisection algorithm for finding the zero of a
        nonlinear function without using derivatives" (the root search).
    """
    q = arguments.probability("q", q)
    checked_loc, checked_scale = checked_normals(loc, scale)
    if not (checked_scale > 0).all():
        raise ValueError(
            "`scale` must be positive; for draws without noise use `sample_quantile`. "
            f"Received: smallest scale={checked_scale.min()}"
        )
    # Mirrored above the median: a CDF near 1 has no digits left, its complement has all of them.
    if q > 0.5:
        return 0.0 - _lower_quantile(-checked_loc, checked_scale, 1.0 - q)
    return _lower_quantile(checked_loc, checked_scale, q)


def credible_interval(
    loc: ArrayLike, scale: ArrayLike, mass: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Central interval that holds the target with probability `mass`.

    The quantiles `(1 - mass) / 2` and `(1 + mass) / 2` of the equal mixture of one normal per draw.

    Args:
        loc, scale: As in `mixture_quantile`.
        mass: Probability, between 0 and 1, both excluded.

    Returns:
        Lower and upper ends in the target's unit, float64, each `(batch, ..., outputs)`.

    Raises:
        ValueError: If `loc` is not finite, `scale` not positive, or `mass` not inside (0, 1).

    Example:

    >>> from tfbnn.scores import number_uncertainty
    >>> lower, upper = number_uncertainty.credible_interval([[[0.0]]], scale=1.0)
    >>> lower.round(2).tolist(), upper.round(2).tolist()
    ([[-1.96]], [[1.96]])
    """
    mass = arguments.probability("mass", mass)
    tail = 0.5 * (1.0 - mass)
    loc = finite_array("loc", loc, min_rank=2)
    # Mirrored: 1 - tail would round a small tail away.
    upper = 0.0 - mixture_quantile(-loc, scale, tail)
    return mixture_quantile(loc, scale, tail), upper


def checked_normals(loc: ArrayLike, scale: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """`loc` and `scale` in float64 and in the shape of `loc`, or an error."""
    checked_loc = finite_array("loc", loc, min_rank=2)
    checked_scale = finite_array("scale", scale, min_rank=0)
    if checked_scale.min() < 0:
        raise ValueError(
            "`scale` is a standard deviation and must not be negative; is it a logarithm? "
            f"Received: smallest scale={checked_scale.min():.6g}"
        )
    try:
        return checked_loc, np.broadcast_to(checked_scale, checked_loc.shape)
    except ValueError:
        raise ValueError(
            "`scale` must broadcast to the shape of `loc`. "
            f"Received: loc shape={checked_loc.shape}, scale shape={checked_scale.shape}"
        ) from None


def _lower_quantile(loc: np.ndarray, scale: np.ndarray, q: float) -> np.ndarray:
    """The quantile `q <= 1/2` of the equal mixture over axis 0, by a bracketed root search."""
    # Here and not above: the rest of this file needs NumPy only.
    import tensorflow_probability as tfp

    components = tfp.distributions.Normal(loc, scale)
    # The mixture's CDF is a mean of the components', so its quantile lies between theirs.
    quantiles = components.quantile(np.float64(q)).numpy()
    search = tfp.math.find_root_chandrupatla(
        # Logarithms keep far tails, where the CDF is flat, within reach of the interpolation.
        lambda x: tfp.math.reduce_logmeanexp(components.log_cdf(x), axis=0) - np.log(q),
        low=quantiles.min(axis=0),
        high=quantiles.max(axis=0),
        position_tolerance=_ROOT_TOLERANCE * scale.min(axis=0),
        max_iterations=_ROOT_STEPS,
    )
    return search.estimated_root.numpy()
