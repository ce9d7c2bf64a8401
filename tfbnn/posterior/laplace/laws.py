"""A diagonal approximation as independent normal weights of a model of tfbnn."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfbnn.conversion.to_bayesian import to_bayesian
from tfbnn.layers.variational import variational_layers
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior.gaussian import GaussianPosterior, NormalLaw
from tfbnn.posterior.laplace.linear_parts import AbstractLinearPart
from tfbnn.weights import priors


def independent_weights(
    model: keras.Model,
    likelihoods: list[AbstractLikelihood],
    parts: Sequence[AbstractLinearPart],
    scales: Sequence[tf.Tensor],
    prior_scale: float,
) -> GaussianPosterior | None:
    """The posterior whose layers are a copy of a model's, or None if tfbnn has not all of them.

    Args:
        model: The model at the mode.
        likelihoods: One for each output.
        parts: The linear parts of its layers that are random.
        scales: The standard deviations of their matrices.
        prior_scale: Standard deviation of the prior.
    """
    by_layer = {id(part.layer): number for number, part in enumerate(parts)}
    prior = priors.Normal(scale=prior_scale)
    try:
        copy = to_bayesian(model, prior=prior, layers=lambda one: id(one) in by_layer, verbose=0)
    # Of no layer, or of a model that cannot be made anew.
    except (NotImplementedError, TypeError, ValueError):
        return None
    layers = list(variational_layers(copy))
    if [layer.name for layer in layers] != [part.layer.name for part in parts]:
        return None
    laws = {}
    for layer, part, scale in zip(layers, parts, scales, strict=True):
        weights = [one for one in (layer.kernel, layer.bias) if one is not None]
        pairs = zip(weights, part.variables, part.values(scale), strict=True)
        laws |= {weight: NormalLaw(mode.value, scale) for weight, mode, scale in pairs}
    return GaussianPosterior(copy, likelihoods, laws)
