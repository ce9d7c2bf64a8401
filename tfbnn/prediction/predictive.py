"""The predictive distribution: many networks drawn from the posterior, averaged.

`p(y | x) = mean over draws w of p(y | x, w)`
"""

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from tfbnn import arguments
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.variational import posterior_of
from tfbnn.prediction.summaries import Prediction, summarise
from tfbnn.training.data import check_arrays, is_arrays
from tfbnn.weights import noise

# What may be held at once, in bytes: drawn weights with what they compute, and samples of a block
# of rows. Small enough for a laptop, large enough that the loop over blocks costs nothing.
_DRAW_BYTES = 128 * 2**20
_SAMPLE_BYTES = 256 * 2**20


def predict(
    model: Any,
    x: Any,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    keep_samples: bool | None = None,
    verbose: Any = "auto",
) -> Any:
    """Prediction and uncertainty, averaged over networks drawn from the posterior.

    Weights are drawn, not noise: each of the `num_samples` networks answers for every row. Dropout
    and BatchNormalization run as in inference. Memory is bounded by the batch, not by `x`.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model`, or a posterior.
        x: Inputs `(rows, ...)`: an array, a list or dict of arrays for several inputs, or a batched
            `tf.data.Dataset` (targets in it are ignored).
        num_samples: Number of networks.
        batch_size: Rows at a time, for arrays.
        seed: A whole number; the same seed gives the same networks. Random if None.
        keep_samples: Whether the result keeps the parameters that each network predicted, which
            `quantile` needs. None keeps them up to 256 MB.
        verbose: 0 for no progress bar, 1 for one, `"auto"` for one on work of more than 2 s.

    Returns:
        A `Prediction`, which unpacks into two arrays. Classes: mean probabilities
        `(rows, classes)` and predictive entropy in nats `(rows,)`. Real numbers: mean and total
        standard deviation, `(rows, targets)`. It holds the decomposition and the rest. For a model
        with several outputs: one in each place of the outputs' structure.

    Raises:
        TypeError: If `model` is neither a model of tfbnn nor a posterior.
        ValueError: If `x` is empty, infinite, not finite or of the wrong shape, or an argument is
            out of range.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> prediction, uncertainty = tfbnn.predict(model, np.eye(3), num_samples=8)
    >>> prediction.shape, uncertainty.shape
    ((3, 2), (3,))

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 2, and Gal 2016,
        "Uncertainty in Deep Learning", sec. 3.3.
    """
    posterior = posterior_of(model)
    if keep_samples is not None:
        keep_samples = arguments.boolean("keep_samples", keep_samples)
    parts: list[list[Prediction]] = []
    samples_bytes = 0
    for block in sampled_blocks(posterior, x, num_samples, batch_size, seed, verbose):
        samples_bytes += sum(array.nbytes for parameters in block for array in parameters)
        keep = samples_bytes <= _SAMPLE_BYTES if keep_samples is None else keep_samples
        parts.append(
            [
                summarise(likelihood.kind, parameters, keep)
                for likelihood, parameters in zip(posterior.likelihoods, block, strict=True)
            ]
        )
    predictions = [Prediction.concatenate(list(part)) for part in zip(*parts, strict=True)]
    return _like_outputs(posterior, predictions)


def sampled_blocks(
    posterior: AbstractPosterior,
    x: Any,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    verbose: Any = "auto",
    outputs: bool = False,
) -> Iterator[list[tuple[np.ndarray, ...]]]:
    """What each drawn network predicts, a block of rows at a time.

    Args:
        posterior: A posterior.
        x: As in `predict`.
        num_samples: As in `predict`.
        batch_size: As in `predict`.
        seed: As in `predict`.
        verbose: As in `predict`.
        outputs: Whether to give the outputs of the networks as they are, in place of the
            parameters of the likelihood.

    Yields:
        For each output of the model, the parameters of its likelihood, each an array
        `(num_samples, rows in the block, ...)`.
    """
    num_samples, batch_size = (
        arguments.count("num_samples", num_samples),
        arguments.count("batch_size", batch_size),
    )
    seed = random.randrange(2**62) if seed is None else arguments.seed("seed", seed)
    seed_tensor, verbose = noise.as_seed(seed), arguments.verbosity("verbose", verbose)
    total = _num_batches(x, batch_size)
    with _progress(verbose, total and total * num_samples) as bar:
        for batches in _blocks(posterior, _batches(x, batch_size), num_samples):
            arrays = None
            for first, count in _chunks(posterior, batches, num_samples):
                draws = posterior.draws(seed_tensor, first, count)
                answers = [posterior.outputs(draws, batch) for batch in batches]
                chunk = _parameters(posterior, answers, outputs)
                arrays = arrays or _empty_like(chunk, num_samples)
                _store(arrays, chunk, slice(first, first + count))
                bar.update(count * len(batches))
            yield arrays


@dataclasses.dataclass(frozen=True)
class _NoBar:
    def __enter__(self) -> "_NoBar":
        return self

    def __exit__(self, *error: object) -> None: ...

    def update(self, count: int) -> None: ...


