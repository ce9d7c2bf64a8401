"""Layers: what each layer of a network is in C. `TRANSLATIONS` is the whole list.

A translation is a function of a `Translator`, which collects operations, and of a step. To add a
layer is to add a row.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfbnn.export.c_source.activations import NAMES, Activation
from tfbnn.export.c_source.arrangement import Add, Affine, Concatenate, Padding
from tfbnn.export.c_source.geometry import window_of
from tfbnn.export.c_source.pooling import Pooling
from tfbnn.export.c_source.program import Value
from tfbnn.export.c_source.translator import Translator
from tfbnn.layers import AbstractConvolution, Dense
from tfbnn.layers.steps import Step

_LAYERS = keras.layers


def translate(translator: Translator, step: Step) -> None:
    """Append the operations of one step.

    Raises:
        ValueError: If there is no C for the layer, or for one of its options.
    """
    if isinstance(step.layer, Dense | AbstractConvolution):
        return _linear(translator, step)
    # The class itself: a subclass may compute something else.
    translation = TRANSLATIONS.get(type(step.layer))
    if translation is None:
        raise ValueError(
            f"There is no C code for the layer {step.name}. Supported are the variational layers "
            "of tfbnn in one and two dimensions and, of Keras, "
            f"{', '.join(sorted(layer.__name__ for layer in TRANSLATIONS))}. Take it out of the "
            "model, or export with `tfbnn.export.tflite`. "
            f"Received: a layer of type {type(step.layer).__name__}"
        )
    return translation(translator, step)


def _linear(translator: Translator, step: Step) -> None:
    layer = step.layer
    value = translator.only_input(step)
    window = None
    is_dense = isinstance(layer, Dense | _LAYERS.Dense)
    if not is_dense:
        _check_channels_last(step)
        _check_rank(step, value)
        window = window_of(
            value.shape,
            step.output.shape[1:],
            layer.kernel_size,
            layer.strides,
            layer.dilation_rate,
            layer.padding,
        )
        window = None if window.is_point and layer.groups == 1 else window
    translator.linear(step, window)
    _activate(translator, step, layer.activation)


def _activation_layer(translator: Translator, step: Step) -> None:
    translator.same(step)
    _activate(translator, step, step.layer.activation)


def _activate(translator: Translator, step: Step, activation: Any) -> None:
    """An activation on what `step` has computed so far."""
    # The name Keras stores; a function that is not Keras' own is stored in another way.
    is_keras = getattr(keras.activations, getattr(activation, "__name__", ""), None) is activation
    name = activation.__name__ if is_keras else None
    if translator.ends_in(step, name):
        translator.end_with(name)
    elif name in NAMES:
        # 0.2 is the slope of Keras' function, 6 is what relu6 means.
        parameter = {"leaky_relu": 0.2, "relu6": 6.0}.get(name, 0.0)
        translator.elementwise(step, lambda v, out: Activation(v, out, name, parameter))
    elif name != "linear":
        raise ValueError(
            f"There is no C code for the activation of the layer {step.name}. Supported are "
            f"{', '.join([*NAMES, 'linear'])}, and softmax at the end of a network of classes. "
            f"Received: activation={getattr(activation, '__name__', activation)!r}"
        )


def _softmax(translator: Translator, step: Step) -> None:
    if step.layer.axis not in (-1, len(step.output.shape) - 1):
        raise _unsupported(step, "axis", step.layer.axis, -1)
    translator.same(step)
    _activate(translator, step, keras.activations.softmax)


def _relu(translator: Translator, step: Step) -> None:
    layer = step.layer
    if layer.threshold:
        raise _unsupported(step, "threshold", layer.threshold, 0)
    if layer.max_value is not None and layer.negative_slope:
        raise _unsupported(step, "negative_slope", layer.negative_slope, "0 with `max_value`")
    translator.same(step)
    name, parameter = "leaky_relu", layer.negative_slope or 0.0
    if layer.max_value is not None:
        name, parameter = "relu6", layer.max_value
    translator.elementwise(step, lambda v, out: Activation(v, out, name, float(parameter)))


def _leaky_relu(translator: Translator, step: Step) -> None:
    slope = float(step.layer.negative_slope)
    translator.same(step)
    translator.elementwise(step, lambda v, out: Activation(v, out, "leaky_relu", slope))


def _elu(translator: Translator, step: Step) -> None:
    if step.layer.alpha != 1.0:
        raise _unsupported(step, "alpha", step.layer.alpha, 1.0)
    translator.same(step)
    _activate(translator, step, keras.activations.elu)


def _pooling(kind: str, is_global: bool) -> Callable[[Translator, Step], None]:
    def translation(translator: Translator, step: Step) -> None:
        _check_channels_last(step)
        value = translator.only_input(step)
        spatial = value.shape[:-1]
        size, strides, padding = spatial, (1,) * len(spatial), "valid"
        output_shape = (*(1 for _ in spatial), value.shape[-1])
        if not is_global:
            layer = step.layer
            size, strides = _per_axis(layer.pool_size, spatial), _per_axis(layer.strides, spatial)
            padding, output_shape = layer.padding, step.output.shape[1:]
        window = window_of(value.shape, output_shape, size, strides, (1,) * len(size), padding)
        output = Value.new(step.output.shape[1:], value.is_random)
        translator.pool(step, Pooling(value, output, window, kind))

    return translation


def _per_axis(numbers: Any, spatial: tuple[int, ...]) -> tuple[int, ...]:
    return (numbers,) * len(spatial) if isinstance(numbers, int) else tuple(numbers)


def _batch_normalization(translator: Translator, step: Step) -> None:
    layer = step.layer
    ones = np.ones(layer.moving_mean.shape)
    gamma = np.asarray(layer.gamma) if layer.scale else ones
    beta = np.asarray(layer.beta) if layer.center else 0 * ones
    deviation = np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
    factor = gamma / deviation
    term = beta - np.asarray(layer.moving_mean) * factor
    axis = layer.axis % len(step.output.shape)
    shape = [1] * len(step.output.shape)
    shape[axis] = -1
    _affine(translator, step, factor.reshape(shape)[0], term.reshape(shape)[0])


def _rescaling(translator: Translator, step: Step) -> None:
    layer = step.layer
    _affine(translator, step, np.asarray(layer.scale), np.asarray(layer.offset))


def _normalization(translator: Translator, step: Step) -> None:
    layer = step.layer
    mean = np.asarray(layer.mean, np.float64)[0]
    deviation = np.sqrt(np.asarray(layer.variance, np.float64))[0]
    deviation = np.maximum(deviation, keras.config.epsilon())
    if layer.invert:
        _affine(translator, step, deviation, mean)
    else:
        _affine(translator, step, 1 / deviation, -mean / deviation)


def _affine(translator: Translator, step: Step, factor: np.ndarray, term: np.ndarray) -> None:
    name = translator.name_of(step.layer)
    translator.same(step)
    translator.elementwise(step, lambda v, out: Affine(name, v, out, factor, term))


def _reshape(translator: Translator, step: Step) -> None:
    _check_channels_last(step)
    translator.same(step)


def _identity(translator: Translator, step: Step) -> None:
    translator.same(step)


def _add(translator: Translator, step: Step) -> None:
    total, *others = translator.inputs(step)
    for value in others:
        if value.shape != total.shape:
            raise _unsupported(step, "the shapes of its inputs", value.shape, total.shape)
        output = Value.new(total.shape, total.is_random or value.is_random)
        translator.append(step, Add((total, value), output))
        total = output


def _concatenate(translator: Translator, step: Step) -> None:
    values = translator.inputs(step)
    axis = step.layer.axis % len(step.output.shape) - 1
    output = Value.new(step.output.shape[1:], any(value.is_random for value in values))
    translator.append(step, Concatenate(tuple(values), output, axis))


def _zero_padding(translator: Translator, step: Step) -> None:
    _check_channels_last(step)
    value = translator.only_input(step)
    padding = step.layer.padding
    before = (0, padding[0]) if len(value.shape) == 2 else (padding[0][0], padding[1][0])
    output = Value.new(step.output.shape[1:], value.is_random)
    sizes = [(1,) * (3 - len(v.shape)) + v.shape for v in (value, output)]
    translator.append(step, Padding(value, output, sizes[0], sizes[1], before))


def _check_channels_last(step: Step) -> None:
    if getattr(step.layer, "data_format", "channels_last") != "channels_last":
        raise _unsupported(step, "data_format", step.layer.data_format, "channels_last")


def _check_rank(step: Step, value: Value) -> None:
    if len(value.shape) > 3:
        raise ValueError(
            f"There is no C code for convolutions in three dimensions: the layer {step.name}. "
            f"Export with `tfbnn.export.tflite`. Received: inputs of shape {value.shape}"
        )


def _unsupported(step: Step, option: str, value: Any, supported: Any) -> ValueError:
    return ValueError(
        f"There is no C code for this option of the layer {step.name}; supported is "
        f"{option}={supported!r}. Received: {option}={value!r}"
    )


TRANSLATIONS: dict[type, Callable[[Translator, Step], None]] = {
    _LAYERS.Dense: _linear,
    _LAYERS.Conv1D: _linear,
    _LAYERS.Conv2D: _linear,
    _LAYERS.MaxPooling1D: _pooling("maximum", is_global=False),
    _LAYERS.MaxPooling2D: _pooling("maximum", is_global=False),
    _LAYERS.AveragePooling1D: _pooling("average", is_global=False),
    _LAYERS.AveragePooling2D: _pooling("average", is_global=False),
    _LAYERS.GlobalMaxPooling1D: _pooling("maximum", is_global=True),
    _LAYERS.GlobalMaxPooling2D: _pooling("maximum", is_global=True),
    _LAYERS.GlobalAveragePooling1D: _pooling("average", is_global=True),
    _LAYERS.GlobalAveragePooling2D: _pooling("average", is_global=True),
    _LAYERS.Flatten: _reshape,
    _LAYERS.Reshape: _reshape,
    _LAYERS.BatchNormalization: _batch_normalization,
    _LAYERS.Rescaling: _rescaling,
    _LAYERS.Normalization: _normalization,
    _LAYERS.Dropout: _identity,
    _LAYERS.SpatialDropout1D: _identity,
    _LAYERS.SpatialDropout2D: _identity,
    _LAYERS.GaussianDropout: _identity,
    _LAYERS.GaussianNoise: _identity,
    _LAYERS.Identity: _identity,
    _LAYERS.ZeroPadding1D: _zero_padding,
    _LAYERS.ZeroPadding2D: _zero_padding,
    _LAYERS.Add: _add,
    _LAYERS.Concatenate: _concatenate,
    _LAYERS.Activation: _activation_layer,
    _LAYERS.ReLU: _relu,
    _LAYERS.LeakyReLU: _leaky_relu,
    _LAYERS.ELU: _elu,
    _LAYERS.Softmax: _softmax,
}
