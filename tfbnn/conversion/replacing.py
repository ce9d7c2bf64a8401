"""Replacing: a copy of any Keras model with other layers in the place of some."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import (
    KerasFunctional,
    all_layers,
    forget_layers,
    graph_of,
    own_variables,
    through_graph,
)
from tfbnn.training.copies import named_code

# What every layer or model has of its own accord, and no user has put there.
_OF_KERAS = {*vars(keras.layers.Layer()), *vars(keras.Sequential())}


class Replacement:
    """A copy of a model, made layer by layer.

    Sequential, functional and nested models are made anew, a layer that is called twice once. Of a
    subclassed model, and of a layer of a user's with layers in it, it is a new object from its
    configuration, in which the layers that are its attributes are replaced. What has no weights
    is shared.

    Args:
        replace: Gives the unbuilt layer to take in the place of one, or None to keep it.
        sequential: The class of the copy of a `keras.Sequential`.
        functional: That of a functional model.
        subclass: Makes of the class of a subclassed model that of its copy.

    Attributes:
        pairs: Old and new layers, each pair once, in the order of the model.
    """

    def __init__(
        self,
        replace: Callable[[keras.layers.Layer], keras.layers.Layer | None],
        sequential: type,
        functional: type,
        subclass: Callable[[type], type],
    ):
        self._replace = replace
        self._classes = sequential, functional
        self._subclass = subclass
        self._copies: dict[int, keras.layers.Layer] = {}
        self._whole: set[int] = set()
        self.pairs: list[tuple[Any, Any]] = []

    def of(self, model: keras.Model) -> keras.Model:
        """The built copy of a model, with the weights of all layers that are not replaced."""
        if isinstance(model, keras.Sequential):
            copy = self._sequential(model, self._classes[0])
        elif isinstance(model, KerasFunctional):
            copy = self._functional(model, self._classes[1])
        else:
            copy = self._composite(model, self._subclass(type(model)))
            copy.build_from_config(model.get_build_config())
            copy.built = True
        for old, new in self.pairs:
            self._copy_variables(old, new)
        return copy

    def _copied(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._made(layer)
        return self._copies[id(layer)]

    def _made(self, layer: Any) -> Any:
        new = self._replace(layer)
        if new is not None:
            self.pairs.append((layer, new))
            return new
        if isinstance(layer, keras.Sequential):
            return self._sequential(layer, keras.Sequential)
        if isinstance(layer, KerasFunctional):
            return self._functional(layer, keras.Model)
        if _is_of_user(layer) and len(all_layers(layer)) > 1:
            return self._composite(layer, type(layer))
        if not isinstance(layer, keras.Layer) or not layer.variables:
            return layer
        new = _from_config(layer, type(layer))
        self._whole.add(id(layer))
        self.pairs.append((layer, new))
        return new

    def _sequential(self, model: Any, cls: type) -> Any:
        inputs = [keras.Input(batch_shape=one.shape, dtype=one.dtype) for one in model.inputs]
        layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
        return cls([*inputs, *map(self._copied, layers)], name=model.name)

    def _functional(self, model: Any, cls: type) -> Any:
        inputs = tf.nest.map_structure(
            lambda one: keras.Input(batch_shape=one.shape, dtype=one.dtype, name=one.name),
            model.input,
        )
        outputs = through_graph(graph_of(model), inputs, self._copied)
        return cls(inputs, outputs, name=model.name)

    def _composite(self, layer: Any, cls: type) -> Any:
        """A new object from the configuration, in which layers that are attributes are replaced."""
        new = _from_config(layer, cls)
        # What is not there yet is made when the layer is built, and is what it was.
        names = vars(new).keys() - _OF_KERAS
        attributes = {n: v for n, v in vars(layer).items() if n in names and _holds(v)}
        forget_layers(new)
        for name, value in attributes.items():
            setattr(new, name, self._structure(value))
        self.pairs.append((layer, new))
        return new

    def _structure(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._structure(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self._structure, value))
        return self._copied(value) if isinstance(value, keras.Layer) else value

    def _copy_variables(self, old: Any, new: Any) -> None:
        if id(old) in self._whole:
            new.set_weights(old.get_weights())
        elif isinstance(new, type(old)):
            pairs = [(own_variables(old), own_variables(new))]
            inside = zip(*(all_layers(o, False, recursive=False) for o in (old, new)), strict=True)
            # Layers that are made when the layer is built.
            late = [pair for pair in inside if id(pair[0]) not in self._copies]
            pairs += [(one.weights, other.weights) for one, other in late]
            for olds, news in pairs:
                for variable, other in zip(olds, news, strict=True):
                    other.assign(variable)


def _from_config(layer: Any, cls: type) -> Any:
    try:
        with named_code(layer) as serialized:
            # That of the class, which may be a base of the layer's.
            source = cls if isinstance(layer, cls) else type(layer)
            return cls.from_config(serialized(source.get_config(layer)))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"A copy of the layer or model {layer.name!r} is made from its configuration, which "
            "cannot be had: give its class a `get_config` with the arguments of its constructor "
            f"({type(error).__name__}: {error}). Received: type {type(layer).__name__}"
        ) from error


def _is_of_user(layer: Any) -> bool:
    return not type(layer).__module__.startswith("keras.")


def _holds(value: Any) -> bool:
    """Whether a layer is in a structure."""
    if isinstance(value, dict):
        return any(map(_holds, value.values()))
    return (
        any(map(_holds, value))
        if isinstance(value, list | tuple)
        else isinstance(value, keras.Layer)
    )
