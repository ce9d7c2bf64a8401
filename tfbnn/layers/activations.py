"""Activations: one description of a function, be it an argument, a layer or an operation.

Keras has the ReLU as three functions, two layers and three operations, whose parameters have other
names and other values by default. Whoever has a rule for an activation asks for `activation_of`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from tfbnn.layers.keras_internals import nn_operations as nn
from tfbnn.layers.keras_internals import numpy_operations

_ACROSS_FEATURES = {"glu", "log_softmax", "softmax", "sparsemax"}
_NEVER_FALL = {"exponential", "selu", "sigmoid", "softplus", "tanh"}


@dataclasses.dataclass(frozen=True)
class Activation:
    """What a layer does to its numbers in the end.

    Attributes:
        name: That of Keras' function; that of every ReLU is `"relu"`. None if it is not Keras' own.
        function: Computes it.
        slope: Of a ReLU below zero; of an ELU just below zero (Keras' `alpha`).
        cap: The largest value of a ReLU, or None.
        threshold: What is below becomes zero in a ReLU.
    """

    name: str | None
    function: Callable[[Any], Any]
    slope: float = 0.0
    cap: float | None = None
    threshold: float = 0.0

    @property
    def treats_each_feature(self) -> bool:
        """Whether it is known to look at one number at a time."""
        return self.name is not None and self.name not in _ACROSS_FEATURES

    @property
    def never_falls(self) -> bool:
        """Whether it is known to give no less for more."""
        if self.name in ("relu", "elu"):
            return self.slope >= 0 and not self.threshold
        return self.name in _NEVER_FALL

    @property
    def words(self) -> str:
        """What it is, for messages."""
        return getattr(self.function, "__name__", None) or repr(self.function)


def activation_of(layer: Any, rank: int) -> Activation:
    """The activation that a layer, or an operation of `keras.ops`, ends in or is; linear if none.

    `rank` is the number of axes of its outputs.
    """
    if type(layer) is keras.layers.Softmax:
        is_last = layer.axis in (-1, rank - 1)
        return _of_function(keras.activations.softmax) if is_last else Activation(None, layer)
    if type(layer) in OWN:
        return OWN[type(layer)](layer)
    return _of_function(getattr(layer, "activation", None) or keras.activations.linear)


def _of_function(function: Any) -> Activation:
    if function in _RELUS:
        return Activation("relu", function, *_RELUS[function])
    name = getattr(function, "__name__", None)
    is_keras = name is not None and getattr(keras.activations, name, None) is function
    return Activation(name if is_keras else None, function, float(name == "elu"))


def _named(name: str) -> Callable[[Any], Activation]:
    return lambda op: _of_function(getattr(keras.activations, name))


# The slope of `leaky_relu` is the one that Keras' function has by default.
_RELUS = {
    keras.activations.relu: (0.0, None),
    keras.activations.relu6: (0.0, 6.0),
    keras.activations.leaky_relu: (0.2, None),
}

OWN: dict[type, Callable[[Any], Activation]] = {
    keras.layers.ReLU: lambda layer: Activation(
        "relu", layer, layer.negative_slope, layer.max_value, layer.threshold
    ),
    keras.layers.LeakyReLU: lambda layer: Activation("relu", layer, layer.negative_slope),
    keras.layers.ELU: lambda layer: Activation("elu", layer, layer.alpha),
    nn.Elu: lambda op: Activation("elu", op, op.alpha),
    nn.LeakyRelu: lambda op: Activation("relu", op, op.negative_slope),
    nn.Gelu: lambda op: Activation("approximate_gelu" if op.approximate else "gelu", op),
    **{
        getattr(nn, name.title().replace("_", "")): _named(name)
        for name in """hard_sigmoid hard_silu log_sigmoid relu relu6 selu sigmoid silu softplus
        softsign""".split()
    },
    numpy_operations.Tanh: _named("tanh"),
}
"""Layers and operations that are an activation, by their class."""
