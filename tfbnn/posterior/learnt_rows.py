"""The rows that a posterior is learnt from, as a model takes them."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.keras_internals import input_specs
from tfbnn.training.data import check_arrays, in_batches, is_arrays
from tfbnn.training.outputs import in_order

# Of arrays at a time: rows, and numbers of their inputs.
_MOST_ROWS, _MOST_NUMBERS = 1024, 2**20


def num_batches(x: Any) -> int | None:
    """Number of batches, where it is known without reading them."""
    if is_arrays(x):
        return -(-len(tf.nest.flatten(x)[0]) // _batch_size(x))
    known = int(x.cardinality()) if isinstance(x, tf.data.Dataset) else -1
    return known if known >= 0 else None


def batches(model: keras.Model, x: Any, y: Any) -> Iterator[tuple[Any, ...]]:
    """`(x, y)` or `(x, y, sample_weight)`, batch by batch, targets in the order of the outputs.

    Raises:
        ValueError: If there are no targets, numbers are not finite, or the data never end.
    """
    if isinstance(x, tf.data.Dataset) and x.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`x` never ends: use `.take(...)`. Received: an infinite data set")
    if y is not None and not is_arrays(y):
        raise ValueError(
            "`y` must be an array, or a list or dict with one for each output. "
            f"Received: y={y!r} of type {type(y).__name__}"
        )
    if is_arrays(x):
        shapes = [tuple(one.shape) for one in tf.nest.flatten((x, [] if y is None else y))]
        rows = {shape[:1] for shape in shapes}
        if len(rows) != 1 or rows <= {(), (None,)}:
            raise ValueError(
                "`x` and `y` must have the same number of rows. "
                f"Received: x and y of shapes {shapes}"
            )
    specs = input_specs(model)
    num_rows = _batch_size(x) if is_arrays(x) else 0
    for inputs, targets, weights in in_batches(x, y, None, num_rows):
        if targets is None:
            raise ValueError(
                "A posterior is that of the data it is learnt from: pass arrays `x` and "
                "`y`, or a batched `tf.data.Dataset` that has both. Received: y=None"
            )
        if any(one.dtype.is_complex for one in tf.nest.flatten(inputs)):
            raise ValueError("`x` must be real numbers. Received: x of complex ones")
        check_arrays("x", tf.nest.map_structure(_as_numpy, inputs))
        inputs = _as_model_takes(inputs, specs)
        given = [targets] if weights is None else [targets, weights]
        yield (inputs, *(tf.nest.flatten(in_order(model, one)) for one in given))


def _batch_size(x: Any) -> int:
    numbers = sum(math.prod(np.shape(one)[1:]) for one in tf.nest.flatten(x))
    return min(_MOST_ROWS, max(1, _MOST_NUMBERS // max(1, numbers)))


def all_rows(model: keras.Model, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight)` of all `batches` in one; the last may be None.

    Raises:
        ValueError: As of `batches`, or if there is no row.
    """
    found = list(batches(model, x, y))
    if not found:
        raise no_rows(x)
    joined = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *found)
    return keras.utils.unpack_x_y_sample_weight(joined)


def no_rows(x: Any) -> ValueError:
    """The error for data without a row, or which are no data."""
    return ValueError(
        "There is no row to learn from: `x` must be arrays or a batched `tf.data.Dataset`. "
        f"Received: x of type {type(x).__name__}, empty"
    )


def _as_numpy(one: Any) -> Any:
    return one.numpy() if one.dtype.is_floating else None


def _as_model_takes(inputs: Any, specs: Any) -> Any:
    """Inputs of the types that a model takes, so that one trace is enough."""
    flat, types = tf.nest.flatten(inputs), [spec.dtype for spec in tf.nest.flatten(specs)]
    if len(flat) != len(types):
        return inputs
    numbers = [one.dtype.is_floating or one.dtype.is_integer for one in flat]
    cast = [
        tf.cast(one, dtype) if number and (dtype.is_floating or dtype.is_integer) else one
        for one, dtype, number in zip(flat, types, numbers, strict=True)
    ]
    return tf.nest.pack_sequence_as(inputs, cast)
