"""Targets: shapes that fit the outputs, and what counts of them in the sum of a likelihood."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.requirements import require


def matched(targets: Any, shape: Any, sizes: tf.Tensor | None = None) -> tf.Tensor:
    """`targets` in `shape`, from which a last axis of size 1 may be missing or be too many.

    In `shape` None fits any size; `sizes` are a tensor of the whole shape, where a step knows no
    more when it is traced.

    Raises:
        ValueError: If they have another shape; broadcasting would make up observations. Inside a
            graph see `requirements.clear_errors`.
    """
    targets, shape = tf.convert_to_tensor(targets), tf.TensorShape(shape)
    if not (targets.dtype.is_floating or targets.dtype.is_integer or targets.dtype.is_bool):
        raise ValueError(f"Targets must be numbers. Received: targets of type {targets.dtype.name}")
    if targets.shape.rank is None:
        return _reshaped(targets, shape, sizes)
    if len(targets.shape) == len(shape) + 1 and targets.shape[-1] == 1:
        targets = targets[..., 0]
    if len(targets.shape) == len(shape) - 1 and shape[-1] == 1:
        targets = targets[..., tf.newaxis]
    if not targets.shape.is_compatible_with(shape):
        received = tuple(targets.shape)
        raise ValueError(f"{_ASKED} {tuple(shape)}. {_GOT} {received}")
    if sizes is not None:
        require(tf.equal(tf.shape(targets), sizes), _ASKED, sizes, _GOT, tf.shape(targets))
    return targets


def _reshaped(targets: tf.Tensor, shape: tf.TensorShape, sizes: tf.Tensor) -> tf.Tensor:
    """`matched` where a step knows nothing of the targets: it has met some of either shape."""
    given = tf.shape(targets)
    axes = tf.minimum(tf.rank(targets), len(shape))
    same = tf.reduce_all(tf.equal(given[:axes], sizes[:axes]))
    fits = same & tf.equal(tf.size(targets), tf.reduce_prod(sizes))
    with tf.control_dependencies(require(fits, _ASKED, sizes, _GOT, given)):
        return tf.ensure_shape(tf.reshape(targets, sizes), shape)


_ASKED = "The outputs of the network ask for targets of shape"
_GOT = "Received: targets of shape"


def sum_events(log_prob: tf.Tensor, factors: Sequence[Any] = ()) -> tf.Tensor:
    """Log likelihood of each example, `(batch,)`: the sum over the event axes of `(batch, *event)`.

    Keras would take the mean over the steps of a sequence, which divides the likelihood by their
    number and leaves the KL as it is. `factors` are masks, and weights (how many observations an
    example or a step counts as), `(batch, ...)`; they broadcast over the remaining event axes.
    """
    for factor in factors:
        log_prob *= tf.cast(spread(factor, log_prob), log_prob.dtype)
    return tf.reduce_sum(tf.reshape(log_prob, [tf.shape(log_prob)[0], -1]), axis=1)


def spread(factor: Any, like: tf.Tensor) -> tf.Tensor:
    """A mask or a weight `(batch, ...)` with axes of size 1 for the remaining event axes of `like`.

    Raises:
        ValueError: If it is not of the same rows and steps. Inside a graph see
            `requirements.clear_errors`.
    """
    factor = tf.convert_to_tensor(factor)
    rank = len(like.shape)
    if len(factor.shape) == rank + 1 and factor.shape[-1] == 1:
        factor = factor[..., 0]
    given, sizes = len(factor.shape), tf.shape(like)
    if given > rank:
        raise ValueError(
            "Sample weights and masks must have the rows and the steps of the targets, shape "
            f"{tuple(like.shape)} at most. Received: shape {tuple(factor.shape)}"
        )
    fits = tf.equal(tf.shape(factor), sizes[:given]) | (
        tf.equal(tf.shape(factor), 1) & (tf.range(given) > 0)
    )
    require(
        fits,
        "Sample weights and masks must have the rows and the steps of the targets, shape",
        sizes,
        "at most. Received: shape",
        tf.shape(factor),
    )
    return tf.reshape(factor, tf.concat([tf.shape(factor), [1] * (rank - given)], 0))


def value_range(values: tf.Tensor) -> tuple[tf.Tensor, str, tf.Tensor]:
    """The smallest and the largest value, for the message of `require`."""
    return tf.reduce_min(values), "to", tf.reduce_max(values)


def in_shape(targets: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Targets that must have the shape of the outputs."""
    if targets.shape != shape:
        raise ValueError(
            f"With this loss the targets must have the shape of the outputs, {shape}. "
            f"Received: y of shape {targets.shape}"
        )
    return targets


def from_one_hot(targets: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The places of the ones in targets `(..., classes)` of which some count."""
    # Those that do not count are often empty, as in `fit`.
    rows = targets[counted]
    if not (((rows == 0) | (rows == 1)).all() and (rows.sum(axis=-1) == 1).all()):
        raise ValueError(
            "Only one-hot rows, a single 1 among zeros, can be scored. Received: other targets"
        )
    return targets.argmax(axis=-1)
