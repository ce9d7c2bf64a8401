"""The plain Keras model at the posterior mean of a Bayesian one."""

from typing import Any

import keras

from tfbnn import arguments
from tfbnn.conversion.namesakes import RANDOM, give_weights, plain_layer
from tfbnn.conversion.replacing import Replacement
from tfbnn.layers.variational import AbstractVariationalLayer, variational_layers
from tfbnn.training.bayesian_model import BayesianModel


def to_deterministic(model: keras.Model) -> keras.Model:
    """The plain Keras model that computes what a Bayesian one does at the posterior mean.

    Each random layer becomes its Keras namesake, with the means as weights; pruned weights are
    zero. It needs no tfbnn to be saved and loaded, and is not compiled.

    Args:
        model: A built model with layers of `tfbnn.layers`.

    Returns:
        A `keras.Sequential` or `keras.Model`.

    Raises:
        TypeError: If `model` is no Keras model, or is of a class that cannot be a plain one.
        ValueError: If it is not built, or has no random layer.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.Dense(2)])
    >>> plain = tfbnn.to_deterministic(model)
    >>> type(plain.layers[0]).__module__.startswith("keras.")
    True
    >>> x = np.eye(3, dtype="float32")
    >>> bool(np.allclose(model(x), plain(x)))
    True
    """
    arguments.instance("model", model, keras.Model, "a Keras model")
    if not model.built or not any(True for _ in variational_layers(model)):
        raise ValueError(
            "There is nothing random in the model that could be made deterministic. "
            f"Received: model={model.name!r}, built={model.built}"
        )

    def replace(layer: Any) -> keras.layers.Layer | None:
        if not isinstance(layer, AbstractVariationalLayer):
            return None
        if not isinstance(layer, tuple(RANDOM.values())):
            raise TypeError(
                "A random layer of a class of one's own has no namesake in Keras. Received: layer "
                f"{layer.name!r} of type {type(layer).__name__}"
            )
        return plain_layer(layer)

    replacement = Replacement(replace, keras.Sequential, keras.Model, _plain_class)
    plain = replacement.of(model)
    for old, new in replacement.pairs:
        if isinstance(old, AbstractVariationalLayer):
            give_weights(old, new)
    return plain


def _plain_class(cls: type) -> type:
    """The class that `to_bayesian` has made the class of a subclassed model from."""
    plain = [base for base in cls.__bases__ if not issubclass(base, BayesianModel)]
    if issubclass(cls, BayesianModel) and not plain:
        raise TypeError(
            "A subclass of `tfbnn.Model` is a model of tfbnn whatever its layers are. "
            f"Received: model of type {cls.__name__}"
        )
    return plain[0] if issubclass(cls, BayesianModel) else cls
