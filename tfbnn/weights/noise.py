"""Random numbers: the only place where the package draws any.

Everything is counter-based (Philox): the same seed gives the same numbers on the same machine, in
eager mode, in a graph and under XLA. Philox is named because the automatic choice under XLA on a
CPU is about 35 times slower.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

_ALGORITHM = "philox"


def standard_normal(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Independent `N(0, 1)` draws.

    Args:
        shape: Shape of the result.
        seed: An integer tensor of shape `(2,)`.

    Returns:
        A float32 tensor.

    Example:

    >>> from tfbnn.weights import noise
    >>> noise.standard_normal((2, 3), noise.as_seed(1)).shape
    TensorShape([2, 3])
    """
    return tf.random.stateless_normal(shape, seed, alg=_ALGORITHM)


def rademacher(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor, dtype: Any) -> tf.Tensor:
    """Independent fair signs, -1 or +1: mean 0, variance 1.

    Args:
        shape: Shape of the result.
        seed: An integer tensor of shape `(2,)`.
        dtype: Floating-point type of the result.

    Returns:
        A tensor of -1 and +1.

    Example:

    >>> from tfbnn.weights import noise
    >>> sorted(set(noise.rademacher((100,), noise.as_seed(1), "float32").numpy().tolist()))
    [-1.0, 1.0]
    """
    bits = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.int32, alg=_ALGORITHM
    )
    return tf.cast(2 * tf.bitwise.bitwise_and(bits, 1) - 1, dtype)


def as_seed(seed: int) -> tf.Tensor:
    """The seed tensor of shape `(2,)` that the whole number `seed` stands for."""
    return tf.constant([seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF], tf.int64)


def fold_in(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """A seed for item `number` of a series, independent of the seeds of the other items."""
    return tf.random.experimental.stateless_fold_in(seed, number, alg=_ALGORITHM)


def split(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """`count` independent seeds made from one."""
    return tf.unstack(tf.random.experimental.stateless_split(seed, count, alg=_ALGORITHM))


def next_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
    """The next seed of a layer's generator, another one on each replica.

    Replicas of a model share the state of its seed generators. Without the replica's number in the
    seed they would all draw the same noise, and more replicas would not reduce its variance.
    """
    seed = tf.cast(tf.convert_to_tensor(generator.next()), tf.int64)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return seed
    return fold_in(seed, replica.replica_id_in_sync_group)
