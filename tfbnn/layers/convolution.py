"""Convolution layers in one, two and three dimensions."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfbnn import arguments
from tfbnn.layers import linear_maps
from tfbnn.layers.linear_layer import AbstractLinearLayer

_DATA_FORMATS = ("channels_last", "channels_first")
_registered = keras.saving.register_keras_serializable("tfbnn")


class AbstractWindowed(AbstractLinearLayer):
    """A layer that looks through a window at `rank` spatial axes.

    Args: those of Keras' convolution layers; see `AbstractConvolution`.
    """

    rank: int

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_size = per_axis("kernel_size", kernel_size, self.rank)
        self.strides = per_axis("strides", strides, self.rank)
        self.padding = arguments.one_of("padding", _lower(padding), self._paddings)
        data_format = keras.config.image_data_format() if data_format is None else data_format
        self.data_format = arguments.one_of("data_format", _lower(data_format), _DATA_FORMATS)
        self.dilation_rate = per_axis("dilation_rate", dilation_rate, self.rank)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "`strides` and `dilation_rate` cannot both be above 1. "
                f"Received: strides={self.strides}, dilation_rate={self.dilation_rate}"
            )

    @property
    def _paddings(self) -> tuple[str, ...]:
        return ("valid", "same", "causal") if self.rank == 1 else ("valid", "same")

    def _accepted_inputs(self, input_shape: tuple[int | None, ...]) -> keras.InputSpec:
        axis = self.linear_map.channel_axis
        return keras.InputSpec(ndim=self.rank + 2, axes={axis: input_shape[axis]})

    def get_config(self) -> dict[str, Any]:
        names = ("kernel_size", "strides", "padding", "data_format", "dilation_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class AbstractConvolution(AbstractWindowed):
    """`activation(convolution(inputs, kernel) + bias)` with a random kernel.

    Args:
        filters: Number of output channels, positive.
        kernel_size: Size of the window, a whole number or one per spatial axis.
        strides: Step of the window, likewise.
        padding: `"valid"`, `"same"`, or in one dimension `"causal"`.
        data_format: `"channels_last"` or `"channels_first"`; that of the Keras configuration by
            default. On a CPU `"channels_first"` needs `jit_compile=True`.
        dilation_rate: Spacing of the window, a whole number or one per spatial axis.
        groups: Number of groups that the channels are split into. On a CPU more than one needs
            `jit_compile=True` in training.
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
    >>> layer = tfbnn.layers.Conv2D(4, 3, activation="relu", estimator="reparameterization")
    >>> layer(np.ones((2, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 6, 4])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
        activation: Any = None,
        **kwargs: Any,
    ):
        window = kernel_size, strides, padding, data_format, dilation_rate
        super().__init__(*window, activation=activation, **kwargs)
        self.filters = arguments.count("filters", filters)
        self.groups = arguments.count("groups", groups)
        if self.filters % self.groups:
            raise ValueError(
                "`filters` must be divisible by `groups`. "
                f"Received: filters={self.filters}, groups={self.groups}"
            )

    @property
    def linear_map(self) -> linear_maps.Convolution:
        return linear_maps.Convolution.of(self)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "groups": self.groups}


def per_axis(name: str, value: int | Sequence[int], rank: int, minimum: int = 1) -> tuple[int, ...]:
    """A whole number for each of `rank` axes, from one for all, or from as many."""
    several = isinstance(value, list | tuple) or np.ndim(value) == 1
    check = functools.partial(arguments.count, minimum=minimum)
    values = tuple(arguments.listed(name, value if several else [value] * rank, check))
    if len(values) != rank:
        raise ValueError(
            f"`{name}` must be a whole number of at least {minimum}, or {rank} of them. "
            f"Received: {name}={value}"
        )
    return values


def _lower(value: Any) -> Any:
    """Names are the same in capitals, as in Keras."""
    return value.lower() if isinstance(value, str) else value


@_registered
class Conv1D(AbstractConvolution):
    """`AbstractConvolution` over one spatial axis."""

    rank = 1


@_registered
class Conv2D(AbstractConvolution):
    """`AbstractConvolution` over two spatial axes."""

    rank = 2


@_registered
class Conv3D(AbstractConvolution):
    """`AbstractConvolution` over three spatial axes."""

    rank = 3
