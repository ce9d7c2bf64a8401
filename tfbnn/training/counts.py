"""Counts: how many observations each example of a batch stands for, by its mask and its weight."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfbnn.layers.keras_internals import mask_of
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.requirements import require


def counted(
    likelihoods: list[AbstractLikelihood], targets: Any, outputs: Any, sample_weight: Any
) -> Iterator[tuple[AbstractLikelihood, Any, Any, list[Any]]]:
    """For each output its likelihood, targets, the output, and what says how much they count.

    The last are the output's mask and the weights of its rows, as far as there are any.
    """
    flat_outputs = tf.nest.flatten(outputs)
    flat_targets = tf.nest.flatten(targets)
    if len(flat_targets) != len(flat_outputs):
        raise ValueError(
            "There must be one array of targets for each output of the network. "
            f"Received: {len(flat_targets)} targets for {len(flat_outputs)} outputs"
        )
    flat_weights = tf.nest.flatten(sample_weight)
    if len(flat_weights) == 1:
        flat_weights = flat_weights * len(flat_outputs)
    for likelihood, y, output, rows in zip(
        likelihoods, flat_targets, flat_outputs, flat_weights, strict=True
    ):
        factors = mask_of(output), observations(rows)
        yield likelihood, y, output, [f for f in factors if f is not None]


def global_batch_size(batch: Any) -> tf.Tensor:
    """Number of examples in the batch, over all replicas, as a float32 scalar."""
    local = tf.cast(tf.shape(tf.nest.flatten(batch)[0])[0], tf.float32)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return local
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, local)


def observations(sample_weight: Any) -> tf.Tensor | None:
    """Sample weights, each a number of observations, if there are any."""
    if sample_weight is None:
        return None
    counts = tf.cast(tf.convert_to_tensor(sample_weight), tf.float32)
    with tf.control_dependencies(require_observations(counts)):
        return tf.identity(counts)


def require_observations(sample_weight: Any) -> list[tf.Operation]:
    """`requirements.require` that weights are numbers of observations; None passes."""
    if sample_weight is None:
        return []
    counts = tf.cast(tf.convert_to_tensor(sample_weight), tf.float32)
    return require(
        tf.math.is_finite(counts) & (counts >= 0),
        "Sample weights must be finite and not negative. Received: from",
        tf.reduce_min(counts),
        "to",
        tf.reduce_max(counts),
    )
