"""A Keras model with given standard deviations, as a model of tfbnn."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.conversion.namesakes import RANDOM
from tfbnn.conversion.to_bayesian import to_bayesian
from tfbnn.layers.keras_internals import all_layers
from tfbnn.layers.variational import variational_weights


def with_scales(
    model: keras.Model, scales: Sequence[Any], prior: Any = "automatic_relevance"
) -> Any | None:
    """A model of tfbnn whose weights are normal, about what those of a Keras model are.

    A route that finds a normal law for each weight of a plain model gives it so to pruning, moments
    and C.

    Args:
        model: A built Keras model.
        scales: A standard deviation for each element of its `trainable_variables`.
        prior: The prior of all weights, where the route has one.

    Returns:
        The model, compiled as `model` was; None if it has trained weights in layers without a
        random namesake.
    """
    trained = model.trainable_variables
    layers = [layer for layer in all_layers(model) if type(layer) in RANDOM]
    known = {id(variable) for layer in layers for variable in layer.trainable_variables}
    if any(id(variable) not in known for variable in trained):
        return None
    # Given, because of a regularizer the number of examples would be asked.
    bayesian = to_bayesian(model, prior=prior, verbose=0)
    weights = variational_weights(bayesian)
    for weight, variable, scale in zip(weights, trained, scales, strict=True):
        # One of 0 would stand for a pruned weight.
        weight.assign(variable, tf.maximum(scale, arguments.SMALLEST_SCALE))
    return bayesian
