"""Feeding: how batches come to a step, without waiting at the end of every epoch.

TensorFlow tunes the parallel calls and buffers of a data set in a thread of its iterator. The
thread sleeps between two looks, twice as long each time, up to a minute, and an iterator that goes
away waits for it (`python benchmarks/epochs.py`). Keras makes an iterator for every epoch and every
validation. So data sets are read without that thread here: parallel calls
that were to be tuned (`tf.data.AUTOTUNE`) are as many as the machine has processors, from the first
batch on, and buffers still grow where they run empty. Order and elements are the same.
"""

import os
import types
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfbnn.layers.keras_internals import get_data_adapter


def without_autotuning(dataset: Any) -> Any:
    """The same data set, whose iterators go away at once.

    Left as they are: one whose options say `autotune.enabled`, what a strategy has distributed
    already, and what is no data set.
    """
    if not isinstance(dataset, tf.data.Dataset) or dataset.options().autotune.enabled is not None:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    if dataset.options().autotune.initial_parallelism is None:
        options.autotune.initial_parallelism = os.cpu_count()
    return dataset.with_options(options)


def fed(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    shuffle: bool = False,
    class_weight: Any = None,
    check: Callable[..., list[tf.Operation]] | None = None,
) -> Any:
    """What Keras' `fit`, `evaluate` and `predict` read `x` through, without autotuning.

    The arguments are those of `fit`; the adapter goes to Keras in the place of all. `check` is
    given an element of the data set, and gives the requirements that it must meet
    (`requirements.require`); None: the step checks its batch itself.
    """
    # Keras' own default is to shuffle, and Keras warns of it where it cannot.
    shuffle = shuffle and not isinstance(x, tf.data.Dataset | types.GeneratorType)
    adapter = get_data_adapter(x, y, sample_weight, batch_size, steps, shuffle, class_weight)
    dataset = adapter.get_tf_dataset
    adapter.get_tf_dataset = lambda: _checked(without_autotuning(dataset()), check)
    return adapter


def _checked(dataset: Any, check: Callable[..., list[tf.Operation]] | None) -> Any:
    if check is None or not isinstance(dataset, tf.data.Dataset):
        return dataset

    @tf.autograph.experimental.do_not_convert
    def checked(*element: Any) -> Any:
        with tf.control_dependencies(check(*element)):
            # Not what is sparse or ragged.
            element = tf.nest.map_structure(
                lambda t: tf.identity(t) if isinstance(t, tf.Tensor) else t, element
            )
        return element if len(element) > 1 else element[0]

    return dataset.map(checked)
