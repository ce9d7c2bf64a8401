"""Held-out noise: what a learned noise should be by rows that the network was not trained on.

With `beta` below 1 the network follows its training rows more closely than the ELBO would let it,
and a noise that is learned from the same rows is too small. On held-out rows the density

`mean_n log mean_k N(y_n; f_k(x_n), scale**2)`,  `f_k` the network of draw `k` from the posterior,

has its maximum where the noise is right for new data. It is found at the end of `fit`.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.normal import NormalNLL
from tfbnn.likelihoods.targets import matched, spread
from tfbnn.training import distribution
from tfbnn.training.convergence import ConvergenceWarning
from tfbnn.training.data_term import counted
from tfbnn.training.held_out import NUM_DRAWS, is_repeatable, of_draws
from tfbnn.training.noise_variables import learned_noise
from tfbnn.training.target_units import numbers_in_words

# A range that is cut to an eighth each time is 1 / 4096 of itself in the end.
_CUTS, _POINTS = 4, 17
# Half of the square of the noise is missing: `python benchmarks/convergence.py`.
LARGEST_FACTOR = 1.4


def refit(
    model: keras.Model, validation: Any, steps: int | None, announce: Callable[[str], None]
) -> None:
    """Set the learned noise of a model under `beta` below 1 to what fits held-out rows best.

    Under the ELBO it is left alone: there is a warning if it is much smaller than that.
    """
    losses, is_tempered = _trained_noise(model), model.objective.beta < 1
    # For a look alone nothing is taken from what can be read only once.
    if not losses or not (is_tempered or is_repeatable(validation[0])):
        return
    errors = _held_out_errors(model, losses, validation, steps)
    # All of them are found before any is set.
    found = {loss: best_scale(*e) for loss, e in zip(losses, errors, strict=True) if _is_enough(*e)}
    scales = {loss: _over_workers(model, scale) for loss, scale in found.items()}
    if is_tempered and not scales:
        announce("noise not refit: no held-out row was left to read")
    for loss, scale in scales.items():
        before = loss.constant_scale()
        if is_tempered:
            loss.assign_scale(scale.reshape(loss.rho_variable.shape))
            announce(
                f"noise refit on held-out rows: {numbers_in_words(before)} -> "
                f"{numbers_in_words(scale)}"
            )
        elif np.any(scale > LARGEST_FACTOR * np.ravel(before)):
            _warn_of_overfitting(before, scale)


def in_words(model: keras.Model, held_out: bool) -> str:
    """What the line of `fit` says of a noise that is learned under `beta` below 1."""
    if model.objective.beta >= 1:
        return ""
    words = ""
    if any(one.noise_is_predicted for one in model.likelihoods):
        words += "; the noise that the network predicts is that of the training rows"
    if _trained_noise(model) and held_out:
        words += "; the learned noise will be refit on the held-out rows"
    elif _trained_noise(model):
        words += (
            "; the learned noise is that of the training rows, too small for new ones: "
            "`validation_data` refits it"
        )
    return words


def best_scale(squares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The scale of each target under which held-out targets are most probable, `(targets,)`.

    The maxima of `sum_n count_n log mean_k N(error_nk; 0, scale**2)`, where `squares` are the
    squared errors of each draw, `(draws, rows, targets)`, and `counts` how much each target counts,
    `(rows, targets)`.
    """
    counts = counts / counts.sum(axis=0)
    nearest = squares.min(axis=0)
    beyond = squares - nearest
    # At a maximum scale**2 is a mean over rows of weighted means over draws.
    least, most = ((counts * one(squares, axis=0)).sum(axis=0) for one in (np.min, np.max))
    tiny = np.finfo(np.float32).tiny
    low, high = (0.5 * np.log(np.maximum(one, tiny)) for one in (least, most))

    def density(log_scale: np.ndarray) -> np.ndarray:
        precision = np.exp(-2 * log_scale)
        among = np.log(np.exp(-0.5 * precision * beyond).mean(axis=0))
        return (counts * (among - 0.5 * precision * nearest)).sum(axis=0) - log_scale

    for _ in range(_CUTS):
        grid = np.linspace(low, high, _POINTS)
        best = np.argmax([density(one) for one in grid], axis=0)
        low, high = (
            np.take_along_axis(grid, np.clip(best + step, 0, _POINTS - 1)[np.newaxis], axis=0)[0]
            for step in (-1, 1)
        )
    return np.exp((low + high) / 2)


def _trained_noise(model: keras.Model) -> list[NormalNLL]:
    """The noise that is learned, and not frozen."""
    return [loss for loss in learned_noise(model.likelihoods) if loss.rho_variable.trainable]


def _warn_of_overfitting(learned: Any, best: Any) -> None:
    warnings.warn(
        "The noise overfits: it is smaller than the errors at held-out rows ask for, so intervals "
        "will be too narrow. Take fewer steps or a smaller network, or `recipe='calibrated'`, "
        "which refits the noise on `validation_data`. Received: a learned scale of "
        f"{numbers_in_words(learned)}, where {numbers_in_words(best)} fits held-out rows best",
        ConvergenceWarning,
        stacklevel=5,
    )


def _is_enough(squares: np.ndarray, counts: np.ndarray) -> bool:
    return bool(len(counts)) and bool((counts.sum(axis=0) > 0).all())


def _over_workers(model: keras.Model, scale: np.ndarray) -> np.ndarray:
    return np.exp(distribution.mean_over_workers(np.log(scale), model.distribute_strategy))


def _held_out_errors(
    model: keras.Model, losses: list[NormalNLL], validation: Any, steps: int | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each loss the squared errors `(draws, rows, targets)`, and how much each counts."""
    parts: list[list[Any]] = [[] for _ in losses]
    for draws in of_draws(model, lambda *of: _errors(model, losses, *of), validation, steps):
        for part, loss, found in zip(parts, losses, zip(*draws, strict=True), strict=True):
            squares, counts = zip(*found, strict=True)
            squares = np.reshape(np.stack(squares), [NUM_DRAWS, -1, loss.num_scales])
            part.append((squares, np.reshape(counts[0], [-1, loss.num_scales])))
    nothing = np.zeros([NUM_DRAWS, 0, 1]), np.zeros([0, 1])
    return [_joined(part) if part else nothing for part in parts]


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    squares, counts = zip(*parts, strict=True)
    return np.concatenate(squares, axis=1).astype(np.float64), np.concatenate(counts)


def _errors(
    model: keras.Model, losses: list[NormalNLL], answers: Any, y: Any, sample_weight: Any
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Squared errors of one network, and how much each counts, for each of the losses."""
    found = []
    by_output = counted(model.likelihoods, y, answers, sample_weight)
    for likelihood, target, answer, factors in by_output:
        if likelihood.loss not in losses:
            continue
        loc = tf.cast(answer, tf.float32)
        square = tf.square(tf.cast(matched(target, loc.shape, tf.shape(loc)), tf.float32) - loc)
        count = tf.ones_like(square)
        for factor in factors:
            count *= tf.cast(spread(factor, square), tf.float32)
        found.append((square, count))
    return found
