"""Functions of batches, traced with an unknown number of rows.

What has the same size whatever the batch is not a matter of its rows; only so is it seen.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfbnn.weights.tracing import traced


class AnyRows:
    """A function of a batch and other tensors, traced once for each shape of a row.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self._traced: dict[str, Any] = {}

    def __call__(self, batch: Any, *others: tf.Tensor) -> Any:
        specs = tf.nest.map_structure(
            lambda one: tf.TensorSpec((None, *one.shape[1:]), one.dtype), batch
        )
        key = str(specs)
        if key not in self._traced:
            signature = [specs, *(tf.TensorSpec(one.shape, one.dtype) for one in others)]
            self._traced[key] = traced(self._function, input_signature=signature)
        return self._traced[key](batch, *others)
