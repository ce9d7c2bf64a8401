"""Distribution: what a model does differently under a strategy of `tf.distribute`.

Keras 3.15 has two faults under `MultiWorkerMirroredStrategy`, and one under any mirrored strategy.
All are avoided here, so that models of tfbnn train under TensorFlow's own strategies unchanged
(`tests/training/test_distribution.py` holds the faults as expected failures, which will tell when
they are mended):

1. Before the first step Keras averages the first batch over the replicas, a tuple, which the
   multi-worker strategy does not take. `first_batch` gives Keras one replica's part instead.
2. The same average fails where replicas have different numbers of rows.
3. Keras averages the metrics of a step along axis 0, which scalars do not have. `worker_results`
   gives each an axis.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.weights.tracing import traced


def num_replicas() -> int:
    """Number of replicas that share a step: 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_number() -> Any:
    """The number of this replica among all."""
    replica = tf.distribute.get_replica_context()
    return 0 if replica is None else replica.replica_id_in_sync_group


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes take part."""
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return several and strategy.extended._in_multi_worker_mode()


def is_chief(strategy: Any = None) -> bool:
    """Whether this process is the one, of those that train together, that writes files.

    So it is where a single process trains. The strategy is by default the one in scope.

    Example:

    >>> from tfbnn.training import strategies
    >>> strategies.is_chief()
    True
    """
    strategy = strategy or tf.distribute.get_strategy()
    return bool(strategy.extended.should_save_summary)


def first_batch(epoch_iterator: Any, strategy: tf.distribute.Strategy) -> Any:
    """The part of the first batch that the first replica of this process gets."""
    for _, _, iterator in epoch_iterator:
        return local_part(next(iterator), strategy)
    return None


def local_part(batch: Any, strategy: tf.distribute.Strategy) -> Any:
    """The part of a batch that the first replica of this process gets."""
    return tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], batch)


def worker_results(results: dict[str, Any]) -> dict[str, Any]:
    """Results of a replica's step, in a form that Keras can average over workers."""
    if not is_multi_worker(tf.distribute.get_strategy()):
        return results
    return tf.nest.map_structure(lambda value: tf.expand_dims(value, 0), results)


def same_on_all_workers(number: int, strategy: tf.distribute.Strategy) -> bool:
    """Whether a whole number that each process has is the same in all. All must ask."""
    if not is_multi_worker(strategy):
        return True

    def gathered() -> tf.Tensor:
        own = tf.constant([number], tf.int64)
        return tf.distribute.get_replica_context().all_gather(own, axis=0)

    return len(set(_of_first_replica(gathered, strategy).tolist())) == 1


def mean_over_workers(numbers: np.ndarray, strategy: tf.distribute.Strategy) -> np.ndarray:
    """The mean of an array that each process has, the same for all. All must ask."""
    if not is_multi_worker(strategy):
        return numbers

    def mean() -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        return replica.all_reduce(tf.distribute.ReduceOp.MEAN, tf.constant(numbers))

    return _of_first_replica(mean, strategy)


def _of_first_replica(function: Any, strategy: tf.distribute.Strategy) -> np.ndarray:
    return local_part(strategy.run(traced(function)), strategy).numpy()
