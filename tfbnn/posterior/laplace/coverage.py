"""Coverage: the layers whose weights are random, and why those of others are not."""

import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn.conversion.coverage import Coverage, LayerCoverage
from tfbnn.layers.keras_internals import all_layers, input_specs, own_variables
from tfbnn.posterior.laplace.convolution_part import ConvolutionPart, DepthwisePart
from tfbnn.posterior.laplace.einsum_part import EinsumPart
from tfbnn.posterior.laplace.linear_parts import (
    AbstractLinearPart,
    DensePart,
    EmbeddingPart,
    NormalisationPart,
    RootMeanSquarePart,
)
from tfbnn.posterior.laplace.recording import Recording, recorded
from tfbnn.weights.tracing import traced

PARTS: dict[type[keras.Layer], type[AbstractLinearPart]] = {
    keras.layers.Dense: DensePart,
    keras.layers.EinsumDense: EinsumPart,
    keras.layers.Embedding: EmbeddingPart,
    keras.layers.Conv1D: ConvolutionPart,
    keras.layers.Conv2D: ConvolutionPart,
    keras.layers.Conv3D: ConvolutionPart,
    keras.layers.DepthwiseConv1D: DepthwisePart,
    keras.layers.DepthwiseConv2D: DepthwisePart,
    keras.layers.BatchNormalization: NormalisationPart,
    keras.layers.LayerNormalization: NormalisationPart,
    keras.layers.GroupNormalization: NormalisationPart,
    keras.layers.RMSNormalization: RootMeanSquarePart,
}
"""The linear part of each class of layers; a subclass may compute something else."""


def covered(model: keras.Model, last_alone: bool) -> tuple[list[AbstractLinearPart], Coverage]:
    """The linear parts whose weights can be random, and what is to be said of all layers.

    Args:
        model: A built Keras model.
        last_alone: Whether only the last layer before each output is to be random.

    Raises:
        ValueError: If there is none.
    """
    layers = [layer for layer in all_layers(model) if own_variables(layer)]
    found, reasons = _candidates(layers)
    called, in_loops, last = _seen(model, list(found.values()))
    for layer, part in list(found.items()):
        reason = None
        if part in in_loops:
            reason = "called inside a loop"
        elif part not in called:
            reason = "never called"
        elif last_alone and part not in last:
            reason = "not the last layer"
        if reason is not None:
            reasons[layer] = reason
            del found[layer]
    if not found:
        raise ValueError(
            "No layer has weights that could be random: they must be trained, in layers of "
            f"{sorted(cls.__name__ for cls in PARTS)}. Received: model={model.name!r} with "
            f"{ {layer.name: reason for layer, reason in reasons.items()} }"
        )
    rows = [
        LayerCoverage(
            layer.name,
            type(layer).__name__,
            found[layer].size if layer in found else 0,
            sum(math.prod(variable.shape) for variable in own_variables(layer)),
            reasons.get(layer, ""),
        )
        for layer in layers
    ]
    return list(found.values()), Coverage(rows)


def _candidates(
    layers: list[keras.Layer],
) -> tuple[dict[keras.Layer, AbstractLinearPart], dict[keras.Layer, str]]:
    """The linear part of each layer that has one, and why others have none."""
    found: dict[keras.Layer, AbstractLinearPart] = {}
    reasons: dict[keras.Layer, str] = {}
    for layer in layers:
        if type(layer) not in PARTS:
            bases = [cls.__name__ for cls in PARTS if isinstance(layer, cls)]
            subclass = (
                f"a subclass of {bases[0]}, which may compute something else" if bases else ""
            )
            reasons[layer] = subclass or f"nothing is known of {type(layer).__name__}"
        elif not layer.trainable:
            reasons[layer] = "not trained (trainable=False)"
        else:
            try:
                part = PARTS[type(layer)](layer)
            except ValueError as error:
                reasons[layer] = str(error)
                continue
            if part.variables:
                found[layer] = part
            else:
                reasons[layer] = "no trained weights"
    return found, reasons


def _seen(
    model: keras.Model, parts: list[AbstractLinearPart]
) -> tuple[list[AbstractLinearPart], ...]:
    """Parts that are called, those called inside loops, and those that no other one comes after."""
    seen: list[list[AbstractLinearPart]] = []

    def look(inputs: Any) -> Any:
        rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
        with tf.GradientTape() as tape, recorded(parts, tape, rows) as recording:
            outputs = model(inputs, training=False)
        called = [call.part for call in recording.calls]
        seen[:] = [called, recording.in_loops, _last(tf.nest.flatten(outputs), recording)]
        return outputs

    traced(look).get_concrete_function(input_specs(model))
    return tuple(seen)


def _last(outputs: list[tf.Tensor], recording: Recording) -> list[AbstractLinearPart]:
    """Parts out of which a path leads to an output without another part on it."""
    by_operation = {id(call.outputs.op): call.part for call in recording.calls}
    waiting, passed, found = [output.op for output in outputs], set(), []
    while waiting:
        operation = waiting.pop()
        if id(operation) in passed:
            continue
        passed.add(id(operation))
        if id(operation) in by_operation:
            found.append(by_operation[id(operation)])
        else:
            waiting += [tensor.op for tensor in operation.inputs]
    return found
