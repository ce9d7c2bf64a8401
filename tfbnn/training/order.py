"""Order: batches of shuffled arrays, as a function of the step alone.

Keras shuffles with a random state that a process takes with it when it ends, and that each worker
has for itself. Here the order of an epoch is a pseudo-random permutation made from the seed and the
number of the epoch: a run that starts again goes on in it, and workers that share a batch agree
about it.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.keras_internals import random_seed


def shuffled_batches(
    arrays: Any, batch_size: int, seed: int, first_step: int = 0, shuffle: bool = True
) -> tf.data.Dataset:
    """Batches of `arrays`, a structure of arrays with the same number of rows, without end.

    The first is batch `first_step`, counted over all epochs; the last of an epoch may have fewer
    than `batch_size` rows.
    """
    rows = len(tf.nest.flatten(arrays)[0])
    per_epoch = -(-rows // batch_size)

    @tf.autograph.experimental.do_not_convert
    def batch(step: tf.Tensor, arrays: Any) -> Any:
        epoch, number = step // per_epoch, step % per_epoch
        places = tf.range(number * batch_size, tf.minimum((number + 1) * batch_size, rows))
        if shuffle:
            places = tf.random.experimental.index_shuffle(
                places, seed=tf.stack([tf.cast(seed, tf.int64), epoch]), max_index=rows - 1
            )
        return tf.nest.map_structure(lambda array: tf.gather(array, places), arrays)

    steps = tf.data.Dataset.range(first_step, tf.int64.max)
    whole = tf.data.Dataset.from_tensors(arrays).repeat()
    batches = tf.data.Dataset.zip(steps, whole).map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    # Each worker makes all batches and keeps its part of each.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)


def run_batches(rows: Any, batch_size: int, first_step: int, shuffle: bool) -> tf.data.Dataset:
    """`shuffled_batches` of what `fit` is given, in an order made from Keras' seed."""
    return shuffled_batches(_plain(rows), batch_size, run_seed(), first_step, shuffle)


def run_seed() -> int:
    """The seed of `keras.utils.set_random_seed`; 0 without, because workers must agree about it."""
    return random_seed() or 0


def _plain(structure: Any) -> Any:
    """Arrays as Keras would feed them, in tuples: a list would be one tensor to `tf.data`."""
    if isinstance(structure, list | tuple):
        return tuple(map(_plain, structure))
    if isinstance(structure, dict):
        return {name: _plain(value) for name, value in structure.items()}
    if structure is None:
        return None
    array = np.asarray(structure)
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(keras.config.floatx())
    return array
