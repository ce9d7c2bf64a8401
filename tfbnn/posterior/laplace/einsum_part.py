"""The linear part of `EinsumDense`, which attention is made of."""

import math
from typing import Any

import tensorflow as tf

from tfbnn.posterior.laplace.linear_parts import AbstractLinearPart


class EinsumPart(AbstractLinearPart):
    """`EinsumDense`, such as `abc,cde->abde`.

    An axis of the kernel that is summed over is one of inputs, one that is in the outputs alone one
    of outputs, and one that is in all three one of groups.
    """

    def __init__(self, layer: Any):
        super().__init__(layer)
        self._inputs, self._kernel, self._outputs = _labels(layer)
        inputs, kernel, outputs = map(set, (self._inputs, self._kernel, self._outputs))
        self._groups = _those(self._kernel, inputs & outputs)
        self._summed = _those(self._kernel, inputs - outputs)
        self._made = _those(self._kernel, outputs - inputs)
        self._places = _those(self._outputs, inputs - kernel)
        known = inputs <= kernel | outputs and kernel <= inputs | outputs
        first = self._inputs[0] == self._outputs[0] == self._places[:1]
        # A bias of some axes is one number for several lines of the matrix.
        biased = self.bias is None or set(self._bias) == set(self._groups + self._made)
        if not (known and first and biased):
            raise ValueError(f"the equation {layer.equation!r}, bias axes {layer.bias_axes!r}")

    @property
    def _bias(self) -> str:
        return _those(self._outputs, set(self.layer.bias_axes or ""))

    @property
    def kernel_shape(self) -> tuple[int, int, int]:
        sizes = self._sizes
        return tuple(
            math.prod(sizes[one] for one in axes)
            for axes in (self._groups, self._summed, self._made)
        )

    @property
    def _sizes(self) -> dict[str, int]:
        return dict(zip(self._kernel, self.kernel.shape, strict=True))

    def kernel_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        axes = self._groups + self._summed + self._made
        return tf.reshape(tf.einsum(f"{self._kernel}->{axes}", kernel), self.kernel_shape)

    def kernel_of(self, matrix: tf.Tensor) -> tf.Tensor:
        axes = self._groups + self._summed + self._made
        split = tf.reshape(matrix, [self._sizes[one] for one in axes])
        return tf.einsum(f"{axes}->{self._kernel}", split)

    def matrix(self, values: list[tf.Tensor]) -> tf.Tensor:
        if self.bias is None:
            return super().matrix(values)
        kernel, bias = values
        sizes = [self._sizes[one] for one in self._bias]
        axes = self._groups + self._made
        return super().matrix([kernel, tf.einsum(f"{self._bias}->{axes}", tf.reshape(bias, sizes))])

    def values(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        if self.bias is None:
            return super().values(matrix)
        kernel, bias = super().values(matrix)
        axes = self._groups + self._made
        bias = tf.reshape(bias, [self._sizes[one] for one in axes])
        return [kernel, tf.reshape(tf.einsum(f"{axes}->{self._bias}", bias), self.bias.shape)]

    def rows(self, inputs: tf.Tensor) -> tf.Tensor:
        return self._sorted(inputs, self._inputs, self._summed)

    def columns(self, outputs: tf.Tensor) -> tf.Tensor:
        return self._sorted(outputs, self._outputs, self._made)

    def _sorted(self, tensor: tf.Tensor, labels: str, last: str) -> tf.Tensor:
        places = tf.einsum(f"{labels}->{self._places}{self._groups}{last}", tensor)
        count, sizes = len(self._places), self._sizes
        known = [math.prod(sizes[one] for one in axes) for axes in (self._groups, last)]
        reshaped = tf.reshape(places, tf.concat([tf.shape(places)[:count], known], axis=0))
        return tf.ensure_shape(reshaped, [*places.shape[:count], *known])


def _those(labels: str, wanted: set[str]) -> str:
    return "".join(one for one in labels if one in wanted)


def _labels(layer: Any) -> tuple[str, str, str]:
    """The axes of inputs, kernel and outputs, a letter for each of those that `...` stands for."""
    left, outputs = layer.equation.replace(" ", "").split("->")
    inputs, kernel = left.split(",")
    if "..." in left:
        rank = layer.input_spec.ndim - len(inputs.replace("...", ""))
        free = [one for one in "abcdefghijklmnopqrstuvwxyz" if one not in layer.equation]
        inputs, outputs = (one.replace("...", "".join(free[:rank])) for one in (inputs, outputs))
    if len(set(inputs)) != len(inputs) or len(set(kernel)) != len(kernel):
        raise ValueError(f"the equation {layer.equation!r}, with an axis twice")
    return inputs, kernel, outputs
