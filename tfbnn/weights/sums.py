"""Sums: in one order, so that equal runs end in equal bits.

TensorFlow adds three or more tensors by one operation, and makes one of sums of sums. It begins
with the first of them whose memory nobody else reads any more. Where another operation reads one of
them too, that is a matter of time, and the last bits of the result are as well.
"""

from collections.abc import Sequence

import tensorflow as tf

from tfbnn.weights import tracing


def total(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of one tensor or more of one shape, in their order."""
    if tracing.inside_xla():
        # XLA keeps the order, and makes one pass of it.
        return tf.add_n(tensors)
    return tf.reduce_sum(tf.stack(tensors), axis=0)
