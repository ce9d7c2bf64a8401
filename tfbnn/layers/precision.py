"""Precision: a network computes in float32, whatever the policies of its layers are."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers import keras_internals


@contextlib.contextmanager
def in_float32(*layers: Any) -> Iterator[None]:
    """Let layers or models, and every layer inside them, compute in float32.

    Moments and exported files do: runtimes have few operations in other types. Variables stay as
    they are and are cast where they are read, also outside of a call of their layer.

    Example:

    >>> layer = keras.layers.Dense(2, dtype="float64")
    >>> layer.build((None, 3))
    >>> with in_float32(layer):
    ...     print(layer(tf.ones((1, 3))).dtype, layer.kernel.value.dtype)
    <dtype: 'float32'> <dtype: 'float32'>
    >>> layer.dtype_policy.name, layer.kernel.value.dtype
    ('float64', tf.float64)
    """
    parts = dict.fromkeys(part for layer in layers for part in keras_internals.all_layers(layer))
    changes = [change for part in parts for change in _changes(part)]
    before = [vars(owner)[name] for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            vars(owner)[name] = value
        # Layers cast their variables only if their policy has two types, or within this scope.
        with keras_internals.casting("float32"):
            yield
    finally:
        for (owner, name, _), value in zip(changes, before, strict=True):
            vars(owner)[name] = value


def _changes(layer: keras.Layer) -> Iterator[tuple[Any, str, Any]]:
    """Attributes `(owner, name, value)` with which a layer computes in float32."""
    # Lookups compute in whole numbers.
    if keras.backend.is_float_dtype(layer.compute_dtype):
        # Not by `dtype_policy`: where it is a map of policies, setting it writes into the map.
        yield layer, keras_internals.POLICY, keras.DTypePolicy("float32")
        # An `Embedding` casts nothing by itself, so that its inputs stay numbers of rows.
        yield layer, "autocast", True
    # Constants in a layer's own type, such as the statistics of an adapted `Normalization`.
    for name, value in vars(layer).items():
        # No symbolic ones, which a layer may hold from a graph that has gone.
        if isinstance(value, tf.Tensor) and value.dtype.is_floating and hasattr(value, "numpy"):
            # An array, which a graph takes for a constant; a tensor would be one of its inputs.
            yield layer, name, value.numpy().astype("float32")
    # A model casts its inputs to the types of these.
    is_input = isinstance(layer, keras.layers.InputLayer)
    for owner in [layer] if is_input else keras_internals.symbolic_inputs(layer):
        if keras.backend.is_float_dtype(owner.dtype):
            yield owner, keras_internals.TYPE, "float32"
