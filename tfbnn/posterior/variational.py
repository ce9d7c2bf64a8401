"""The variational route: the mean-field posterior that `fit` has optimised."""

from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import all_layers, compiled_loss
from tfbnn.layers.variational import variational_weights
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.training.bayesian_model import BayesianModel
from tfbnn.training.plain_models import likelihoods_of
from tfbnn.weights import noise
from tfbnn.weights.families import NormalWeight


class MeanFieldPosterior(AbstractPosterior):
    """Independent normal weights: `w = loc + scale * N(0, 1)`.

    A draw replaces the posterior means by drawn weights; the layers then run at "the mean", which
    is the draw. Pruned weights are zero in every draw.

    Args:
        model: A built Keras model with variational layers, compiled with a likelihood.

    Raises:
        ValueError: If the model is not built, has no random weights, or has no likelihood.

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 3.2.
    """

    def __init__(self, model: keras.Model):
        _check(model)
        super().__init__(model, likelihoods_of(model))
        self.weights: list[NormalWeight] = variational_weights(model)

    @property
    def variables(self) -> list[keras.Variable]:
        return [weight.loc_variable for weight in self.weights]

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        seeds = noise.split(seed, len(self.weights))
        return [w.sample(s) for w, s in zip(self.weights, seeds, strict=True)]

    def mean(self) -> list[tf.Tensor]:
        return [weight.loc for weight in self.weights]

    def stddev(self) -> list[tf.Tensor]:
        return [weight.scale for weight in self.weights]


def posterior_of(model: Any) -> AbstractPosterior:
    """The posterior of a model; a posterior is its own.

    The same object comes back for the same model as long as it is compiled with the same
    likelihoods, so that its traced functions are reused.

    Args:
        model: A trained `tfbnn.Model` or `tfbnn.Sequential`, a plain Keras model with variational
            layers whose losses are likelihoods, or a posterior.

    Returns:
        The posterior.

    Raises:
        TypeError: If `model` is none of these.
        ValueError: If the model is not built, has no random weights, or has no likelihood.
    """
    if isinstance(model, AbstractPosterior):
        return model
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Expected a `tfbnn.Sequential`, a `tfbnn.Model` or a posterior. "
            f"Received: model of type {type(model).__name__}"
        )
    # Another object after each compilation that changes the likelihoods.
    compiled = model.likelihoods if isinstance(model, BayesianModel) else compiled_loss(model)
    # A `Sequential` that gains or loses a layer is another network.
    layers = all_layers(model)
    # On the model, so that it lives as long as the model does; a plain dict entry, so that Keras
    # does not track the posterior's variables a second time.
    known, known_layers, posterior = model.__dict__.get("_posterior", (None, None, None))
    if posterior is None or known is not compiled or known_layers != layers:
        posterior = MeanFieldPosterior(model)
        model.__dict__["_posterior"] = (compiled, layers, posterior)
    return posterior


def _check(model: keras.Model) -> None:
    if not model.built:
        raise ValueError(
            "The model has no weights yet: train it, or build it by calling it on a batch. "
            f"Received: model={model.name!r}, built=False"
        )
    if not variational_weights(model):
        raise ValueError(
            "The model has no random weights, so it has no posterior: use layers of "
            f"`tfbnn.layers`. Received: model={model.name!r}"
        )
    if not likelihoods_of(model):
        raise ValueError(
            "The model has no likelihood: call `compile(loss=...)` first. "
            f"Received: model={model.name!r}"
        )