def _progress(verbose: Any, total: int | None) -> Any:
    if verbose == 0:
        return _NoBar()
    return tqdm.tqdm(total=total, delay=2.0 if verbose == "auto" else 0.0, unit="network batch")


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
    if isinstance(x, Iterator):
        return None
    if isinstance(x, tf.data.Dataset):
        cardinality = int(x.cardinality())
        if cardinality == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`x` never ends: use `.take(...)`. Received: an infinite data set")
        return cardinality if cardinality >= 0 else None
    return -(-num_rows(x) // batch_size)


def _batches(x: Any, batch_size: int) -> Iterator[Any]:
    if isinstance(x, tf.data.Dataset | Iterator):
        for element in x:
            inputs = element[0] if isinstance(element, tuple) else element
            leaves = tf.nest.flatten(inputs)
            if any(leaf.shape.rank == 0 for leaf in leaves):
                raise ValueError(
                    "The data set must be batched: call `.batch(...)` on it. "
                    f"Received: x of shapes {[tuple(leaf.shape) for leaf in leaves]}"
                )
            check_arrays("x", [leaf.numpy() for leaf in leaves])
            yield inputs
        return
    arrays = tf.nest.map_structure(_as_array, x)
    check_arrays("x", arrays)
    for start in range(0, num_rows(arrays), batch_size):
        rows = slice(start, start + batch_size)
        yield tf.nest.map_structure(lambda a, rows=rows: tf.convert_to_tensor(a[rows]), arrays)


def _as_array(x: Any) -> np.ndarray:
    """An input, real numbers or, for layers that look them up, strings."""
    array = arguments.interpreted("x", x, np.asarray, "an array")
    return array if array.dtype.kind in "SUT" else arguments.real_array("x", array)


def _blocks(
    posterior: AbstractPosterior, batches: Iterator[Any], num_samples: int
) -> Iterator[list[Any]]:
    """Lists of batches whose samples fit in `_SAMPLE_BYTES`; the drawn weights serve them all."""
    block: list[Any] = []
    rows = limit = 0
    for batch in batches:
        size = int(tf.nest.flatten(batch)[0].shape[0])
        if not limit:
            limit = max(1, _SAMPLE_BYTES // (num_samples * _bytes_per_row(posterior, batch)))
        if block and rows + size > limit:
            yield block
            block, rows = [], 0
        block.append(batch)
        rows += size
    if not block:
        raise ValueError("There is no row to predict. Received: empty x")
    yield block


def _bytes_per_row(posterior: AbstractPosterior, batch: Any) -> int:
    _check_shapes(posterior.model, batch)
    try:
        outputs = tf.nest.flatten(posterior.network(posterior.mean(), batch))
    except (TypeError, ValueError, tf.errors.OpError) as error:
        first = str(error).strip().splitlines()[0]
        shapes = [tuple(tensor.shape) for tensor in tf.nest.flatten(batch)]
        raise ValueError(
            f"The model cannot take `x` ({first}). Received: x of shapes {shapes}"
        ) from error
    # Two parameters at most, in float32.
    return sum(8 * max(1, int(np.prod(output.shape[1:]))) for output in outputs)


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
    draw_bytes = sum(4 * int(np.prod(v.shape)) for v in posterior.variables)
    largest = max(batches, key=lambda batch: int(tf.nest.flatten(batch)[0].shape[0]))
    network_bytes = draw_bytes + posterior.largest_tensor(largest)
    size = int(np.clip(_DRAW_BYTES // network_bytes, 1, num_samples))
    for first in range(0, num_samples, size):
        yield first, min(size, num_samples - first)


def _parameters(
    posterior: AbstractPosterior, answers: list[Any], outputs: bool
) -> list[tuple[np.ndarray, ...]]:
    """The likelihoods' parameters for a list of batches, `(count, rows, ...)` each."""
    flat = zip(*[tf.nest.flatten(batch) for batch in answers], strict=True)
    result = []
    for likelihood, batches in zip(posterior.likelihoods, flat, strict=True):
        output = tf.concat(batches, axis=1)
        parameters = (output,) if outputs else likelihood.parameters(output)
        result.append(tuple(parameter.numpy() for parameter in parameters))
    return result


def _empty_like(
    chunk: list[tuple[np.ndarray, ...]], num_samples: int
) -> list[tuple[np.ndarray, ...]]:
    return [
        tuple(np.empty((num_samples, *array.shape[1:]), array.dtype) for array in parameters)
        for parameters in chunk
    ]


def _store(arrays: Any, chunk: Any, draws: slice) -> None:
    for target, source in zip(tf.nest.flatten(arrays), tf.nest.flatten(chunk), strict=True):
        target[draws] = source


def _like_outputs(posterior: AbstractPosterior, predictions: list[Prediction]) -> Any:
    if len(predictions) == 1:
        return predictions[0]
    # A subclassed model does not know its outputs; its losses are in the same places.
    structure = getattr(posterior.model, "_outputs_struct", None) or posterior.model.loss
    packed = tf.nest.pack_sequence_as(structure, predictions)
    # Keras keeps structures in wrappers of its own.
    return dict(packed) if isinstance(packed, dict) else list(packed)
