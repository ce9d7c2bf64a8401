"""Held-out rows: reading some of them, and what networks drawn from the posterior say of them."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import call_without_noise
from tfbnn.layers.variational import variational_weights
from tfbnn.training.data import is_arrays, slices
from tfbnn.training.feeding import without_autotuning
from tfbnn.weights import noise

# The standard error of a scale is scale / sqrt(2 n): one per cent.
_MOST_ROWS = 4096
# Of float64, each of them once for a draw: 64 MB.
_MOST_TARGETS = 2**18
_ROWS_AT_A_TIME = 256


def drawn_outputs(model: keras.Model, seed: tf.Tensor, x: Any) -> list[Any]:
    """The outputs of one network drawn from the posterior, without other noise."""
    weights = variational_weights(model)
    seeds = noise.split(seed, max(len(weights), 1))
    drawn = [(w.loc_variable, w.sample(s)) for w, s in zip(weights, seeds, strict=False)]
    with keras.StatelessScope(state_mapping=drawn):
        return tf.nest.flatten(call_without_noise(model, x))


def some_rows(validation: Any, steps: int | None) -> Iterator[tuple[Any, Any, Any]]:
    """Batches of tensors, as many as it takes."""
    rows = targets = 0
    for number, batch in enumerate(_batches(*validation)):
        if rows >= _MOST_ROWS or targets >= _MOST_TARGETS or number == (steps or math.inf):
            return
        x, y, sample_weight = tf.nest.map_structure(
            lambda one: None if one is None else tf.convert_to_tensor(one), batch
        )
        rows += int(tf.nest.flatten(x)[0].shape[0])
        targets += sum(int(tf.size(one)) for one in tf.nest.flatten(y))
        yield x, y, sample_weight


def is_repeatable(x: Any) -> bool:
    """Whether inputs can be read several times."""
    return x is None or is_arrays(x) or isinstance(x, tf.data.Dataset | keras.utils.PyDataset)


def _batches(x: Any, y: Any, sample_weight: Any) -> Iterator[tuple[Any, Any, Any]]:
    if is_arrays(x):
        yield from slices((x, y, sample_weight), _ROWS_AT_A_TIME)
        return
    batches: Any = ()
    if isinstance(x, tf.data.Dataset):
        batches = without_autotuning(x)
    elif isinstance(x, keras.utils.PyDataset):
        batches = (x[number] for number in range(x.num_batches or 0))
    elif isinstance(x, Iterator):
        batches = x
    yield from map(keras.utils.unpack_x_y_sample_weight, batches)
