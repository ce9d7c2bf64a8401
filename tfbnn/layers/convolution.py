"""Convolution layers: the convolution map in one, two and three dimensions with each estimator."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfbnn import arguments
from tfbnn.layers import linear_maps
from tfbnn.layers.variational import AbstractVariationalLayer

_DATA_FORMATS = ("channels_last", "channels_first")


class AbstractConvolution(AbstractVariationalLayer):
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
        **kwargs: Those of `tfbnn.layers.AbstractVariationalLayer`.

    Input shape:
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with channels first.

    Output shape:
        `(batch, *new_spatial, filters)`, or `(batch, filters, *new_spatial)`.

    Raises:
        ValueError: If an argument is out of its range or a name is unknown.
    """

    rank: int

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
        super().__init__(activation=activation, **kwargs)
        self.filters = arguments.count("filters", filters)
        self.kernel_size = _per_axis("kernel_size", kernel_size, self.rank)
        self.strides = _per_axis("strides", strides, self.rank)
        self.padding = arguments.one_of("padding", _lower(padding), self._paddings)
        data_format = keras.config.image_data_format() if data_format is None else data_format
        self.data_format = arguments.one_of("data_format", _lower(data_format), _DATA_FORMATS)
        self.dilation_rate = _per_axis("dilation_rate", dilation_rate, self.rank)
        self.groups = arguments.count("groups", groups)
        self._check_arguments()

    @property
    def _paddings(self) -> tuple[str, ...]:
        return ("valid", "same", "causal") if self.rank == 1 else ("valid", "same")

    @property
    def linear_map(self) -> linear_maps.Convolution:
        return linear_maps.Convolution(
            self.rank,
            self.filters,
            self.kernel_size,
            self.strides,
            self.padding,
            self.data_format,
            self.dilation_rate,
            self.groups,
        )

    def _accepted_inputs(self, input_shape: tuple[int | None, ...]) -> keras.InputSpec:
        axis = self.linear_map.channel_axis
        return keras.InputSpec(ndim=self.rank + 2, axes={axis: input_shape[axis]})

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
        }

    def _check_arguments(self) -> None:
        if self.filters % self.groups:
            raise ValueError(
                "`filters` must be divisible by `groups`. "
                f"Received: filters={self.filters}, groups={self.groups}"
            )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "`strides` and `dilation_rate` cannot both be above 1. "
                f"Received: strides={self.strides}, dilation_rate={self.dilation_rate}"
            )


def _per_axis(name: str, value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    several = isinstance(value, list | tuple) or np.ndim(value) == 1
    values = tuple(arguments.listed(name, value if several else [value] * rank, arguments.count))
    if len(values) != rank:
        raise ValueError(
            f"`{name}` must be a positive whole number or {rank} of them. Received: {name}={value}"
        )
    return values


def _lower(value: Any) -> Any:
    """Names are the same in capitals, as in Keras."""
    return value.lower() if isinstance(value, str) else value


@keras.saving.register_keras_serializable("tfbnn")
class Convolution1DReparameterization(AbstractConvolution):
    """1D convolution trained with one weight draw per batch. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution1DReparameterization(4, 3)
    >>> layer(np.ones((2, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 4])
    """

    rank = 1
    estimator = "reparameterization"


@keras.saving.register_keras_serializable("tfbnn")
class Convolution1DLocalReparameterization(AbstractConvolution):
    """1D convolution trained with noise on the outputs. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution1DLocalReparameterization(4, 3)
    >>> layer(np.ones((2, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 4])
    """

    rank = 1
    estimator = "local_reparameterization"


@keras.saving.register_keras_serializable("tfbnn")
class Convolution1DFlipout(AbstractConvolution):
    """1D convolution trained with Flipout. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution1DFlipout(4, 3)
    >>> layer(np.ones((2, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 4])
    """

    rank = 1
    estimator = "flipout"


@keras.saving.register_keras_serializable("tfbnn")
class Convolution2DReparameterization(AbstractConvolution):
    """2D convolution trained with one weight draw per batch. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution2DReparameterization(4, 3)
    >>> layer(np.ones((2, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 6, 4])
    """

    rank = 2
    estimator = "reparameterization"


@keras.saving.register_keras_serializable("tfbnn")
class Convolution2DLocalReparameterization(AbstractConvolution):
    """2D convolution trained with noise on the outputs. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution2DLocalReparameterization(4, 3)
    >>> layer(np.ones((2, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 6, 4])
    """

    rank = 2
    estimator = "local_reparameterization"


@keras.saving.register_keras_serializable("tfbnn")
class Convolution2DFlipout(AbstractConvolution):
    """2D convolution trained with Flipout. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution2DFlipout(4, 3)
    >>> layer(np.ones((2, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 6, 4])
    """

    rank = 2
    estimator = "flipout"


@keras.saving.register_keras_serializable("tfbnn")
class Convolution3DReparameterization(AbstractConvolution):
    """3D convolution trained with one weight draw per batch. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution3DReparameterization(4, 3)
    >>> layer(np.ones((2, 8, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 6, 6, 4])
    """

    rank = 3
    estimator = "reparameterization"


@keras.saving.register_keras_serializable("tfbnn")
class Convolution3DLocalReparameterization(AbstractConvolution):
    """3D convolution trained with noise on the outputs. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution3DLocalReparameterization(4, 3)
    >>> layer(np.ones((2, 8, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 6, 6, 4])
    """

    rank = 3
    estimator = "local_reparameterization"


@keras.saving.register_keras_serializable("tfbnn")
class Convolution3DFlipout(AbstractConvolution):
    """3D convolution trained with Flipout. See `AbstractConvolution`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.Convolution3DFlipout(4, 3)
    >>> layer(np.ones((2, 8, 8, 8, 3), "float32"), training=True).shape
    TensorShape([2, 6, 6, 6, 4])
    """

    rank = 3
    estimator = "flipout"
