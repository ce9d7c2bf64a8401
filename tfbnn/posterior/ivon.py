"""IVON: the law that the optimizer has learnt of the weights of plain Keras layers."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.conversion.to_bayesian import to_bayesian
from tfbnn.layers.variational import variational_layers
from tfbnn.posterior.base import AbstractRandomVariables
from tfbnn.posterior.gaussian import AbstractGaussianPosterior, GaussianPosterior, NormalLaw
from tfbnn.training.plain_models import likelihoods_of
from tfbnn.weights import noise


class IVONPosterior(AbstractRandomVariables):
    """Independent normal weights, with the means and the scales of `tfbnn.optimizers.IVON`.

    `posterior_of` gives it for a model that is compiled with that optimizer. The scales are those
    at the moment when it is made.

    Args:
        model: A built model of tfbnn of plain Keras layers.
        **scales: The standard deviations of its trainable weights, by `"scale_0"`, ...; by default
            those of the optimizer of `model`.

    Raises:
        ValueError: If the model is not built, or has not been trained.
    """

    route = "ivon"

    def __init__(self, model: keras.Model, **scales: Any):
        arguments.instance("model", model, keras.Model, "a Keras model")
        super().__init__(model, likelihoods_of(model))
        if not scales:
            if not model.optimizer.built:
                raise ValueError(
                    "The optimizer has learnt nothing yet: call `fit` first. "
                    f"Received: model={model.name!r}"
                )
            found = model.optimizer.scales(model.trainable_variables)
            scales = {f"scale_{i}": scale.numpy() for i, scale in enumerate(found)}
        self._scales = [tf.constant(scales[f"scale_{i}"]) for i in range(len(scales))]

    @property
    def variables(self) -> list[keras.Variable]:
        return self.model.trainable_variables

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        seeds = noise.split(seed, len(self.variables))
        laws = zip(self.mean(), self._scales, seeds, strict=True)
        return [mean + scale * noise.standard_normal(mean.shape, s) for mean, scale, s in laws]

    def mean(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(variable.value) for variable in self.variables]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {f"scale_{i}": scale.numpy() for i, scale in enumerate(self._scales)}

    def with_laws(self) -> AbstractGaussianPosterior | None:
        """The laws in the layers of a copy, if each random weight has a place there."""
        if "_laws" not in self.__dict__:
            self.__dict__["_laws"] = self._as_layers()
        return self.__dict__["_laws"]
