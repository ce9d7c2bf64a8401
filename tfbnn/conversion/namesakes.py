"""Namesakes: the layer of `tfbnn.layers` for a layer of Keras, and back."""

import inspect
from typing import Any

import keras

from tfbnn import layers
from tfbnn.conversion.regularizers import prior_of
from tfbnn.layers.linear_layer import AbstractLinearLayer
from tfbnn.training.copies import named_code
from tfbnn.weights import priors

RANDOM: dict[type, type[AbstractLinearLayer]] = {
    getattr(keras.layers, name): cls
    for name, cls in vars(layers).items()
    if isinstance(cls, type)
    and issubclass(cls, AbstractLinearLayer)
    and cls.estimator is None
    and hasattr(keras.layers, name)
}
"""The random layer for each class of Keras that has a namesake in `tfbnn.layers`."""

# Keras names what is of a depthwise kernel after it.
_KERNEL_NAMES = {"depthwise_": "kernel_"}
# What a layer with random weights has no use for.
_DROPPED = ("lora_rank", "lora_alpha", "quantization_config")


def random_layer(
    layer: keras.layers.Layer,
    estimator: str | None,
    prior: Any,
    num_examples: int | None,
) -> AbstractLinearLayer:
    """The unbuilt random layer for a Keras layer of a class in `RANDOM`.

    A regularizer becomes the prior that it is, unless `prior` is given.

    Args:
        layer: The Keras layer.
        estimator: See `tfbnn.layers`; None for the default.
        prior: The prior of all weights; None for that of a regularizer, or the default.
        num_examples: Number of training examples, for regularizers.
    """
    cls = RANDOM[type(layer)]
    with named_code(layer) as serialized:
        config = {_kernel_name(n): v for n, v in serialized(layer.get_config()).items()}
        for name in _DROPPED:
            config.pop(name, None)
        for ours in ("kernel_regularizer", "bias_regularizer"):
            regularizer = getattr(layer, _keras_name(layer, ours))
            config[ours] = None
            law = prior if prior is not None else prior_of(regularizer, num_examples, layer.name)
            if law is not None:
                config[ours.replace("regularizer", "prior")] = priors.serialize(law)
        accepted = _accepted(cls)
        config = {name: value for name, value in config.items() if name in accepted}
        return cls.from_config({**config, "estimator": estimator})


def plain_layer(layer: AbstractLinearLayer) -> keras.layers.Layer:
    """The unbuilt Keras namesake of a random layer."""
    (cls,) = (keras_class for keras_class, random in RANDOM.items() if isinstance(layer, random))
    accepted = _accepted(cls)
    with named_code(layer) as serialized:
        config = serialized(layer.get_config())
        kept = {name: v for name, v in config.items() if name in accepted}
        kept |= {k: config[o] for k, o in _renamed(accepted).items() if o in config}
        return cls.from_config(kept)


def take_weights(random: AbstractLinearLayer, plain: keras.layers.Layer, scale: Any) -> None:
    """Let a built random layer begin at the weights of a Keras layer.

    `scale` is a factor of each weight's size, None to leave the standard deviations as they are.
    """
    pairs = [(random.kernel, plain.kernel), (random.bias, plain.bias)]
    for weight, variable in pairs:
        if weight is None:
            continue
        value = keras.ops.convert_to_numpy(variable)
        weight.loc_variable.assign(value)
        if weight.is_random:
            _take_law(weight, value, scale)


def give_weights(random: AbstractLinearLayer, plain: keras.layers.Layer) -> None:
    """Let a built Keras layer have the means of a random layer; pruned weights are zero."""
    plain.kernel.assign(random.kernel.loc)
    if random.bias is not None:
        plain.bias.assign(random.bias.loc)


def _take_law(weight: Any, value: Any, scale: float | None) -> None:
    size = abs(value)
    # The means of one weight may be as small as zero; that of its tensor tells what is small.
    floor = _FLOOR * float((size**2).mean() ** 0.5)
    if scale is not None and floor > 0:
        weight.assign(value, scale * size.clip(min=floor))
    if isinstance(weight.prior, priors.Informative):
        weight.prior_variables[0].assign(value)


# Of the root mean square of a tensor: a tenth of a typical weight.
_FLOOR = 0.1


def _accepted(cls: type) -> set[str]:
    """The names of all arguments of a layer class and its bases."""
    found = {"name", "trainable", "dtype"}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            found |= set(inspect.signature(base.__init__).parameters)
    return found - {"self", "args", "kwargs"}


def _kernel_name(name: str) -> str:
    for theirs, ours in _KERNEL_NAMES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _keras_name(layer: Any, name: str) -> str:
    return next((n for n in vars(layer) if _kernel_name(n) == name), name)


def _renamed(accepted: set[str]) -> dict[str, str]:
    return {name: _kernel_name(name) for name in accepted if _kernel_name(name) != name}
