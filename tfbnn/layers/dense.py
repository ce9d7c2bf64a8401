"""Dense layers: the dense map with each estimator."""

from typing import Any

import keras

from tfbnn import arguments
from tfbnn.layers import linear_maps
from tfbnn.layers.variational import AbstractVariationalLayer


class AbstractDense(AbstractVariationalLayer):
    """`activation(inputs @ kernel + bias)` with a random kernel.

    Args:
        units: Number of outputs, positive.
        **kwargs: Those of `tfbnn.layers.AbstractVariationalLayer`, the activation first.

    Input shape:
        `(batch, ..., inputs)`.

    Output shape:
        `(batch, ..., units)`.

    Raises:
        ValueError: If an argument is out of its range or a name is unknown.
    """

    def __init__(self, units: int, activation: Any = None, **kwargs: Any):
        super().__init__(activation=activation, **kwargs)
        self.units = arguments.count("units", units)
        self.supports_masking = True

    @property
    def linear_map(self) -> linear_maps.Dense:
        return linear_maps.Dense(self.units)

    def _accepted_inputs(self, input_shape: tuple[int | None, ...]) -> keras.InputSpec:
        if input_shape[-1] is None:
            raise ValueError(
                "The last axis of the inputs must have a known size. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        return keras.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tfbnn")
class DenseReparameterization(AbstractDense):
    """Dense layer trained with one weight draw per batch. See `AbstractDense`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.DenseReparameterization(4, prior="laplace")
    >>> layer(np.ones((2, 3), "float32"), training=True).shape
    TensorShape([2, 4])
    """

    estimator = "reparameterization"


@keras.saving.register_keras_serializable("tfbnn")
class DenseLocalReparameterization(AbstractDense):
    """Dense layer trained with noise on the outputs. See `AbstractDense`.

    Example:

    >>> import numpy as np, tfbnn
    >>> layer = tfbnn.layers.DenseLocalReparameterization(4)
    >>> layer(np.ones((2, 3), "float32"), training=True).shape
    TensorShape([2, 4])
    """

    estimator = "local_reparameterization"


@keras.saving.register_keras_serializable("tfbnn")
class DenseFlipout(AbstractDense):
    """Dense layer trained with Flipout, pseudo-independent draws per example. See `AbstractDense`.

    Example:

    >>> import numpy as np, tfbnn
    >>> prior = tfbnn.priors.ScaleMixture(pi=0.5, sigma1=1.0, sigma2=0.0025)
    >>> layer = tfbnn.layers.DenseFlipout(4, activation="relu", prior=prior)
    >>> layer(np.ones((2, 3), "float32"), training=True).shape
    TensorShape([2, 4])
    """

    estimator = "flipout"
