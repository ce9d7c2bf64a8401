"""Training data: how many examples there are, and whether they can be learnt from."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.training.feeding import without_autotuning

_ASK = (
    "pass `num_examples=` to `fit` (or to the model's constructor): the number of training "
    "examples in the whole data set, over all workers, each counted once"
)


@dataclasses.dataclass(frozen=True)
class TrainingSize:
    """Number of training examples, of batches in an epoch, and where the first came from."""

    num_examples: int
    num_batches: int
    source: str


def training_size(
    x: Any,
    batch_size: int | None,
    steps_per_epoch: int | None,
    num_examples: int | None,
    announce: Callable[[str], None],
    check_batch: Callable[[Any, Any, Any], None],
) -> TrainingSize:
    """The size of what `fit(x, ...)` will train on, as far as the user has not given it.

    Arrays are measured. A finite `tf.data.Dataset` is read once, which is announced, and counted:
    its cardinality times its batch size is not exact. `check_batch` is called with inputs, targets
    and weights of each batch of that pass. For anything else `num_examples` has to be given. Empty
    data are a `ValueError`, as is a number that is not known.
    """
    if num_examples is not None:
        num_examples = arguments.count("num_examples", num_examples, most=2**63 - 1)
    if is_arrays(x):
        found, num_batches = _array_size(x, batch_size)
    elif isinstance(x, tf.data.Dataset):
        _check_dataset(x, steps_per_epoch, num_examples)
        found, num_batches = num_examples, max(int(x.cardinality()), 0)
        if num_examples is None:
            announce("counting the training examples: one pass over the data set")
            found, num_batches = _counted(x, check_batch)
    else:
        # 0: unknown. Only schedules need the number, and they say so.
        found, num_batches = num_examples, steps_per_epoch or _num_batches(x) or 0
    if found is None:
        raise ValueError(
            f"The number of training examples of a {type(x).__name__} is not known: {_ASK}. "
            "Received: num_examples=None"
        )
    if found == 0:
        raise ValueError("There is no example to train on. Received: empty data")
    source = "given" if num_examples else "counted"
    return TrainingSize(num_examples or found, steps_per_epoch or num_batches, source)


def check_batch_size(x: Any, batch_size: int | None, size: TrainingSize, replicas: int) -> None:
    """Raise a `ValueError` if some replica would never get an example."""
    rows = batch_size or 32
    if not is_arrays(x):
        if size.source != "counted":
            return
        rows = math.ceil(size.num_examples / size.num_batches)
    rows = min(rows, size.num_examples)
    if rows < replicas:
        raise ValueError(
            "A batch is shared by all replicas and needs an example for each: choose a larger "
            f"batch, or fewer devices. Received: batches of {rows} for {replicas} replicas"
        )


def is_arrays(x: Any) -> bool:
    """Whether `x` is an array or a structure of arrays, as opposed to a data set or generator."""
    leaves = tf.nest.flatten(x)
    return bool(leaves) and all(
        isinstance(leaf, np.ndarray | tf.Tensor) or hasattr(leaf, "__array__") for leaf in leaves
    )


def slices(arrays: Any, num_rows: int) -> Iterator[Any]:
    """A structure of arrays, some rows at a time; a None in it stays one."""
    for first in range(0, len(tf.nest.flatten(arrays)[0]), num_rows):
        part = slice(first, first + num_rows)
        yield tf.nest.map_structure(lambda a, s=part: None if a is None else a[s], arrays)


def in_batches(x: Any, y: Any, sample_weight: Any, num_rows: int) -> Iterator[tuple[Any, Any, Any]]:
    """`(x, y, sample_weight)`, batch by batch and as tensors, of anything that `fit` takes.

    Arrays are read `num_rows` rows at a time.
    """
    batches: Any = ()
    if is_arrays(x):
        batches = slices((x, y, sample_weight), num_rows)
    elif isinstance(x, tf.data.Dataset):
        batches = without_autotuning(x)
    elif isinstance(x, keras.utils.PyDataset):
        batches = (x[number] for number in range(x.num_batches or 0))
    elif isinstance(x, Iterator):
        batches = x
    for batch in map(keras.utils.unpack_x_y_sample_weight, batches):
        yield tf.nest.map_structure(
            lambda one: None if one is None else tf.convert_to_tensor(one), batch
        )


def check_arrays(name: str, arrays: Any, dtype: str = "float32") -> None:
    """Raise a `ValueError` if a structure of arrays has elements that a type does not hold.

    What is no array passes.
    """
    for array in tf.nest.flatten(arrays):
        if not hasattr(array, "__array__"):
            continue
        array = np.asarray(array)
        if not np.issubdtype(array.dtype, np.floating):
            continue
        # NaN compares as false. A sum of all would be faster, and overflow.
        largest = np.float32(np.finfo(dtype).max)
        bad = int(array.size - np.count_nonzero(np.abs(array) <= largest))
        if bad:
            raise ValueError(
                f"`{name}` has NaN or infinite elements, or some beyond the range of {dtype}; "
                f"remove or replace them. Received: {bad} of {array.size} elements"
            )


def _array_size(x: Any, batch_size: int | None) -> tuple[int, int]:
    """Numbers of examples and of batches."""
    rows = {len(leaf) for leaf in tf.nest.flatten(x)}
    if len(rows) != 1:
        raise ValueError(f"All inputs must have the same number of rows. Received: {sorted(rows)}")
    num_examples = rows.pop()
    return num_examples, math.ceil(num_examples / (batch_size or 32))


def _check_dataset(
    dataset: tf.data.Dataset, steps_per_epoch: int | None, num_examples: int | None
) -> None:
    """Raise a `ValueError` if its size cannot be counted, or it never ends."""
    infinite = int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY
    if num_examples is None and (infinite or steps_per_epoch is not None):
        why = "an infinite data set" if infinite else "`steps_per_epoch`"
        raise ValueError(
            f"With {why} an epoch does not tell how many examples there are: {_ASK}. "
            f"Received: num_examples=None, steps_per_epoch={steps_per_epoch}"
        )
    if infinite and steps_per_epoch is None:
        raise ValueError(
            "An epoch of an infinite data set never ends: pass `steps_per_epoch=` to `fit`. "
            "Received: steps_per_epoch=None"
        )


def _counted(
    dataset: tf.data.Dataset, check_batch: Callable[[Any, Any, Any], None]
) -> tuple[int, int]:
    """Numbers of examples and of batches, by one pass."""
    num_examples = num_batches = 0
    for batch in without_autotuning(dataset):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        leaves = tf.nest.flatten(x)
        if leaves[0].shape.rank == 0:
            raise ValueError("The data set must be batched: call `.batch(...)` on it.")
        check_batch(x, y, sample_weight)
        num_examples += int(leaves[0].shape[0])
        num_batches += 1
    return num_examples, num_batches


def _num_batches(x: Any) -> int | None:
    number = getattr(x, "num_batches", None)
    return len(x) if number is None and hasattr(x, "__len__") else number
