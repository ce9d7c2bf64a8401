"""Selection: which layers of a model become random, and why others do not."""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfbnn.conversion.namesakes import RANDOM
from tfbnn.layers.keras_internals import all_layers, layers_before, nodes_of
from tfbnn.layers.variational import AbstractVariationalLayer

LAST = "last"


class Selection:
    """The layers that `layers=` names.

    Args:
        model: The model.
        layers: `None` for all, `"last"`, a name, a class, a predicate of a layer, or several of
            these.

    Raises:
        TypeError: If `layers` is none of these.
        ValueError: If a name is that of no layer, or no layer is left.
    """

    def __init__(self, model: keras.Model, layers: Any):
        known = all_layers(model, include_self=False)
        wanted = layers if isinstance(layers, list | tuple | set) else [layers]
        self._tests = [_test(model, known, one) for one in wanted]
        if not any(self.reason(layer) is None for layer in known):
            reasons = {layer.name: self.reason(layer) for layer in known if layer.weights}
            raise ValueError(
                "No layer of the model can be made random; here is why, by layer: "
                f"{reasons}. Received: layers={layers!r}"
            )

    def reason(self, layer: keras.layers.Layer) -> str | None:
        """Why a layer stays as it is, or None if it becomes random."""
        if isinstance(layer, AbstractVariationalLayer):
            return "random already"
        if type(layer) not in RANDOM:
            bases = [cls.__name__ for cls in RANDOM if isinstance(layer, cls)]
            if bases:
                return f"a subclass of {bases[0]}, which may compute something else"
            return f"tfbnn.layers has no {type(layer).__name__}"
        if not any(test(layer) for test in self._tests):
            return "not in `layers`"
        return None if layer.trainable else "not trained (trainable=False)"


def _test(model: Any, known: list[Any], wanted: Any) -> Callable[[Any], bool]:
    if wanted is None:
        return lambda layer: True
    if wanted == LAST:
        last = set(map(id, _last(model)))
        return lambda layer: id(layer) in last
    if isinstance(wanted, str):
        if all(layer.name != wanted for layer in known):
            raise ValueError(
                "No layer of the model has this name; those with weights are "
                f"{[layer.name for layer in known if layer.weights]}. Received: layers={wanted!r}"
            )
        return lambda layer: layer.name == wanted
    if isinstance(wanted, type):
        return lambda layer: isinstance(layer, wanted)
    if callable(wanted):
        return wanted
    raise TypeError(
        "`layers` must be None, 'last', the name of a layer, a class, a function of a layer, or a "
        f"list of these. Received: layers of type {type(wanted).__name__}"
    )


def _last(model: Any) -> Iterator[Any]:
    """The last layer with a random namesake before each output."""
    if not nodes_of(model):
        with_namesake = [one for one in all_layers(model) if type(one) in RANDOM]
        yield from with_namesake[-1:]
        return
    for output in model.outputs:
        for layer in layers_before(output):
            inside = [layer] if not isinstance(layer, keras.Model) else list(_last(layer))
            inside = [one for one in inside if type(one) in RANDOM]
            if inside:
                yield from inside
                break
