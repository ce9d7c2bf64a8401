"""Tracing: how functions are traced, and which parts of a step XLA compiles.

A tensor of weights is megabytes. Each operation of TensorFlow reads and writes all of it, so an
element-wise formula of twenty operations takes twenty passes through memory; XLA makes one or two
of them. Matrix products gain nothing, and a step compiled as a whole computes the noise again in
every place that uses it. So the element-wise parts are compiled, one by one, and TensorFlow runs
the rest. A model compiled with `jit_compile=True` is compiled as a whole, these parts with it.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.ops import control_flow_util

# Number of weights from which on a compiled pass saves more than its compilation costs in a short
# training run.
LARGE = 2**15


def traced(function: Callable[..., Any], **options: Any) -> Any:
    """A `tf.function` that runs what is written, as Keras' own do: AutoGraph rewrites nothing.

    AutoGraph gives up, in silence but for a line in the log, where it meets what it does not know,
    such as a warning of a new Python that is an error by the filters of the user. So branches and
    loops on tensors are `tf.cond` and `tf.map_fn`.
    """
    # TensorFlow counts the tracings of a code object over all its functions and would warn of too
    # many; of a partial it counts each on its own.
    return tf.function(functools.partial(function), autograph=False, **options)


def compiled(function: Callable[..., Any]) -> Any:
    """A function of tensors, compiled by XLA once for each combination of their shapes.

    An integer tensor may set the shape of the result.
    """
    return traced(function, jit_compile=True)


def inside_xla() -> bool:
    """Whether the function being traced is part of one that XLA compiles."""
    # TensorFlow sets this context while it traces, and offers no public question about it.
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def kept(tensor: tf.Tensor) -> tf.Tensor:
    """`tensor`, which XLA computes once and keeps, where it would compute it in every use."""
    return xla.optimization_barrier(tensor)[0]
