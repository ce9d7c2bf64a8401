"""The prior precision by what drawn networks say of rows: held-out ones, or those learnt from."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.keras_internals import mask_of, put_mask
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.laplace.fitting import Fitted
from tfbnn.posterior.point import MAP
from tfbnn.training.data_term import log_probs
from tfbnn.weights import noise

# The same ones for each precision, so that only that makes a difference.
_NUM_DRAWS, _SEED = 32, 0
# By how many tenfolds a precision is changed, from large steps to small ones.
_STEPS = (1.0, 0.5, 0.25)
# What a step has to gain, as a share of the NLL.
_GAIN = 1e-3
# From any start to the other end of what is possible.
_MOST_STEPS = 15
# By how much drawn networks may fit worse than the approximation says: a share of that, and nats.
_MORE_THAN_SAID, _NATS = 1.25, 2.0


def predict_best(posterior: Any, held_out: Sequence[tuple[Any, ...]]) -> None:
    """Take the prior precision with the smallest NLL that steps of falling size come to.

    Args:
        posterior: A posterior by Laplace's approximation; its prior precision is the start.
        held_out: Batches `(x, y)`.
    """
    start = np.asarray(posterior.prior_precisions)

    @functools.cache
    def at(exponent: float) -> float:
        posterior.prior_precisions = 10.0**exponent * start
        by_row = np.logaddexp.reduce(_log_probs(posterior, held_out), axis=0)
        nll = float(np.log(_NUM_DRAWS) - by_row.mean())
        return nll if np.isfinite(nll) else np.inf

    best = 0.0
    for step in _STEPS:
        for _ in range(_MOST_STEPS):
            nearby = min((best - step, best + step), key=at)
            # A precision that grows for ever says that no uncertainty helps: it is not followed.
            if not at(nearby) < (1 - _GAIN) * at(best):
                break
            best = nearby
    posterior.prior_precisions = 10.0**best * start


def fit_as_said(posterior: Any, fitted: Fitted) -> None:
    """Raise the prior precisions until drawn networks fit the training data as well as is said.

    A network loses half a nat of the log likelihood for each weight that the data determine. Where
    training has gone beyond a mode under any prior, as it does where all rows are classified with
    certainty, the curvature is nearly zero and says nothing of what is further away, and drawn
    networks lose more. The approximation is then believed only as far as it holds.

    Args:
        posterior: A posterior by Laplace's approximation; its prior precisions are the start.
        fitted: What it was made from.
    """
    start, rows = np.asarray(posterior.prior_precisions), fitted.some_rows
    at_mode = _log_probs(MAP(posterior.model), rows, 1).mean()

    def holds(exponent: float) -> bool:
        posterior.prior_precisions = 10.0**exponent * start
        lost = fitted.num_rows * (at_mode - _log_probs(posterior, rows).mean())
        said = 0.5 * posterior.temperature * posterior.effective_weights
        # Also of NaN.
        return bool(lost <= _MORE_THAN_SAID * said + _NATS)

    found, first = 0.0, _STEPS[0]
    while not holds(found) and found < _MOST_STEPS * first:
        found += first
    if found > 0:
        for step in _STEPS[1:]:
            found -= step * holds(found - step)
    posterior.prior_precisions = 10.0**found * start


def _log_probs(
    posterior: AbstractPosterior,
    rows: Sequence[tuple[Any, ...]],
    count: int = _NUM_DRAWS,
) -> np.ndarray:
    """`log p(y | x, w)` for each draw and row, `(draws, rows)`."""
    draws = posterior.draws(noise.as_seed(_SEED), 0, count)
    found = []
    for batch in rows:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        by_output = map(_by_draw, tf.nest.flatten(posterior.outputs(draws, x)))
        found.append(
            [
                tf.add_n(list(log_probs(posterior.likelihoods, y, list(one), sample_weight)))
                for one in zip(*by_output, strict=True)
            ]
        )
    return np.concatenate([np.asarray(one, np.float64) for one in found], axis=1)


def _by_draw(outputs: tf.Tensor) -> list[tf.Tensor]:
    """The outputs of each network, with their masks."""
    found, mask = tf.unstack(outputs), mask_of(outputs)
    for number, one in enumerate(found):
        put_mask(one, None if mask is None else mask[number])
    return found
