"""Schedules: how the weight of the KL changes during training. None, a constant, is the ELBO.

A schedule multiplies `beta / num_examples`. It is never a default: with one, single steps do not
follow the gradient of the ELBO.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.training.named_objects import named_object

# So many epochs, times as many batches, float32 can hold.
_MOST_EPOCHS = 1e9


@keras.saving.register_keras_serializable("tfbnn.schedules")
class LinearWarmUp:
    """KL warm-up: the factor rises linearly from `1 / steps` to 1 and stays there.

    Args:
        epochs: Number of epochs until the factor is 1, positive.

    Raises:
        ValueError: If `epochs` is not.

    Example:

    >>> import tfbnn
    >>> schedule = tfbnn.schedules.LinearWarmUp(epochs=2)
    >>> [float(schedule(step, 2)) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]

    Reference:
        Sonderby et al. 2016, "Ladder Variational Autoencoders", sec. 2.3.
    """

    def __init__(self, epochs: float):
        self.epochs = arguments.real_number("epochs", epochs, 0, _MOST_EPOCHS, exclusive=True)

    def __call__(self, step: Any, num_batches: Any) -> tf.Tensor:
        steps = self.epochs * tf.cast(num_batches, tf.float32)
        return tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / steps)

    def get_config(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LinearWarmUp":
        return cls(**config)


@keras.saving.register_keras_serializable("tfbnn.schedules")
class MinibatchWeights:
    """Blundell's minibatch weights: the first batches of an epoch carry most of the KL.

    Batch `i` of `M` has the share `2**(M - i) / (2**M - 1)` of the KL, in place of `1 / M`; the
    factor is `M` times that, written `M * 2**-i / (1 - 2**-M)`, which does not overflow. Over an
    epoch the factors average to 1.

    Example:

    >>> import tfbnn
    >>> schedule = tfbnn.schedules.MinibatchWeights()
    >>> [round(float(schedule(step, 2)), 4) for step in range(3)]
    [1.3333, 0.6667, 1.3333]

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 3.4, eq. 9.
    """

    def __call__(self, step: Any, num_batches: Any) -> tf.Tensor:
        batches = tf.cast(num_batches, tf.float32)
        position = tf.math.floormod(tf.cast(step, tf.float32), batches) + 1.0
        return batches * tf.pow(2.0, -position) / (1.0 - tf.pow(2.0, -batches))

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MinibatchWeights":
        return cls(**config)


SCHEDULES = {"minibatch_weights": MinibatchWeights()}
"""The schedules `get` knows by name."""


def get(identifier: Any) -> Any:
    """The schedule that an object, a name in `SCHEDULES` or a configuration stands for.

    A schedule of your own is an object with `get_config` and a call `(step, num_batches)`, which
    gives a finite number of at least 0; the first step is tried here.

    Raises:
        ValueError: If it stands for none.
    """
    return named_object("identifier", identifier, SCHEDULES, _tried, "tfbnn.schedules")


def _tried(schedule: Any) -> Any:
    # A class is callable too.
    if isinstance(schedule, type) or not hasattr(schedule, "get_config"):
        raise TypeError("it is no such object")
    with tf.init_scope():
        factor = float(schedule(0, 1))
    if not 0 <= factor < np.inf:
        raise ValueError(f"its first factor is {factor}")
    return schedule
