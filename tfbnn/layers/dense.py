"""Dense layers."""

from typing import Any

import keras

from tfbnn import arguments
from tfbnn.layers import linear_maps
from tfbnn.layers.linear_layer import AbstractLinearLayer


@keras.saving.register_keras_serializable("tfbnn")
class Dense(AbstractLinearLayer):
    """`activation(inputs @ kernel + bias)` with a random kernel.

    Args:
        units: Number of outputs, positive.
        activation: Activation function, as in Keras.
        **kwargs: Those of `tfbnn.layers.AbstractLinearLayer`, such as `estimator="flipout"`.

    Input shape:
        `(batch, ..., inputs)`.

    Output shape:
        `(batch, ..., units)`.

    Raises:
        ValueError: If an argument is out of its range or a name is unknown.

    Example:

    >>> import numpy as np, tfbnn
    >>> prior = tfbnn.priors.ScaleMixture(pi=0.5, sigma1=1.0, sigma2=0.0025)
    >>> layer = tfbnn.layers.Dense(4, "relu", estimator="flipout", kernel_prior=prior)
    >>> layer(np.ones((2, 3), "float32"), training=True).shape
    TensorShape([2, 4])
    """

    def __init__(self, units: int, activation: Any = None, **kwargs: Any):
        super().__init__(activation=activation, **kwargs)
        self.units = arguments.count("units", units)
        self.supports_masking = True

    @property
    def linear_map(self) -> linear_maps.Dense:
        return linear_maps.Dense.of(self)

    def _accepted_inputs(self, input_shape: tuple[int | None, ...]) -> keras.InputSpec:
        if input_shape[-1] is None:
            raise ValueError(
                "The last axis of the inputs must have a known size. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        return keras.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
