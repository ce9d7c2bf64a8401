"""Activity: what layers inside a network give while it is called, whoever calls it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import all_layers
from tfbnn.layers.overriding import overridden


class Activity:
    """What was recorded within a block.

    Attributes:
        names: The names of the layers that are recorded.
    """

    def __init__(self, names: Sequence[str]):
        self.names = names
        self._found: dict[str, list[Any]] = {name: [] for name in names}
        self._graph = tf.compat.v1.get_default_graph()

    @property
    def outputs(self) -> list[tf.Tensor]:
        """What each layer has given, in the order of the names.

        Raises:
            ValueError: If a layer has given several tensors, or was called several times, or inside
                a loop alone.
        """
        for name, calls in self._found.items():
            if len(calls) != 1:
                raise ValueError(
                    "A layer whose activations are asked for must be called once, outside loops, "
                    f"and give one tensor. Received: layer {name!r}, which gave {len(calls)}"
                )
        return [tf.cast(call, tf.float32) for (call,) in self._found.values()]

    def add(self, name: str, output: Any) -> None:
        """Note what a call of a layer has given."""
        # A tensor inside a loop is none outside.
        if tf.compat.v1.get_default_graph() is self._graph:
            self._found[name] += tf.nest.flatten(output)


@contextlib.contextmanager
def recorded(model: keras.Model, names: Sequence[str]) -> Iterator[Activity]:
    """Within this block what the layers of these names give is recorded."""
    activity = Activity(names)
    with contextlib.ExitStack() as stack:
        for name, layer in layers_by_name(model).items():
            if name in names:
                call = _recording(layer.call, name, activity)
                stack.enter_context(overridden(layer, call=call))
        yield activity


def layers_by_name(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers of a model, nested ones included, that compute something; of equal names the
    first."""
    found: dict[str, keras.Layer] = {}
    for layer in all_layers(model, include_self=False):
        if not isinstance(layer, keras.layers.InputLayer):
            found.setdefault(layer.name, layer)
    return found


def _recording(given: Callable, name: str, activity: Activity) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        output = given(*args, **kwargs)
        activity.add(name, output)
        return output

    return call
