"""Scores of predicted real numbers against targets.

| function | what | unit, range | best |
|---|---|---|---|
| `normal_negative_log_likelihood` | proper score of one normal per draw | nats, any | lowest |
| `root_mean_squared_error` | error of the mean prediction | the target's | 0 |
| `interval_coverage` | share of targets inside their intervals | share, 0 to 1 | the mass |

Compare models by the likelihood: a coverage equal to the mass is reached by wide intervals that
know nothing about the inputs, too.

`weights` say how much each target counts: 0 for a masked step.
"""

import numpy as np
from numpy.typing import ArrayLike

from tfbnn.scores.arrays import as_shape, finite_array, flat_weights
from tfbnn.scores.number_uncertainty import checked_normals


def normal_negative_log_likelihood(
    loc: ArrayLike, scale: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Negative log density of the targets under mixtures of one normal per draw.

    `-sum(weight * log(mean(normal(y; loc, scale), axis=draws))) / batch`, in log space, summed over
    all targets: each is judged by its own predictive distribution, the one `tfbnn.predict` tells.

    Args:
        loc: Means, shape `(num_samples, batch, ..., outputs)`.
        scale: Standard deviations, positive; any shape that broadcasts to that of `loc`.
        targets: Shape `(batch, ..., outputs)`; `(batch, ...)` will do for one output.
        weights: How much each target counts, at least 0, in the shape of `targets`; None: alike.

    Returns:
        Nats per example; a density has a unit, so it may be negative and depends on the target's.

    Raises:
        ValueError: If the inputs are empty, not finite or do not fit, or `scale` is not positive.

    Example:

    >>> from tfbnn.scores import number_scores
    >>> round(number_scores.normal_negative_log_likelihood([[[0.0]]], 1.0, [[0.0]]), 4)
    0.9189

    Reference:
        Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation", sec. 4 (the predictive
        log-likelihood by log-sum-exp over draws).
    """
    checked_loc, checked_scale = checked_normals(loc, scale)
    if not (checked_scale > 0).all():
        raise ValueError(
            "`scale` must be positive; without noise there is no density. "
            f"Received: smallest scale={checked_scale.min()}"
        )
    residuals = (as_shape("targets", targets, checked_loc.shape[1:]) - checked_loc) / checked_scale
    log_density = -0.5 * np.square(residuals) - np.log(checked_scale) - 0.5 * np.log(2.0 * np.pi)
    nll = np.log(len(checked_loc)) - np.logaddexp.reduce(log_density, axis=0)
    return float(np.sum(flat_weights(weights, targets) * nll.reshape(-1)) / len(nll))


def root_mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Root mean squared error, `sqrt(mean((prediction - target)**2))`, over all outputs.

    Args:
        predictions: Mean over draws, shape `(batch, ..., outputs)`.
        targets: Shape `(batch, ..., outputs)`; `(batch, ...)` will do for one output.
        weights: How much each target counts, at least 0, in the shape of `targets`; None: alike.

    Returns:
        Error in the target's unit.

    Raises:
        ValueError: If the inputs are empty, not finite or do not fit.

    Example:

    >>> from tfbnn.scores import number_scores
    >>> number_scores.root_mean_squared_error([[0.0], [0.0]], [[3.0], [3.0]])
    3.0
    """
    checked = finite_array("predictions", predictions, min_rank=1)
    residuals = checked - as_shape("targets", targets, checked.shape)
    squares = np.square(residuals).reshape(-1)
    return float(np.sqrt(np.average(squares, weights=flat_weights(weights, targets))))


def interval_coverage(
    lower: ArrayLike, upper: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Share of the targets inside their intervals, `mean((lower <= y) & (y <= upper))`.

    A calibrated `credible_interval` of mass 0.95 covers 0.95 of held-out targets.

    Args:
        lower: Lower ends, shape `(batch, ..., outputs)`.
        upper: Upper ends, the same shape, nowhere below `lower`.
        targets: Shape `(batch, ..., outputs)`; `(batch, ...)` will do for one output.
        weights: How much each target counts, at least 0, in the shape of `targets`; None: alike.

    Returns:
        Share, from 0 to 1.

    Raises:
        ValueError: If the inputs are empty, not finite or do not fit, or `upper` is below `lower`.

    Example:

    >>> from tfbnn.scores import number_scores
    >>> number_scores.interval_coverage([0.0, 0.0], [1.0, 1.0], [0.5, 2.0])
    0.5
    """
    checked_lower = finite_array("lower", lower, min_rank=1)
    checked_upper = as_shape("upper", upper, checked_lower.shape)
    checked_targets = as_shape("targets", targets, checked_lower.shape)
    if (checked_upper < checked_lower).any():
        raise ValueError(
            "`upper` must not be below `lower`; are they swapped? "
            f"Received: smallest upper - lower={(checked_upper - checked_lower).min():.6g}"
        )
    inside = (checked_lower <= checked_targets) & (checked_targets <= checked_upper)
    return float(np.average(inside.reshape(-1), weights=flat_weights(weights, targets)))
