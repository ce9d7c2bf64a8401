"""Linear maps: what a layer does with a kernel, whatever law the kernel has.

A map is linear in its input and in its kernel; that is all an estimator needs of it. The dimension
of a convolution is an argument.
"""

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Dense:
    """`f(x, w) = x @ w` over the last axis."""

    units: int

    def __call__(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return keras.ops.matmul(inputs, kernel)

    def kernel_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        """Shape of the kernel, `(inputs, units)`."""
        return (input_shape[-1], self.units)

    def add_bias(self, outputs: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """`outputs` plus a bias of shape `(units,)`."""
        return tf.nn.bias_add(outputs, tf.cast(bias, outputs.dtype))

    def bias_shape(self, rank: int) -> tuple[int, ...]:
        """Shape in which a bias of shape `(units,)` is added to outputs of rank `rank`."""
        return (1,) * (rank - 1) + (self.units,)

    def signs_shape(self, shape: tf.Tensor) -> tf.Tensor:
        """Shape of Flipout's signs for a tensor of `shape`: one per example and feature.

        The rows of an example share the kernel, so its pseudo-independent copy must be shared too.
        """
        ones = tf.ones([tf.size(shape) - 2], tf.int32)
        return tf.concat([shape[:1], ones, shape[-1:]], 0)

    def shares_kernel(self, inputs: tf.Tensor) -> bool:
        """Whether several rows of one example go through the same kernel."""
        return len(inputs.shape) > 2

    def output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Shape of the outputs."""
        return (*input_shape[:-1], self.units)

    def with_outputs(self, count: int) -> "Dense":
        """The same map with another number of outputs."""
        return dataclasses.replace(self, units=count)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """`f(x, w) = convolution(x, w)` over `rank` spatial axes.

    Args: those of Keras' convolution layers, tuples of length `rank` where Keras takes tuples.
    """

    rank: int
    filters: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    data_format: str
    dilation_rate: tuple[int, ...]
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

    def kernel_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        """Shape of the kernel, `(*kernel_size, channels / groups, filters)`."""
        channels = input_shape[self.channel_axis]
        if channels is None or channels % self.groups:
            raise ValueError(
                "The number of input channels must be known and divisible by `groups`. "
                f"Received: groups={self.groups}, input_shape={tuple(input_shape)}"
            )
        return (*self.kernel_size, channels // self.groups, self.filters)

    def add_bias(self, outputs: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """`outputs` plus a bias of shape `(filters,)`."""
        # The gradient of a broadcast addition is a sum several times slower than this one's.
        data_format = "NC..." if self.channel_axis == 1 else "N...C"
        return tf.nn.bias_add(outputs, tf.cast(bias, outputs.dtype), data_format)

    def bias_shape(self, rank: int) -> tuple[int, ...]:
        """Shape in which a bias of shape `(filters,)` is added to outputs of rank `rank`."""
        shape = [1] * rank
        shape[self.channel_axis] = self.filters
        return tuple(shape)

    def signs_shape(self, shape: tf.Tensor) -> tf.Tensor:
        """Shape of Flipout's signs for a tensor of `shape`: one per example and channel.

        The kernel is shared over space, so its pseudo-independent copy must be shared too.
        """
        ones = tf.ones([self.rank], tf.int32)
        batch, channels = shape[:1], shape[self.channel_axis][tf.newaxis]
        if self.channel_axis == 1:
            return tf.concat([batch, channels, ones], 0)
        return tf.concat([batch, ones, channels], 0)

    def shares_kernel(self, inputs: tf.Tensor) -> bool:
        """Whether several patches of one example go through the same kernel: always."""
        del inputs
        return True

    def output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Shape of the outputs."""
        kernel_shape = self.kernel_shape(input_shape)
        # Keras' symbolic convolution wants the channels of one group; the outputs are the same.
        one_group = list(input_shape)
        one_group[self.channel_axis] = kernel_shape[-2]
        return self(keras.KerasTensor(tuple(one_group)), keras.KerasTensor(kernel_shape)).shape

    def with_outputs(self, count: int) -> "Convolution":
        """The same map with another number of filters."""
        return dataclasses.replace(self, filters=count)

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in inputs and outputs."""
        return 1 if self.data_format == "channels_first" else -1

    def _pad_past(self, inputs: tf.Tensor) -> tf.Tensor:
        past = (self.dilation_rate[0] * (self.kernel_size[0] - 1), 0)
        steps_last = self.data_format == "channels_first"
        padding = [(0, 0), (0, 0), past] if steps_last else [(0, 0), past, (0, 0)]
        return keras.ops.pad(inputs, padding)


@dataclasses.dataclass(frozen=True)
class DepthwiseConvolution:
    """A convolution of each channel by itself, with a kernel `(*size, channels, multiplier)`.

    Args: those of Keras' depthwise convolution layers.
    """

    depth_multiplier: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    data_format: str
    dilation_rate: tuple[int, ...]

    def __call__(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        # Keras takes tuples here.
        return keras.ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
