"""Flow: something about each feature of a network, carried from layer to layer.

A walk over the steps of a network knows where the features of a value go: through an activation
one by one, through `Flatten` once for every position, through `Concatenate` side by side. What is
carried is the subclass's business: which unit a feature belongs to (`units`), or which constant it
always is (`constants`).
"""

import dataclasses
from typing import Any

import keras
import numpy as np

from tfbnn.layers.keras_internals import nn_operations as nn
from tfbnn.layers.keras_internals import numpy_operations
from tfbnn.layers.linear_layer import AbstractLinearLayer
from tfbnn.layers.steps import Step, Steps, Value

_PLAIN = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_ACROSS_FEATURES = {"glu", "log_softmax", "softmax", "sparsemax"}


def _in_space(*names: str) -> tuple[type, ...]:
    """The classes of Keras' layers of one, two and three dimensions, `name.format(dimension)`."""
    return tuple(getattr(keras.layers, name.format(rank)) for name in names for rank in (1, 2, 3))


ACTIVATIONS = (
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
    nn.Elu,
    nn.Gelu,
    nn.HardSigmoid,
    nn.HardSilu,
    nn.LeakyRelu,
    nn.LogSigmoid,
    nn.Relu,
    nn.Relu6,
    nn.Selu,
    nn.Sigmoid,
    nn.Silu,
    nn.Softplus,
    nn.Softsign,
    numpy_operations.Tanh,
)
"""Layers and operations that are a function of one number, beside `keras.layers.Activation`."""

DROPOUT = (
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    *_in_space("SpatialDropout{}D"),
)
"""Layers that multiply by noise in training."""

POOLING = _in_space(
    "AveragePooling{}D",
    "Cropping{}D",
    "GlobalAveragePooling{}D",
    "GlobalMaxPooling{}D",
    "MaxPooling{}D",
    "UpSampling{}D",
)
"""Layers that leave a feature as it is if it is the same everywhere in space."""

PADDING = _in_space("ZeroPadding{}D")
"""Layers that put zeros beside a feature."""

REARRANGING = (keras.layers.Flatten, keras.layers.Permute, keras.layers.Reshape)
"""Layers that only put numbers elsewhere."""

TYING = {
    keras.layers.Add: sum,
    keras.layers.Average: lambda parts: sum(parts) / len(parts),
    keras.layers.Maximum: lambda parts: np.max(parts, 0),
    keras.layers.Minimum: lambda parts: np.min(parts, 0),
    keras.layers.Multiply: lambda parts: _product(parts),
    keras.layers.Subtract: lambda parts: parts[0] - parts[1],
    numpy_operations.Add: sum,
    numpy_operations.Maximum: lambda parts: np.max(parts, 0),
    numpy_operations.Minimum: lambda parts: np.min(parts, 0),
    numpy_operations.Multiply: lambda parts: _product(parts),
    numpy_operations.Subtract: lambda parts: parts[0] - parts[1],
}
"""Layers that combine the same features of their inputs, and how; NaN is a number not known."""

_CONCATENATING = (keras.layers.Concatenate, numpy_operations.Concatenate)


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """A number for each feature of a value: `numbers[i]` is that of index `i` of the axis."""

    axis: int
    numbers: np.ndarray


