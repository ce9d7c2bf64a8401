"""Steps: a network as the list of its layers in the order in which they are computed.

Whoever goes through a network layer by layer (moments, compaction, C code) walks over this list,
and need not know how Keras nests models and keeps its graph.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from tfbnn.layers.keras_internals import graph_of, layer_behind, nodes_of


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What one layer computes and others read. `shape` is `(None, ...)`."""

    shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of one layer, or of an operation of `keras.ops` on values alone."""

    layer: Any
    inputs: tuple[Value, ...]
    output: Value

    @property
    def name(self) -> str:
        """Name and class, for messages."""
        return f"{self.layer.name!r} ({type(self.layer).__name__})"


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One call of a model inside the network: its `InputLayer`, and the value that enters there."""

    layer: keras.layers.InputLayer
    value: Value


@dataclasses.dataclass(frozen=True)
class Steps:
    """A network of one input and one output.

    Attributes:
        input: What enters the network.
        steps: The calls of its layers, in the order in which they are computed.
        output: What comes out.
        entries: Where the models inside it begin; these compute nothing.
    """

    input: Value
    steps: tuple[Step, ...]
    output: Value
    entries: tuple[Entry, ...] = ()

    @property
    def layers(self) -> list[keras.Layer]:
        """The layers that it calls; operations of `keras.ops` are none."""
        return [step.layer for step in self.steps if isinstance(step.layer, keras.Layer)]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


def steps_of(model: keras.Model) -> Steps:
    """The steps of a built `Sequential` or functional model; models inside it are opened.

    Raises:
        ValueError: If the graph of the model is not known (a subclass with a `call` of its own), or
            the model or a layer in it does not take one value and give one.
    """
    graph = _graph(model)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            "The model must have one input and one output. "
            f"Received: {len(graph.inputs)} inputs, {len(graph.outputs)} outputs"
        )
    start = Value(tuple(graph.inputs[0].shape))
    steps: list[Step] = []
    entries: list[Entry] = []
    output = _walk(graph, start, steps, entries)
    return Steps(start, tuple(steps), output, tuple(entries))


def _walk(graph: Any, start: Value, steps: list[Step], entries: list[Entry]) -> Value:
    """Append the steps of `graph` to `steps`, its models to `entries`; the value of its output."""
    values = {id(graph.inputs[0]): start}
    for node in nodes_of(graph):
        if not node.is_input:
            values[id(_only(node.outputs, node))] = _called(node, values, steps, entries)
    return values[id(graph.outputs[0])]


def _called(node: Any, values: dict[int, Value], steps: list[Step], entries: list[Entry]) -> Value:
    layer = node.operation
    inputs = tuple(values[id(tensor)] for tensor in node.input_tensors)
    if isinstance(layer, keras.Model):
        graph, start = _graph(layer), _only(inputs, node)
        entries.append(Entry(layer_behind(graph.inputs[0]), start))
        return _walk(graph, start, steps, entries)
    _check_values_alone(node)
    output = Value(tuple(_only(node.outputs, node).shape))
    steps.append(Step(layer, inputs, output))
    return output


def _graph(model: keras.Model) -> Any:
    graph = graph_of(model)
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            "The model has no graph yet: begin it with a `keras.Input`, or call it on a batch. "
            f"Received: model={model.name!r}, built=False"
        )
    if nodes_of(graph) is None:
        raise ValueError(
            f"The model {model.name!r} computes its outputs in a `call` of its own, so its layers "
            "cannot be told apart. Build it as a `tfbnn.Sequential`, or as `tfbnn.Model(inputs, "
            f"outputs)`. Received: model of type {type(model).__name__}"
        )
    return graph


def _only(items: Any, node: Any) -> Any:
    if len(items) != 1:
        raise ValueError(
            f"The layer {node.operation.name!r} must have one input and one output here. "
            f"Received: {len(node.input_tensors)} inputs, {len(node.outputs)} outputs"
        )
    return items[0]


def _check_values_alone(node: Any) -> None:
    """Refuse `x + 1`: the step would forget the number."""
    arguments = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    if isinstance(node.operation, keras.layers.Layer):
        # Those have options beside, such as `training`.
        arguments = [a for a in arguments if hasattr(a, "shape")]
    if len([a for a in arguments if a is not None]) != len(node.input_tensors):
        raise ValueError(
            f"The operation {node.operation.name!r} takes a number beside the outputs of layers; "
            "use a layer, such as `keras.layers.Rescaling`. Received: an operation of type "
            f"{type(node.operation).__name__}"
        )
