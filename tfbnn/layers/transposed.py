"""Transposed convolutions: from few places to many, as decoders and generators do."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.convolution import AbstractWindowed, per_axis
from tfbnn.layers.linear_maps import Windowed

_registered = keras.saving.register_keras_serializable("tfbnn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransposedConvolution(Windowed):
    """The gradient of a convolution in its inputs.

    A kernel is `(*kernel_size, filters, channels)`: the last axis but one tells outputs apart.
    """

    filters: int
    output_padding: tuple[int, ...] | None

    def __call__(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        padding = self.output_padding and list(self.output_padding)
        return keras.ops.conv_transpose(
            inputs,
            kernel,
            list(self.strides),
            self.padding,
            padding,
            self.data_format,
            list(self.dilation_rate),
        )

    def kernel_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        return (*self.kernel_size, self.filters, self.channels(input_shape))

    def output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        kernel = keras.KerasTensor(self.kernel_shape(input_shape))
        return self(keras.KerasTensor(tuple(input_shape)), kernel).shape

    def summed_axes(self, kernel_shape: Sequence[int]) -> tuple[int, ...]:
        return (*range(self.rank), self.rank + 1)


class AbstractTransposedConvolution(AbstractWindowed):
    """`activation(transposed_convolution(inputs, kernel) + bias)` with a random kernel.

    Args:
        filters: Number of output channels, positive.
        kernel_size, strides, data_format, dilation_rate: See `AbstractConvolution`.
        padding: `"valid"` or `"same"`.
        output_padding: Places added at one side of the outputs, a whole number or one per
            spatial axis, less than the strides; None: none.
        activation: Activation function, as in Keras.
        **kwargs: Those of `tfbnn.layers.AbstractLinearLayer`, such as `estimator="flipout"`.

    Input shape:
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with channels first.

    Output shape:
        `(batch, *new_spatial, filters)`, or `(batch, filters, *new_spatial)`.

    Raises:
        ValueError: If an argument is out of its range or a name is unknown.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Conv2DTranspose(4, 3, strides=2, padding="same")
    >>> layer(np.ones((2, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 16, 16, 4])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        output_padding: int | Sequence[int] | None = None,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        **kwargs: Any,
    ):
        window = kernel_size, strides, padding, data_format, dilation_rate
        super().__init__(*window, activation=activation, **kwargs)
        self.filters = arguments.count("filters", filters)
        if output_padding is not None:
            output_padding = per_axis("output_padding", output_padding, self.rank, 0)
            if any(p >= s for p, s in zip(output_padding, self.strides, strict=True)):
                raise ValueError(
                    "`output_padding` must be less than `strides` along each axis. Received: "
                    f"output_padding={output_padding}, strides={self.strides}"
                )
        self.output_padding = output_padding

    @property
    def linear_map(self) -> TransposedConvolution:
        return TransposedConvolution.of(self)

    @property
    def _paddings(self) -> tuple[str, ...]:
        return ("valid", "same")

    def get_config(self) -> dict[str, Any]:
        own = {"filters": self.filters, "output_padding": self.output_padding}
        return {**super().get_config(), **own}


@_registered
class Conv1DTranspose(AbstractTransposedConvolution):
    """`AbstractTransposedConvolution` over one spatial axis."""

    rank = 1


@_registered
class Conv2DTranspose(AbstractTransposedConvolution):
    """`AbstractTransposedConvolution` over two spatial axes."""

    rank = 2
