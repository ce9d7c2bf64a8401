"""Convergence: has training come to what the objective wants, or did it end on the way?

What the last steps of a `fit` say, in words; see `tfbnn.training.last_steps` for the statistics.
"""

import math
import warnings
from typing import Any

from tfbnn.training.last_steps import LastSteps

# Of what the KL alone pulls, and a ratio of variances: `python benchmarks/convergence.py`.
LARGEST_PULL = 0.3
LARGEST_NOISE_RATIO = 2.0


class ConvergenceWarning(UserWarning):
    """Training, or drawing by chains, ended before the posterior was what was asked for."""


REMEDY = (
    "Train for more steps. Without a recipe, `compile(recipe=...)` sets a learning rate and steps "
    "of rho that get there sooner."
)
_START_LOWER = " Or start it lower, by `kernel_posterior=tfbnn.families.Normal(initial_scale=...)`."


def warn(steps: LastSteps) -> None:
    """Say so if what `fit` leaves is not what the objective wants."""
    for message in (_of_means(*steps.gain()), _of_sigma(*steps.mean_pull()), _of_noise(steps)):
        if message:
            # Of the caller of `fit`, which ends its run.
            warnings.warn(message, ConvergenceWarning, stacklevel=4)


def last_steps_of(model: Any) -> LastSteps | None:
    """What the last `fit` of a model saw, if it is one of tfbnn's and has been fitted."""
    return getattr(getattr(model, "objective", None), "last_steps", None)


def has_not_trained(pull: float, error: float) -> bool:
    """Whether a pull with this standard error is too large; not so if it is not known."""
    return abs(pull) > LARGEST_PULL + 2 * error


def noise_is_off(ratio: float, error: float) -> bool:
    """Whether a `noise_ratio` with this standard error is too far from 1; not if not known."""
    # Below 1 the scale is larger than the errors.
    least = ratio - 2 * error if ratio > 1 else 1 / (ratio + 2 * error)
    return least > LARGEST_NOISE_RATIO


def in_words(pull: float) -> str:
    """What sigma does under a pull."""
    return "it still grows" if pull > 0 else "it is still too large and shrinks"


def _of_sigma(pull: float, error: float) -> str:
    if not has_not_trained(pull, error):
        return ""
    return (
        f"Sigma has not trained: {in_words(pull)} where training ended, so the uncertainty is that "
        f"of the start more than that of the data. {REMEDY}{_START_LOWER if pull < 0 else ''} "
        f"Received: a pull of {pull:.2f}, where 1 is that of the KL alone and 0 is converged"
    )


def _of_means(gain: float, error: float) -> str:
    if not gain <= 2 * error:
        return ""
    return (
        "Nothing was learnt: the networks drawn from the posterior predict targets no better from "
        "their own inputs than from those of other rows. Either the posterior fell back to the "
        "prior (lower `beta`, as `recipe='calibrated'` does, or warm the KL up), or the means have "
        "not trained (more steps, another learning rate), or the inputs say nothing of the "
        "targets, or batches hold rows that are alike (shuffle them). "
        f"Received: a gain of {gain:.3g} +- {error:.1g} nats per example"
    )


def _of_noise(steps: LastSteps) -> str:
    ratio, error = steps.noise_ratio()
    if not noise_is_off(ratio, error):
        return ""
    return (
        "The noise has not trained: the errors of the networks are "
        f"{math.sqrt(ratio):.2g} times its scale. Train for more steps, or start it nearer: "
        "`NormalNLL(initial_scale=...)`. Received: a learned scale of which the mean square of the "
        f"errors is {ratio:.2g} times the square"
    )
