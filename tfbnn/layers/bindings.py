"""Bindings: layers with their estimator in the name, as those of TensorFlow Probability have it."""

from typing import TypeVar

import keras

from tfbnn.layers.convolution import Conv1D, Conv2D, Conv3D
from tfbnn.layers.dense import Dense
from tfbnn.layers.estimators import ESTIMATORS
from tfbnn.layers.linear_layer import AbstractLinearLayer

_Layer = TypeVar("_Layer", bound=AbstractLinearLayer)


def _bound(layer: type[_Layer], beginning: str) -> list[type[_Layer]]:
    """A registered subclass for each estimator, in the order of `ESTIMATORS`."""
    register = keras.saving.register_keras_serializable("tfbnn")

    def bind(estimator: str) -> type[_Layer]:
        description = f'`{layer.__name__}` with `estimator="{estimator}"`.'
        members = {"__module__": __name__, "__doc__": description, "estimator": estimator}
        return type(beginning + estimator.title().replace("_", ""), (layer,), members)

    return [register(bind(estimator)) for estimator in ESTIMATORS]


DenseReparameterization, DenseLocalReparameterization, DenseFlipout = _bound(Dense, "Dense")
(
    Convolution1DReparameterization,
    Convolution1DLocalReparameterization,
    Convolution1DFlipout,
) = _bound(Conv1D, "Convolution1D")
(
    Convolution2DReparameterization,
    Convolution2DLocalReparameterization,
    Convolution2DFlipout,
) = _bound(Conv2D, "Convolution2D")
(
    Convolution3DReparameterization,
    Convolution3DLocalReparameterization,
    Convolution3DFlipout,
) = _bound(Conv3D, "Convolution3D")
