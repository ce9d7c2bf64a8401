"""Linear parts: what a layer of Keras does with its weights, as a product with a matrix.

    z[row, place, group, :] = rows[row, place, group, :] @ matrix[group]

A row is an example, a place one of several in it (a pixel, a step of a sequence, a call of a shared
layer) that see the same weights. A bias is a further line of the matrix, which reads ones.
"""

import abc
import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import variables_as
from tfbnn.layers.overriding import overridden


class AbstractLinearPart(abc.ABC):
    """What a layer does between its inputs and its activation.

    Args:
        layer: A built layer of Keras.

    Raises:
        ValueError: If it computes something else; the message says what.

    Attributes:
        kernel: The variable that is multiplied with, or None.
        bias: The variable that is added, or None.
        shape: `(groups, inputs, outputs)` of the matrix, the bias included.
    """

    # What a layer calls its weights.
    kernel_name, bias_name = "kernel", "bias"

    def __init__(self, layer: keras.Layer):
        if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
            raise ValueError("adapted or quantised")
        self.layer = layer
        self.kernel = getattr(layer, self.kernel_name, None)
        self.bias = getattr(layer, self.bias_name, None) if self.bias_name else None

    @property
    def variables(self) -> list[keras.Variable]:
        """The kernel and the bias, as far as there are any."""
        return [one for one in (self.kernel, self.bias) if one is not None]

    @property
    @abc.abstractmethod
    def kernel_shape(self) -> tuple[int, int, int]:
        """`(groups, inputs, outputs)` of the matrix without the bias."""

    @property
    def shape(self) -> tuple[int, int, int]:
        groups, inputs, outputs = self.kernel_shape
        return groups, inputs + (self.bias is not None), outputs

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @abc.abstractmethod
    def kernel_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        """A kernel in `kernel_shape`."""

    @abc.abstractmethod
    def kernel_of(self, matrix: tf.Tensor) -> tf.Tensor:
        """The inverse of `kernel_matrix`."""

    @abc.abstractmethod
    def rows(self, inputs: tf.Tensor) -> tf.Tensor:
        """What the kernel is multiplied with, `(batch, ..., groups, inputs)`."""

    @abc.abstractmethod
    def columns(self, outputs: tf.Tensor) -> tf.Tensor:
        """Outputs before the activation, `(batch, ..., groups, outputs)`, in the same places."""

    def matrix(self, values: list[tf.Tensor]) -> tf.Tensor:
        """Values of `variables` as a matrix of `shape`."""
        groups, _, outputs = self.shape
        parts, rest = [], iter(values)
        if self.kernel is not None:
            parts.append(self.kernel_matrix(next(rest)))
        if self.bias is not None:
            parts.append(tf.reshape(next(rest), (groups, 1, outputs)))
        return tf.concat(parts, axis=1)

    def values(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        """The inverse of `matrix`: a value for each of `variables`."""
        inputs, found = self.kernel_shape[1], []
        if self.kernel is not None:
            found.append(self.kernel_of(matrix[:, :inputs]))
        if self.bias is not None:
            found.append(tf.reshape(matrix[:, inputs:], self.bias.shape))
        return found

    def places(self, inputs: tf.Tensor) -> tf.Tensor:
        """`rows`, with the ones that the bias reads, in float32."""
        rows = tf.cast(self.rows(inputs), tf.float32)
        if self.bias is None:
            return rows
        return tf.concat([rows, tf.ones_like(rows[..., :1])], axis=-1)

    def before_activation(self, *args: Any, **kwargs: Any) -> tf.Tensor:
        """The layer's outputs without its activation."""
        with self._without_activation():
            return type(self.layer).call(self.layer, *args, **kwargs)

    def activated(self, outputs: tf.Tensor) -> tf.Tensor:
        """The layer's outputs, of those before the activation."""
        activation = getattr(self.layer, "activation", None)
        return outputs if activation is None else activation(outputs)

    @contextlib.contextmanager
    def _without_activation(self) -> Iterator[None]:
        if not hasattr(self.layer, "activation"):
            yield
            return
        with overridden(self.layer, activation=None):
            yield


class DensePart(AbstractLinearPart):
    """`Dense`: every place is the last axis."""

    @property
    def kernel_shape(self) -> tuple[int, int, int]:
        return (1, *self.kernel.shape)

    def kernel_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        return kernel[tf.newaxis]

    def kernel_of(self, matrix: tf.Tensor) -> tf.Tensor:
        return matrix[0]

    def rows(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[..., tf.newaxis, :]

    def columns(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs[..., tf.newaxis, :]


class EmbeddingPart(DensePart):
    """`Embedding`: the rows have a single one, whose place is all that is kept."""

    kernel_name, bias_name = "embeddings", None

    def rows(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs

    def places(self, inputs: tf.Tensor) -> tf.Tensor:
        """The places of the ones, whole numbers `(batch, ...)`."""
        return tf.cast(inputs, tf.int32)


class NormalisationPart(AbstractLinearPart):
    """A layer of normalisation: each channel times a number, plus one, is a group of its own."""

    kernel_name, bias_name = "gamma", "beta"

    @property
    def kernel_shape(self) -> tuple[int, int, int]:
        channels = math.prod(self.variables[0].shape) if self.variables else 0
        return channels, int(self.kernel is not None), 1

    def kernel_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        return tf.reshape(kernel, (-1, 1, 1))

    def kernel_of(self, matrix: tf.Tensor) -> tf.Tensor:
        return tf.reshape(matrix, self.kernel.shape)

    def rows(self, inputs: tf.Tensor) -> tf.Tensor:
        # What is normalised is what comes out where nothing is scaled or added.
        neutral = [(self.kernel, 1.0), (self.bias, 0.0)]
        with variables_as([(v, tf.fill(v.shape, n)) for v, n in neutral if v is not None]):
            rows = self._channels_last(type(self.layer).call(self.layer, inputs))
        return rows[..., tf.newaxis][..., : self.kernel_shape[1]]

    def columns(self, outputs: tf.Tensor) -> tf.Tensor:
        return self._channels_last(outputs)[..., tf.newaxis]

    def _channels_last(self, tensor: tf.Tensor) -> tf.Tensor:
        axis, rank = self.layer.axis, len(tensor.shape)
        axes = [one % rank for one in (axis if isinstance(axis, list | tuple) else [axis])]
        others = [one for one in range(rank) if one not in axes]
        moved = tf.transpose(tensor, [*others, *axes])
        shape = tf.shape(moved)[: len(others)]
        known = moved.shape[: len(others)]
        moved = tf.reshape(moved, tf.concat([shape, [self.shape[0]]], axis=0))
        return tf.ensure_shape(moved, [*known, self.shape[0]])


class RootMeanSquarePart(NormalisationPart):
    """`RMSNormalization`, which names its weight otherwise."""

    kernel_name, bias_name = "scale", None
