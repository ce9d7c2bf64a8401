"""The prior precision under which rows that were held out are predicted best."""

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


def best_precision(nll: Callable[[float], float], start: float) -> float:
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


def nll(posterior: AbstractPosterior, held_out: Sequence[tuple[Any, ...]], seed: int) -> float:
    """NLL of held-out rows, `-log(mean over draws of p(y | x, w))`, in nats per row."""
    draws = posterior.draws(noise.as_seed(seed), 0, _NUM_DRAWS)
    total, rows = 0.0, 0
    for batch in held_out:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        answers = zip(*map(_by_draw, tf.nest.flatten(posterior.outputs(draws, x))), strict=True)
        by_draw = [
            tf.add_n(list(log_probs(posterior.likelihoods, y, list(one), sample_weight)))
            for one in answers
        ]
        log_prob = tf.reduce_logsumexp(tf.stack(by_draw), axis=0) - np.log(_NUM_DRAWS)
        total -= float(tf.reduce_sum(log_prob))
        rows += len(log_prob)
    return total / rows


def _by_draw(outputs: tf.Tensor) -> list[tf.Tensor]:
    """The outputs of each network, with their masks."""
    found, mask = tf.unstack(outputs), mask_of(outputs)
    for number, one in enumerate(found):
        put_mask(one, None if mask is None else mask[number])
    return found
