"""The optimizer's update, in one pass over each variable.

A Bayesian layer has twice the variables of an ordinary one, and Keras' Adam takes about ten passes
through memory over each. Compiled, any optimizer of Keras takes one for each of its slots.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn.weights.compilation import LARGE, compiled, inside_xla


def apply_gradients(
    optimizer: keras.optimizers.Optimizer, gradients: list[Any], variables: list[Any]
) -> None:
    """`optimizer.apply(gradients, variables)`, compiled where that is possible and pays.

    Replicas of a distributed model must talk to each other within the update, which a compiled
    function cannot do. In eager mode every step would be compiled anew.

    Args:
        optimizer: A Keras optimizer.
        gradients: One for each variable.
        variables: Trainable Keras variables.
    """
    optimizer.build(variables)
    known = all(isinstance(gradient, tf.Tensor) for gradient in gradients)
    if known and _pays(variables) and not tf.executing_eagerly() and not inside_xla():
        update = compiled(lambda *tensors: optimizer.apply(list(tensors), variables))
        update(*gradients)
    else:
        optimizer.apply(gradients, variables)


def _pays(variables: list[Any]) -> bool:
    one_replica = tf.distribute.get_strategy().num_replicas_in_sync == 1
    return one_replica and sum(math.prod(v.shape) for v in variables) >= LARGE
