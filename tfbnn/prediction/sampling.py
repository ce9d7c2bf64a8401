"""Sampling: what networks drawn from a posterior say of rows, a block of rows at a time."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import mask_of
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.results import Prediction
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.requirements import reason_of
from tfbnn.training.data import check_arrays, is_arrays, slices
from tfbnn.training.feeding import without_autotuning
from tfbnn.training.progress_bar import progress_bar
from tfbnn.weights import noise

# What may be held at once, in bytes: drawn weights with what they compute, and samples of a block
# of rows. Small enough for a laptop, large enough that the loop over blocks costs nothing.
_DRAW_BYTES = 128 * 2**20
SAMPLE_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Sampled:
    """What each drawn network says about a block of rows, for one output of the model.

    Attributes:
        likelihood: The likelihood of the output.
        outputs: Outputs of the networks, `(num_samples, rows, ...)`.
        mask: Booleans `(rows, ...)`, Keras' mask of the output: the steps that count. None if all
            do. A mask that depends on the weights is that of the first network.
    """

    likelihood: AbstractLikelihood
    outputs: np.ndarray
    mask: np.ndarray | None

    @functools.cached_property
    def parameters(self) -> tuple[np.ndarray, ...]:
        """The parameters of the likelihood, `(num_samples, rows, ...)` each."""
        return tuple(parameter.numpy() for parameter in self.likelihood.parameters(self.outputs))

    @property
    def mean(self) -> np.ndarray:
        """The mean over networks of the first parameter, float32, `(rows, ...)`."""
        return self.parameters[0].mean(axis=0, dtype=np.float64).astype(np.float32)

    def prediction(self, keep_samples: bool) -> Prediction:
        """The mean over the networks, and how unsure it is."""
        return self.likelihood.prediction(self.parameters, keep_samples, self.mask)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of rows.

    Attributes:
        answers: What the networks say, for each output of the model.
        batches: The data, a tuple `(x, y, sample_weight)` for each batch; the last two may be None.
    """

    answers: list[Sampled]
    batches: list[tuple[Any, Any, Any]]


def sampled_blocks(
    posterior: AbstractPosterior,
    x: Any,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    verbose: Any = "auto",
    y: Any = None,
    sample_weight: Any = None,
) -> Iterator[Block]:
    """What each drawn network says, a block of rows at a time, in the order of the rows.

    The arguments are those of `tfbnn.predict`, and `y` and `sample_weight` what belongs to the rows
    of arrays; a data set brings its own. In one block all rows have one shape.
    """
    num_samples = num_networks(posterior, arguments.count("num_samples", num_samples))
    batch_size = arguments.count("batch_size", batch_size)
    seed = arguments.seed_or_any("seed", seed)
    seed_tensor, verbose = noise.as_seed(seed), arguments.verbosity("verbose", verbose)
    total = _num_batches(x, batch_size)
    data = _batches(x, y, sample_weight, batch_size)
    with progress_bar(verbose, total and total * num_samples, "network batch") as bar:
        for batches in _blocks(posterior, data, num_samples):
            inputs = [batch[0] for batch in batches]
            arrays, masks = None, []
            for first, count in _chunks(posterior, inputs, num_samples):
                draws = posterior.draws(seed_tensor, first, count)
                answers = [tf.nest.flatten(posterior.outputs(draws, one)) for one in inputs]
                masks = masks or [_joined_mask(output) for output in zip(*answers, strict=True)]
                chunk = [tf.concat(output, axis=1).numpy() for output in zip(*answers, strict=True)]
                arrays = arrays or [np.empty((num_samples, *c.shape[1:]), c.dtype) for c in chunk]
                for array, part in zip(arrays, chunk, strict=True):
                    array[first : first + count] = part
                if bar is not None:
                    bar.update(count * len(batches))
            answers = zip(posterior.likelihoods, arrays, masks, strict=True)
            yield Block([Sampled(*one) for one in answers], batches)


def num_networks(posterior: AbstractPosterior, num_samples: int) -> int:
    """How many networks an answer is the mean of: not more than there are."""
    if posterior.num_draws is None:
        return num_samples
    return min(num_samples, posterior.num_draws)


def num_rows(x: Any) -> int:
    """Number of rows of an array or of a structure of arrays, the same in each.

    Raises:
        ValueError: If `x` is something else, or the numbers differ.
    """
    if not is_arrays(x):
        raise ValueError(
            "`x` must be an array, a structure of arrays or a `tf.data.Dataset`. "
            f"Received: x of type {type(x).__name__}"
        )
    shapes = [tuple(np.shape(array)) for array in tf.nest.flatten(x)]
    rows = {shape[:1] for shape in shapes}
    if len(rows) != 1 or rows <= {(), (None,)}:
        raise ValueError(
            f"All inputs in `x` must have the same number of rows. Received: x of shapes {shapes}"
        )
    return rows.pop()[0]


