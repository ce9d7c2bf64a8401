"""Linear maps: what a layer does with a kernel, whatever law the kernel has.

A map is linear in its input and in its kernel; that is all an estimator needs of it. It says as
well what pruning and export ask of a kernel, so that nobody asks which map it is. The dimension of
a convolution is an argument.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf


class LinearMap(abc.ABC):
    """`f(x, w)`, linear in the inputs `x` and in the kernel `w`."""

    is_matrix_product = False
    """Whether it is `x @ w`, for which runtimes have kernels of few bits."""
    has_rows_and_columns = False
    """Whether a kernel is `(..., inputs, outputs)`, and every output sums over all axes but the
    last: then variances may be rows times columns, and units have rows and columns to prune."""
    channel_axis = -1
    """The axis of the features in inputs and outputs."""

    @classmethod
    def of(cls, layer: Any) -> Self:
        """The map of a layer whose attributes have the names of its fields."""
        return cls(**{field.name: getattr(layer, field.name) for field in dataclasses.fields(cls)})

    @abc.abstractmethod
    def __call__(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """`f(inputs, kernel)`, for a kernel with any number of outputs."""

    @abc.abstractmethod
    def kernel_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        """Shape of the kernel."""

    @abc.abstractmethod
    def output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Shape of the outputs."""

    @abc.abstractmethod
    def signs_shape(self, shape: tf.Tensor) -> tf.Tensor:
        """Shape of Flipout's signs for a tensor of `shape`: one per example and feature.

        Where one kernel serves many places of an example, its pseudo-independent copy must too.
        """

    @abc.abstractmethod
    def shares_kernel(self, inputs: tf.Tensor) -> bool:
        """Whether several places of one example go through the same kernel."""

    def summed_axes(self, kernel_shape: Sequence[int]) -> tuple[int, ...]:
        """The axes of the kernel that one output sums over; the others tell outputs apart."""
        return tuple(range(len(kernel_shape) - 1))

    def fan_in(self, kernel_shape: Sequence[int]) -> int:
        """Number of weights that one output sums over."""
        return math.prod(kernel_shape[axis] for axis in self.summed_axes(kernel_shape))

    def num_outputs(self, kernel_shape: Sequence[int]) -> int:
        """Number of features of the outputs, which is the size of a bias."""
        return math.prod(kernel_shape) // self.fan_in(kernel_shape)

    def has_blocks(self, kernel_shape: Sequence[int]) -> bool:
        """Whether neighbours along the last axis but one are inputs of one output."""
        return len(kernel_shape) - 2 in self.summed_axes(kernel_shape)

    def bias_shape(self, rank: int) -> tuple[int, ...]:
        """Shape, with one -1, in which a bias is added to outputs of rank `rank`."""
        shape = [1] * rank
        shape[self.channel_axis] = -1
        return tuple(shape)

    def add_bias(self, outputs: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """`outputs` plus a bias of shape `(num_outputs,)`."""
        # The gradient of a broadcast addition is a sum several times slower than this one's.
        data_format = "NC..." if self.channel_axis == 1 else "N...C"
        return tf.nn.bias_add(outputs, tf.cast(bias, outputs.dtype), data_format)


@dataclasses.dataclass(frozen=True)
class Dense(LinearMap):
    """`f(x, w) = x @ w` over the last axis, with a kernel `(inputs, units)`."""

    units: int

    is_matrix_product = True
    has_rows_and_columns = True

    def __call__(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return keras.ops.matmul(inputs, kernel)

    def kernel_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        return (input_shape[-1], self.units)

    def output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def signs_shape(self, shape: tf.Tensor) -> tf.Tensor:
        ones = tf.ones([tf.size(shape) - 2], tf.int32)
        return tf.concat([shape[:1], ones, shape[-1:]], 0)

    def shares_kernel(self, inputs: tf.Tensor) -> bool:
        return len(inputs.shape) > 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windowed(LinearMap):
    """A map that looks through a window at `rank` spatial axes.

    Args: those of Keras' convolution layers, tuples of length `rank` where Keras takes tuples.
    """

    rank: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    data_format: str
    dilation_rate: tuple[int, ...]

    @property
    def channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else -1

    def signs_shape(self, shape: tf.Tensor) -> tf.Tensor:
        ones = tf.ones([self.rank], tf.int32)
        batch, channels = shape[:1], shape[self.channel_axis][tf.newaxis]
        if self.channel_axis == 1:
            return tf.concat([batch, channels, ones], 0)
        return tf.concat([batch, ones, channels], 0)

    def shares_kernel(self, inputs: tf.Tensor) -> bool:
        del inputs
        return True

    def channels(self, input_shape: Sequence[int | None]) -> int:
        """Number of channels of the inputs."""
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ValueError(
                "The number of input channels must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        return channels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution(Windowed):
    """`f(x, w) = convolution(x, w)`, with a kernel `(*kernel_size, channels / groups, filters)`."""

    filters: int
    groups: int

    def __call__(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if self.padding == "causal":
            inputs = self._pad_past(inputs)
        return keras.ops.conv(
            inputs,
            kernel,
            strides=list(self.strides),
            padding="valid" if self.padding == "causal" else self.padding,
            data_format=self.data_format,
            dilation_rate=list(self.dilation_rate),
        )

    @property
    def has_rows_and_columns(self) -> bool:
        return self.groups == 1

    def kernel_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        channels = self.channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                "The number of input channels must be divisible by `groups`. "
                f"Received: groups={self.groups}, input_shape={tuple(input_shape)}"
            )
        return (*self.kernel_size, channels // self.groups, self.filters)

    def output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        kernel_shape = self.kernel_shape(input_shape)
        # Keras' symbolic convolution wants the channels of one group; the outputs are the same.
        one_group = list(input_shape)
        one_group[self.channel_axis] = kernel_shape[-2]
        return self(keras.KerasTensor(tuple(one_group)), keras.KerasTensor(kernel_shape)).shape

    def _pad_past(self, inputs: tf.Tensor) -> tf.Tensor:
        past = (self.dilation_rate[0] * (self.kernel_size[0] - 1), 0)
        steps_last = self.data_format == "channels_first"
        padding = [(0, 0), (0, 0), past] if steps_last else [(0, 0), past, (0, 0)]
        return keras.ops.pad(inputs, padding)