class AbstractFlow:
    """A walk over the steps of a network, from the input to the output.

    A layer that is not known is opaque: it may do anything with the features that it reads.

    Args:
        steps: The steps of the network.
    """

    def __init__(self, steps: Steps):
        self.features: dict[Value, Features] = {}
        self.features[steps.input] = self._of_unknown(steps.input)
        for step in steps:
            self.features[step.output] = self._output(step)

    def linear(self, layer: Any, numbers: np.ndarray) -> np.ndarray:
        """The outputs of a dense layer or a convolution that reads `numbers`."""
        raise NotImplementedError

    def through(self, layer: Any, numbers: np.ndarray) -> np.ndarray:
        """The outputs of a layer that treats each feature by itself."""
        raise NotImplementedError

    def tied(self, layer: Any, parts: list[np.ndarray]) -> np.ndarray:
        """The outputs of a layer that adds, multiplies, ... the same features of its inputs."""
        raise NotImplementedError

    def alike(self, parts: np.ndarray) -> np.ndarray:
        """One number for each column: for features of several positions that become one."""
        raise NotImplementedError

    def unknown(self, size: int) -> np.ndarray:
        """The numbers of features of which nothing is known."""
        raise NotImplementedError

    def opaque(self, step: Step) -> None:
        """Called where a layer may do anything with its inputs."""

    def along(self, value: Value, axis: int) -> np.ndarray:
        """The numbers of a value for each index of an axis."""
        features = self.features[value]
        if features.axis == axis:
            return features.numbers
        one = self.alike(features.numbers[:, np.newaxis])
        return np.repeat(one, value.shape[axis] or 1)

    def _of_unknown(self, value: Value) -> Features:
        axis = len(value.shape) - 1
        return Features(axis, self.unknown(value.shape[axis] or 1))

    def _output(self, step: Step) -> Features:
        layer = step.layer
        if is_linear(layer):
            axis = channel_axis(layer, step)
            return Features(axis, self.linear(layer, self.along(step.inputs[0], axis)))
        if type(layer) in TYING and _same_rank(step):
            return self._tied(step)
        if type(layer) in _CONCATENATING:
            return self._concatenated(step)
        if type(layer) in REARRANGING and None not in step.inputs[0].shape[1:]:
            return self._rearranged(step)
        axis = _axis_kept(layer, step, self.features[step.inputs[0]].axis)
        if axis is not None:
            numbers = self.through(layer, self.along(step.inputs[0], axis))
            return Features(min(axis, len(step.output.shape) - 1), numbers)
        self.opaque(step)
        return self._of_unknown(step.output)

    def _tied(self, step: Step) -> Features:
        axis = self.features[step.inputs[0]].axis
        parts = [self.along(value, axis) for value in step.inputs]
        if len({part.size for part in parts}) > 1:
            self.opaque(step)
            return self._of_unknown(step.output)
        return Features(axis, self.tied(step.layer, parts))

    def _concatenated(self, step: Step) -> Features:
        axis = self.features[step.inputs[0]].axis
        parts = [self.along(value, axis) for value in step.inputs]
        if step.layer.axis % len(step.output.shape) == axis:
            return Features(axis, np.concatenate(parts))
        return Features(axis, self.alike(np.stack(parts)))

    def _rearranged(self, step: Step) -> Features:
        """Rearrange a full array of the numbers as the layer does with its inputs."""
        layer, features = step.layer, self.features[step.inputs[0]]
        shape = step.inputs[0].shape[1:]
        ones = [1] * len(shape)
        ones[features.axis - 1] = features.numbers.size
        numbers = np.broadcast_to(features.numbers.reshape(ones), shape)
        axis = len(step.output.shape) - 1
        if type(layer) is keras.layers.Permute:
            axis = 1 + layer.dims.index(features.axis)
            numbers = numbers.transpose([dim - 1 for dim in layer.dims])
        elif getattr(layer, "data_format", None) == "channels_first":
            numbers = np.moveaxis(numbers, 0, -1)
        numbers = np.moveaxis(numbers.reshape(step.output.shape[1:]), axis - 1, -1)
        numbers = self.alike(numbers.reshape(-1, numbers.shape[-1]))
        return Features(axis, self.through(layer, numbers))


def is_linear(layer: Any) -> bool:
    """Whether a layer is a dense layer or a convolution, variational or not, of one group."""
    if isinstance(layer, AbstractLinearLayer):
        return layer.linear_map.reads_all_inputs
    return type(layer) in _PLAIN and getattr(layer, "groups", 1) == 1


def treats_each_feature(activation: Any) -> bool:
    """Whether an activation function is one of Keras' that looks at one number at a time."""
    name = getattr(activation, "__name__", None)
    known = name is not None and getattr(keras.activations, name, None) is activation
    return known and name not in _ACROSS_FEATURES


def channel_axis(layer: Any, step: Step) -> int:
    """The axis of the features in the inputs and outputs of a layer."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if first else len(step.inputs[0].shape) - 1


def _axis_kept(layer: Any, step: Step, axis: int) -> int | None:
    """The axis whose features a layer treats one by one; None for a layer that is not known."""
    if type(layer) is keras.layers.Activation:
        return axis if treats_each_feature(layer.activation) else None
    if type(layer) in (*ACTIVATIONS, *DROPOUT, keras.layers.GaussianNoise):
        return axis
    if type(layer) in (*POOLING, *PADDING):
        return channel_axis(layer, step)
    if type(layer) is keras.layers.BatchNormalization:
        return layer.axis % len(step.inputs[0].shape)
    return None


def _same_rank(step: Step) -> bool:
    return len({len(value.shape) for value in step.inputs}) == 1


def _product(parts: list[np.ndarray]) -> np.ndarray:
    """The product, which is 0 where one factor is, whatever the others are."""
    return np.where((np.stack(parts) == 0).any(0), 0.0, np.prod(parts, 0))
