"""Depthwise convolution: each channel has filters of its own."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.convolution import AbstractWindowed
from tfbnn.layers.linear_maps import Windowed


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthwiseConvolution(Windowed):
    """`f(x, w)[..., c * multiplier + m] = convolution(x[..., c], w[..., c, m])`.

    The last two axes of a kernel `(*kernel_size, channels, depth_multiplier)` tell outputs apart.
    """

    depth_multiplier: int

    def __call__(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return keras.ops.depthwise_conv(
            inputs, kernel, self.strides, self.padding, self.data_format, self.dilation_rate
        )

    def kernel_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        return (*self.kernel_size, self.channels(input_shape), self.depth_multiplier)

    def output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        kernel = keras.KerasTensor(self.kernel_shape(input_shape))
        return self(keras.KerasTensor(tuple(input_shape)), kernel).shape

    def summed_axes(self, kernel_shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(range(self.rank))


@keras.saving.register_keras_serializable("tfbnn")
class DepthwiseConv2D(AbstractWindowed):
    """`activation(depthwise_convolution(inputs, kernel) + bias)` with a random kernel.

    Args:
        kernel_size, padding, data_format, dilation_rate: See `AbstractConvolution`.
        strides: Step of the window, a whole number.
        depth_multiplier: Number of filters of each channel, positive.
        activation: Activation function, as in Keras.
        **kwargs: Those of `tfbnn.layers.AbstractLinearLayer`, such as `estimator="flipout"`.

    Input shape:
        `(batch, rows, columns, channels)`, or `(batch, channels, rows, columns)`.

    Output shape:
        The same with `channels * depth_multiplier` channels.

    Raises:
        ValueError: If an argument is out of its range or a name is unknown.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu")
    >>> layer(np.ones((2, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 6, 6])
    """

    rank = 2

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        **kwargs: Any,
    ):
        window = kernel_size, strides, padding, data_format, dilation_rate
        super().__init__(*window, activation=activation, **kwargs)
        self.depth_multiplier = arguments.count("depth_multiplier", depth_multiplier)
        if len(set(self.strides)) > 1:
            raise ValueError(
                "TensorFlow's depthwise convolution has the same stride along both axes. "
                f"Received: strides={self.strides}"
            )

    @property
    def linear_map(self) -> DepthwiseConvolution:
        return DepthwiseConvolution.of(self)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "depth_multiplier": self.depth_multiplier}
