"""Held-out rows: reading some of them, and what networks drawn from the posterior say of them."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import call_without_noise
from tfbnn.layers.variational import variational_weights
from tfbnn.training import outputs
from tfbnn.training.data import in_batches, is_arrays
from tfbnn.weights import noise
from tfbnn.weights.tracing import traced

# The standard error of a scale is scale / sqrt(2 n): one per cent.
_MOST_ROWS = 4096
# Of float64, each of them once for a draw: 64 MB.
_MOST_TARGETS = 2**18
_ROWS_AT_A_TIME = 256
NUM_DRAWS = 32


def of_draws(
    model: keras.Model, function: Callable[..., Any], validation: Any, steps: int | None
) -> Iterator[list[Any]]:
    """`function(answers, y, sample_weight)` of each network drawn, for each batch of some rows.

    Targets and weights are in the order of the outputs, which are the `answers` of one network.
    """

    def of_draw(seed: tf.Tensor, x: Any, y: Any, sample_weight: Any) -> Any:
        return function(_drawn_outputs(model, seed, x), y, sample_weight)

    of_draw = traced(of_draw, reduce_retracing=True)
    seeds = noise.split(noise.as_seed(0), NUM_DRAWS)
    for x, *given in _some_rows(validation, steps):
        y, sample_weight = (outputs.in_order(model, one) for one in given)
        yield [of_draw(seed, x, y, sample_weight) for seed in seeds]


def _drawn_outputs(model: keras.Model, seed: tf.Tensor, x: Any) -> list[Any]:
    """The outputs of one network drawn from the posterior, without other noise."""
    weights = variational_weights(model)
    seeds = noise.split(seed, max(len(weights), 1))
    drawn = [(w.loc_variable, w.sample(s)) for w, s in zip(weights, seeds, strict=False)]
    with keras.StatelessScope(state_mapping=drawn):
        return tf.nest.flatten(call_without_noise(model, x))


def _some_rows(validation: Any, steps: int | None) -> Iterator[tuple[Any, Any, Any]]:
    """Batches of tensors, as many as it takes."""
    rows = targets = 0
    batches = in_batches(*validation, _ROWS_AT_A_TIME)
    for number, (x, y, sample_weight) in enumerate(batches):
        if rows >= _MOST_ROWS or targets >= _MOST_TARGETS or number == (steps or math.inf):
            return
        rows += int(tf.nest.flatten(x)[0].shape[0])
        targets += sum(int(tf.size(one)) for one in tf.nest.flatten(y))
        yield x, y, sample_weight


def is_repeatable(x: Any) -> bool:
    """Whether inputs can be read several times."""
    return x is None or is_arrays(x) or isinstance(x, tf.data.Dataset | keras.utils.PyDataset)