def _num_batches(x: Any, batch_size: int) -> int | None:
    if isinstance(x, tf.data.Dataset):
        cardinality = int(x.cardinality())
        if cardinality == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`x` never ends: use `.take(...)`. Received: an infinite data set")
        return cardinality if cardinality >= 0 else None
    return -(-num_rows(x) // batch_size)


def _batches(x: Any, y: Any, sample_weight: Any, batch_size: int) -> Iterator[tuple[Any, Any, Any]]:
    """`(x, y, sample_weight)`, batch by batch, the last two None where there are none."""
    if isinstance(x, tf.data.Dataset):
        for element in without_autotuning(x):
            batch = (element, None, None)
            if isinstance(element, tuple):
                batch = keras.utils.unpack_x_y_sample_weight(element)
            leaves = tf.nest.flatten(batch[0])
            if any(leaf.shape.rank == 0 for leaf in leaves):
                raise ValueError(
                    "The data set must be batched: call `.batch(...)` on it. "
                    f"Received: x of shapes {[tuple(leaf.shape) for leaf in leaves]}"
                )
            check_arrays("x", [leaf.numpy() for leaf in leaves])
            yield batch
        return
    x = tf.nest.map_structure(_as_array, x)
    check_arrays("x", x)
    for inputs, *given in slices((x, y, sample_weight), batch_size):
        yield (tf.nest.map_structure(tf.convert_to_tensor, inputs), *given)


def _as_array(x: Any) -> np.ndarray:
    """An input, real numbers or, for layers that look them up, strings."""
    array = arguments.interpreted("x", x, np.asarray, "an array")
    return array if array.dtype.kind in "SUT" else arguments.real_array("x", array)


def _blocks(
    posterior: AbstractPosterior, batches: Iterator[tuple[Any, Any, Any]], num_samples: int
) -> Iterator[list[tuple[Any, Any, Any]]]:
    """Lists of batches of one shape whose samples fit in `SAMPLE_BYTES`.

    The drawn weights serve all batches of a list.
    """
    block: list[tuple[Any, Any, Any]] = []
    rows = limit = 0
    shapes = None
    for batch in batches:
        leaves = tf.nest.flatten(batch[0])
        size, before, shapes = int(leaves[0].shape[0]), shapes, [leaf.shape[1:] for leaf in leaves]
        if shapes != before:
            limit = max(1, SAMPLE_BYTES // (num_samples * _bytes_per_row(posterior, batch[0])))
        if block and (rows + size > limit or shapes != before):
            yield block
            block, rows = [], 0
        block.append(batch)
        rows += size
    if not block:
        raise ValueError("There is no row to predict. Received: empty x")
    yield block


def _bytes_per_row(posterior: AbstractPosterior, batch: Any) -> int:
    _check_shapes(posterior.model, batch)
    outputs = tf.nest.flatten(outputs_of(posterior, posterior.representative(), batch))
    # Two parameters at most, in float32.
    return sum(8 * max(1, int(np.prod(output.shape[1:]))) for output in outputs)


def outputs_of(posterior: AbstractPosterior, values: Any, batch: Any, name: str = "x") -> Any:
    """The outputs of one network, `values`, or a `ValueError` if the model cannot take the
    batch."""
    try:
        return posterior.network(values, batch)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        shapes = [tuple(tensor.shape) for tensor in tf.nest.flatten(batch)]
        raise ValueError(
            f"The model cannot take `{name}` ({reason_of(error)}). "
            f"Received: {name} of shapes {shapes}"
        ) from error


def _check_shapes(model: Any, batch: Any) -> None:
    expected = [tensor.shape for tensor in getattr(model, "inputs", None) or []]
    received = [tuple(tensor.shape) for tensor in tf.nest.flatten(batch)]
    # Of another number of inputs or axes Keras makes what it can, or says what it cannot.
    if len(expected) != len(received):
        return
    for one, other in zip(expected, received, strict=True):
        pairs = list(zip(one[1:], other[1:], strict=False))
        if len(one) == len(other) and any(a not in (None, b) for a, b in pairs):
            raise ValueError(
                f"`x` must have rows of shape {tuple(one[1:])}. Received: shape {other[1:]}"
            )


def _chunks(
    posterior: AbstractPosterior, batches: list[Any], num_samples: int
) -> Iterator[tuple[int, int]]:
    """First number and count of the draws that are made at once."""
    largest = max(batches, key=lambda batch: int(tf.nest.flatten(batch)[0].shape[0]))
    network_bytes = posterior.draw_bytes + posterior.largest_tensor(largest)
    size = int(np.clip(_DRAW_BYTES // network_bytes, 1, num_samples))
    for first in range(0, num_samples, size):
        yield first, min(size, num_samples - first)


def _joined_mask(outputs: Sequence[tf.Tensor]) -> np.ndarray | None:
    masks = [mask_of(output) for output in outputs]
    if any(mask is None for mask in masks):
        return None
    return np.concatenate([mask[0].numpy().astype(bool) for mask in masks])
