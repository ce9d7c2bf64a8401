"""Mean field: the posterior that `fit` has optimised in the layers of a model."""

from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.variational import variational_weights
from tfbnn.posterior.gaussian import AbstractGaussianPosterior, NormalLaw
from tfbnn.training.plain_models import check_bayesian, likelihoods_of
from tfbnn.weights import noise
from tfbnn.weights.families import NormalWeight


class MeanFieldPosterior(AbstractGaussianPosterior):
    """Independent normal weights, with the means and scales of the layers of a model.

    A draw replaces the posterior means by drawn weights; the layers then run at "the mean", which
    is the draw. Pruned weights are zero in every draw.

    Args:
        model: A built Keras model with variational layers, compiled with a likelihood.

    Raises:
        ValueError: If the model is not built, has no random weights, or has no likelihood.

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 3.2.
    """

    route = "mean_field"

    def __init__(self, model: keras.Model):
        arguments.instance("model", model, keras.Model, "a Keras model")
        if model.built and not variational_weights(model):
            raise ValueError(
                "The model has no random weights, so it has no posterior of its own: give "
                "`tfbnn.posteriors.MCDropout(model)` or `.Ensemble(models)`, or use layers of "
                "`tfbnn.layers`. "
                f"Received: model={model.name!r}"
            )
        super().__init__(model, likelihoods_of(model))

    def laws(self) -> dict[NormalWeight, NormalLaw]:
        return {weight: NormalLaw(weight.loc, weight.scale) for weight in self.weights}

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        # The same draws as of the laws, in one compiled pass for each weight.
        seeds = noise.split(seed, len(self.weights))
        return [w.sample(s) for w, s in zip(self.weights, seeds, strict=True)]

    def as_model(self) -> Any:
        """The model itself.

        Raises:
            TypeError: If it is a plain Keras model, of which no other model can be made.
        """
        check_bayesian(
            self.model,
            "Only a `tfbnn.Sequential` or `tfbnn.Model` can be pruned, compacted, taught or "
            "written in C.",
        )
        return self.model
