"""Layers: what each kind of layer is in C. `TRANSLATIONS` is the whole list.

A translation is a function of a `Translator`, which collects operations, and of the record of a
layer. The activation that a layer ends in comes after it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tfbnn.export.c_source.activations import NAMES, Activation
from tfbnn.export.c_source.arrangement import Add, Affine, Concatenate, Rearrange, offsets_of
from tfbnn.export.c_source.geometry import window_of
from tfbnn.export.c_source.normalisation import Normalise
from tfbnn.export.c_source.pooling import Pooling
from tfbnn.export.c_source.program import Value
from tfbnn.export.c_source.translator import Translator
from tfbnn.layers import records
from tfbnn.layers.keras_layers import record_of
from tfbnn.layers.steps import Step


def translate(translator: Translator, step: Step) -> None:
    """Append the operations of one step; without C for it, or for an option, a `ValueError`."""
    record = record_of(step)
    translation = record.entry_in(TRANSLATIONS)
    if translation is None:
        raise ValueError(
            f"There is no C code for the layer {step.name}. Supported are dense layers and, in one "
            "and two dimensions, convolutions, of tfbnn and of Keras; of Keras also pooling, Add, "
            "Concatenate, normalization, what puts numbers elsewhere, noise and "
            "activations. Take it out of the model, or export with `tfbnn.export.tflite`. "
            f"Received: a layer of type {type(step.layer).__name__}"
        )
    if not record.channels_last and not isinstance(record, records.Rearrangement):
        raise _unsupported(step, "data_format", step.layer.data_format, "channels_last")
    translator.same(step)
    translation(translator, record)
    _activate(translator, record)


def _activate(translator: Translator, record: records.AbstractRecord) -> None:
    """The activation on what a layer has computed so far."""
    step, activation = record.step, record.activation
    if translator.ends_in(step, activation.name):
        translator.end_with(activation.name)
    elif activation.name != "linear":
        if activation.name not in NAMES:
            names = ", ".join([*NAMES, "relu6", "leaky_relu", "linear"])
            raise ValueError(
                f"There is no C code for the activation of the layer {step.name}. Supported are "
                f"{names}, and softmax at the end of a network of classes. "
                f"Received: activation={activation.words!r}"
            )
        if activation.threshold:
            raise _unsupported(step, "threshold", activation.threshold, 0)
        if activation.cap is not None and activation.slope:
            raise _unsupported(step, "negative_slope", activation.slope, "0 with `max_value`")
        if activation.name == "elu" and activation.slope != 1.0:
            raise _unsupported(step, "alpha", activation.slope, 1.0)
        translator.elementwise(step, lambda v, out: Activation(v, out, activation))


def _linear(translator: Translator, record: records.Linear) -> None:
    step, layer = record.step, record.layer
    window = None
    if hasattr(layer, "kernel_size"):
        shape = _checked_shape(translator, step)
        sizes = layer.kernel_size, layer.strides, layer.dilation_rate
        window = window_of(shape, step.output.shape[1:], *sizes, layer.padding)
        window = None if window.is_point and record.mixes_all else window
    translator.linear(record, window)


def _pooling(translator: Translator, record: records.Pooling) -> None:
    step, shape = record.step, _checked_shape(translator, record.step)
    size, strides, padding = record.window(shape[:-1])
    output_shape = (1,) * len(size) if record.is_global else step.output.shape[1:]
    window = window_of(shape, output_shape, size, strides, (1,) * len(size), padding)
    value = translator.only_input(step)
    output = Value.new(step.output.shape[1:], value.is_random)
    translator.pool(step, Pooling(value, output, window, record.kind))


def _checked_shape(translator: Translator, step: Step) -> tuple[int, ...]:
    """The shape that a window goes over."""
    shape = translator.only_input(step).shape
    if len(shape) > 3:
        raise ValueError(
            f"There is no C code for windows in three dimensions: the layer {step.name}. "
            f"Export with `tfbnn.export.tflite`. Received: inputs of shape {shape}"
        )
    return shape


def _affine(translator: Translator, record: records.Affine | records.Normalisation) -> None:
    step = record.step
    name, shape = translator.name_of(record.layer), step.output.shape[1:]
    factor, term = (np.broadcast_to(number, (1, *shape))[0] for number in record.numbers())
    translator.elementwise(step, lambda v, out: Affine(v, out, name, factor, term))


def _normalise(translator: Translator, record: records.Normalisation) -> None:
    step, shape, axes = record.step, record.step.output.shape, record.axes
    if axes != tuple(range(len(shape) - len(axes), len(shape))):
        raise _unsupported(step, "axis", record.layer.axis, [*range(-len(axes), 0)])
    count, epsilon = math.prod(shape[axes[0] :]), record.layer.epsilon
    translator.elementwise(step, lambda v, out: Normalise(v, out, count, epsilon))
    _affine(translator, record)


def _rearrange(translator: Translator, record: records.Rearrangement) -> None:
    step, value = record.step, translator.only_input(record.step)
    # Counted from 1: what the layer puts beside them is zero.
    numbers = np.arange(1, value.size + 1)
    places = record.rearranged(numbers.reshape(value.shape)) - 1
    if np.array_equal(places.ravel(), numbers - 1):
        return
    offsets = offsets_of(places)
    if offsets is None:
        raise ValueError(
            f"There is no C code for what the layer {step.name} does with its inputs. Export with "
            f"`tfbnn.export.tflite`. Received: inputs of shape {value.shape}"
        )
    output = Value.new(places.shape, value.is_random)
    # A layer may be called twice, with inputs of two shapes.
    name = f"places_{len(translator.operations)}"
    translator.append(step, Rearrange(value, output, name, offsets))


def _add(translator: Translator, record: records.Merge) -> None:
    step = record.step
    total, *others = translator.inputs(step)
    for value in others:
        if value.shape != total.shape:
            raise _unsupported(step, "the shapes of its inputs", value.shape, total.shape)
        output = Value.new(total.shape, total.is_random or value.is_random)
        translator.append(step, Add((total, value), output))
        total = output


def _concatenate(translator: Translator, record: records.Concatenation) -> None:
    values = translator.inputs(record.step)
    output = Value.new(record.step.output.shape[1:], any(value.is_random for value in values))
    translator.append(record.step, Concatenate(tuple(values), output, record.axis - 1))


def _unsupported(step: Step, option: str, value: Any, supported: Any) -> ValueError:
    return ValueError(
        f"There is no C code for this option of the layer {step.name}; supported is "
        f"{option}={supported!r}. Received: {option}={value!r}"
    )


TRANSLATIONS: dict[type, Callable[[Translator, Any], None] | dict[str, Callable]] = {
    records.Linear: _linear,
    records.Identity: lambda translator, record: None,
    records.Affine: _affine,
    records.Normalisation: _normalise,
    records.Pooling: _pooling,
    records.Rearrangement: _rearrange,
    records.Merge: {"add": _add},
    records.Concatenation: _concatenate,
}
