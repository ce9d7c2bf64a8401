"""Curvature: the generalised Gauss-Newton matrix of a batch, as pairs of gradients.

    H = sum over rows of J^T C J,   J = d outputs / d weights,   C = -E[d2 log(p) / d outputs2]

| | columns | one backward pass for |
|---|---|---|
| `"exact"` | `J^T e` and `J^T C e` for each unit vector `e` | each output |
| `"sampled"` | `J^T d log(p(y | outputs)) / d outputs`, `y` drawn from the law | a batch |

The second is the Fisher information, of which the first is the expectation over `y`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.targets import spread
from tfbnn.weights import noise

# Backward passes for a batch; a graph of so many would take longer than anyone waits.
_MOST_COLUMNS = 1000


class Judged(NamedTuple):
    """An output of a network and what judges it.

    Attributes:
        likelihood: Its likelihood.
        outputs: `(rows, *event, outputs)`.
        weights: How many observations each event counts as, `(rows, *event)`.
    """

    likelihood: AbstractLikelihood
    outputs: tf.Tensor
    weights: tf.Tensor


# Gradients by the outputs of each call of a layer, `(columns, rows, ...)`.
Columns = list[tf.Tensor]
Curvature = Callable[[Sequence[Judged], list[tf.Tensor], tf.GradientTape, tf.Tensor], Any]


def judged(
    likelihood: AbstractLikelihood, outputs: Any, factors: Sequence[Any], loss_weight: float
) -> Judged:
    """An output with the weight of each of its events: mask, weight of the row and of the loss."""
    like = tf.cast(outputs[..., 0], tf.float32)
    weights = loss_weight * tf.ones_like(like)
    for factor in factors:
        weights *= tf.cast(spread(factor, like), tf.float32)
    return Judged(likelihood, outputs, weights)


def exact(
    found: Sequence[Judged], sources: list[tf.Tensor], tape: tf.GradientTape, seed: tf.Tensor
) -> tuple[Columns, Columns]:
    """Two sides of the exact matrix: `J^T e` and `J^T C e` for each unit vector `e`."""
    del seed
    lefts, rights = [], []
    for one in found:
        left = unit_gradients(one.outputs, sources, tape)
        size, count = one.outputs.shape[-1], tf.shape(left[0])[0]
        curvature = one.likelihood.curvature(one.outputs) * one.weights[..., tf.newaxis, tf.newaxis]
        rows = tf.shape(one.outputs)[0]
        curvature = tf.reshape(curvature, (rows, count // size, size, size))
        rights.append([_combined(curvature, columns, count) for columns in left])
        lefts.append(left)
    return _stacked(lefts), _stacked(rights)


def sampled(
    found: Sequence[Judged], sources: list[tf.Tensor], tape: tf.GradientTape, seed: tf.Tensor
) -> tuple[Columns, Columns]:
    """One column: the gradient of the log likelihood of targets drawn from it."""
    scores = []
    for number, (likelihood, outputs, weights) in enumerate(found):
        # Columns of several outputs are independent, so that one is enough for all.
        targets = likelihood.sample(outputs, noise.fold_in(seed, number))
        with tf.GradientTape() as inner:
            inner.watch(outputs)
            log_prob = likelihood.log_prob(targets, tf.identity(outputs))
        score = inner.gradient(log_prob, outputs)
        scores.append(score * tf.cast(tf.sqrt(weights)[..., tf.newaxis], score.dtype))
    outputs = [one.outputs for one in found]
    gradients = tape.gradient(
        outputs,
        sources,
        output_gradients=scores,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    columns = [one[tf.newaxis] for one in gradients]
    return columns, columns


CURVATURES: dict[str, Curvature] = {"exact": exact, "sampled": sampled}
"""How a curvature is summed, by name."""


def unit_gradients(outputs: tf.Tensor, sources: list[tf.Tensor], tape: tf.GradientTape) -> Columns:
    """Gradients of each output of a row, `(outputs, rows, ...)`.

    Args:
        outputs: `(rows, ...)`.
        sources: What gradients are taken by.
        tape: A persistent tape that has seen them all.

    Raises:
        ValueError: If there are too many outputs.
    """
    size = outputs.shape[1:].num_elements()
    if size is not None and size > _MOST_COLUMNS:
        raise ValueError(
            f"The exact curvature takes a backward pass for each of up to {_MOST_COLUMNS} outputs: "
            "use `curvature='sampled'`, which takes one for all. "
            f"Received: outputs of shape {tuple(outputs.shape)}"
        )
    shape, rows = tf.shape(outputs), tf.shape(outputs)[0]
    count = tf.reduce_prod(shape[1:])

    def one(number: tf.Tensor) -> Columns:
        unit = tf.one_hot(tf.fill([rows], number), count, dtype=outputs.dtype)
        return tape.gradient(
            outputs,
            sources,
            output_gradients=tf.reshape(unit, shape),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    specs = [tf.TensorSpec(source.shape, source.dtype) for source in sources]
    return tf.map_fn(one, tf.range(count), fn_output_signature=specs)


def _combined(curvature: tf.Tensor, columns: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """`J^T C` of `J^T`, whose columns are those of all outputs of each event."""
    size, shape = curvature.shape[-1], tf.shape(columns)
    split = tf.reshape(tf.cast(columns, tf.float32), (count // size, size, shape[1], -1))
    combined = tf.einsum("necd,ednz->ecnz", curvature, split)
    return tf.ensure_shape(tf.reshape(combined, shape), columns.shape)


def _stacked(by_output: list[Columns]) -> Columns:
    """The columns of all outputs of a network, for each call of a layer."""
    return [
        tf.concat([tf.cast(one, tf.float32) for one in columns], axis=0)
        for columns in zip(*by_output, strict=True)
    ]
