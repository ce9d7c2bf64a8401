"""The optimizer's update, in as few passes over each variable as can be.

A Bayesian layer has twice the variables of an ordinary one, and Keras' Adam takes about ten passes
through memory over each. TensorFlow has a kernel that does the same in one; any other optimizer of
Keras (but not a user's own) is compiled by XLA, which makes one pass for each of its slots.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import adam_handles, inner_of
from tfbnn.training import distribution
from tfbnn.training.step_factors import step_factors
from tfbnn.weights.tracing import LARGE, compiled, inside_xla

# Options of Keras' optimizers that add to the update, and must be off for TensorFlow's kernel.
_EXTRAS = (
    "amsgrad",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "gradient_accumulation_steps",
    "loss_scale_factor",
    "use_ema",
    "weight_decay",
)


def apply_gradients(
    optimizer: keras.optimizers.Optimizer, gradients: list[Any], variables: list[Any]
) -> None:
    """`optimizer.apply(gradients, variables)`, faster where that is possible and pays.

    Replicas of a distributed model must talk to each other within the update, which a compiled
    function cannot. In eager mode every step would be compiled anew.
    """
    if not optimizer.built:
        optimizer.build(variables)
    if not _pays(gradients, variables) or tf.executing_eagerly() or inside_xla():
        optimizer.apply(gradients, variables)
    elif _is_plain_adam(optimizer, variables):
        _apply_adam(optimizer, gradients, variables)
    elif distribution.num_replicas() > 1 or not _is_keras_own(optimizer, variables):
        # What a user wrote may call what XLA has not.
        optimizer.apply(gradients, variables)
    else:
        compiled(lambda *tensors: optimizer.apply(list(tensors), variables))(*gradients)


def _pays(gradients: list[Any], variables: list[Any]) -> bool:
    # An embedding's gradient may be sparse, and an unused variable has none.
    dense = all(isinstance(gradient, tf.Tensor) for gradient in gradients)
    return dense and sum(math.prod(v.shape) for v in variables) >= LARGE


def _is_keras_own(optimizer: keras.optimizers.Optimizer, variables: list[Any]) -> bool:
    constraints = [v.constraint for v in variables if v.constraint is not None]
    parts = [optimizer, inner_of(optimizer), *constraints]
    return all(type(part).__module__.startswith("keras.") for part in parts)


def _is_plain_adam(optimizer: keras.optimizers.Optimizer, variables: list[Any]) -> bool:
    if type(optimizer) is not keras.optimizers.Adam:
        return False
    extras = any(getattr(optimizer, name, None) for name in _EXTRAS)
    plain = all(
        variable.constraint is None
        and variable.dtype == "float32"
        and not getattr(variable, "overwrite_with_gradient", False)
        for variable in variables
    )
    return plain and not extras


def _apply_adam(optimizer: Any, gradients: list[tf.Tensor], variables: list[Any]) -> None:
    """Kingma and Ba 2015, "Adam", sec. 2, as Keras computes it, in one pass.

    Every replica updates its own copy of a variable with the sum of their gradients.
    """
    if distribution.num_replicas() > 1:
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    step = tf.cast(optimizer.iterations.value + 1, tf.float32)
    learning_rate = tf.cast(optimizer.learning_rate, tf.float32)
    factors = step_factors(optimizer)
    handles = adam_handles(optimizer, variables)
    for gradient, variable, (var, m, v) in zip(gradients, variables, handles, strict=True):
        factor = 1.0 if factors is None else factors.of(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=var,
            m=m,
            v=v,
            beta1_power=tf.pow(optimizer.beta_1, step),
            beta2_power=tf.pow(optimizer.beta_2, step),
            lr=learning_rate * factor,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=gradient,
        )
    optimizer.iterations.assign_add(1)
