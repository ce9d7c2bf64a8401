"""The prior precision by what drawn networks say of rows: held-out ones, or those learnt from."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.keras_internals import mask_of, put_mask
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.training.data_term import log_probs
from tfbnn.weights import noise

_NUM_DRAWS = 32
# Factors by which a precision is changed, from large steps to small ones.
_FACTORS = (10.0, 10.0**0.5, 10.0**0.25)
# What a step has to gain, as a share of the NLL.
_GAIN = 1e-3
# From any start to the other end of what is possible.
_MOST_STEPS = 20
# By how much drawn networks may fit worse than the approximation says: a share of that, and nats.
_MORE_THAN_SAID, _NATS = 1.25, 2.0


def predicting_best(nll: Callable[[float], float], start: float) -> float:
    """The precision with the smallest NLL that steps of falling size come to.

    Args:
        nll: NLL of a precision; one that is not finite is never chosen.
        start: Where to begin.
    """
    known: dict[float, float] = {}

    def at(exponent: float) -> float:
        exponent = round(exponent, 6)
        if exponent not in known:
            value = nll(10.0**exponent)
            known[exponent] = value if np.isfinite(value) else np.inf
        return known[exponent]

    best = float(np.log10(start))
    for factor in _FACTORS:
        step = float(np.log10(factor))
        for _ in range(_MOST_STEPS):
            nearby = min((best - step, best + step), key=at)
            # A precision that grows for ever says that no uncertainty helps: it is not followed.
            if not at(nearby) < (1 - _GAIN) * at(best):
                break
            best = nearby
    return 10.0**best


def fitting_as_said(
    loss: Callable[[float], float], said: Callable[[float], float], start: float
) -> float:
    """The least precision, from `start` on, with which drawn networks fit as well as is said.

    Where training has gone beyond a mode under any prior, as it does where all rows are classified
    with certainty, the curvature is nearly zero and says nothing of what is further away. The
    approximation is then believed only as far as it holds.

    Args:
        loss: By how many nats drawn networks fit the training data worse than the one at the mode.
        said: What the approximation says it is: half a nat for each weight that the data determine.
        start: Where to begin.
    """

    def holds(exponent: float) -> bool:
        precision = 10.0**exponent
        # Also of NaN.
        return loss(precision) <= _MORE_THAN_SAID * said(precision) + _NATS

    found = float(np.log10(start))
    if holds(found):
        return start
    for _ in range(_MOST_STEPS):
        found += 1.0
        if holds(found):
            break
    for factor in _FACTORS[1:]:
        step = float(np.log10(factor))
        if holds(found - step):
            found -= step
    return 10.0**found


def nll(posterior: AbstractPosterior, rows: Sequence[tuple[Any, ...]], seed: int) -> float:
    """NLL of rows, `-log(mean over draws of p(y | x, w))`, in nats per row."""
    found = _log_probs(posterior, rows, seed)
    return float(np.log(_NUM_DRAWS) - np.logaddexp.reduce(found, axis=0).mean())


def mean_log_likelihood(
    posterior: AbstractPosterior, rows: Sequence[tuple[Any, ...]], seed: int
) -> float:
    """The mean over draws of the log likelihood of a row, in nats per row."""
    return float(_log_probs(posterior, rows, seed).mean())


def _log_probs(
    posterior: AbstractPosterior, rows: Sequence[tuple[Any, ...]], seed: int
) -> np.ndarray:
    """`log p(y | x, w)` for each draw and row, `(draws, rows)`."""
    draws = posterior.draws(noise.as_seed(seed), 0, _NUM_DRAWS)
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
