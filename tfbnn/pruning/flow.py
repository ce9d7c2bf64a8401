"""Flow: something about each feature of a network, carried from layer to layer.

A walk over the steps of a network knows where the features of a value go: through an activation
one by one, through `Flatten` once for every position, through `Concatenate` side by side. What is
carried is the subclass's business: which unit a feature belongs to (`units`), or which constant it
always is (`constants`).
"""

import abc
import dataclasses
import functools
from typing import Any

import keras
import numpy as np

from tfbnn.layers import records
from tfbnn.layers.activations import Activation
from tfbnn.layers.keras_layers import record_of
from tfbnn.layers.records import AbstractRecord
from tfbnn.layers.steps import Step, Steps, Value


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """A number for each feature of a value: `numbers[i]` is that of index `i` of the axis."""

    axis: int
    numbers: np.ndarray


class AbstractFlow(abc.ABC):
    """A walk over the steps of a network, from the input to the output.

    A layer that is not known is opaque: it may do anything with the features that it reads.
    """

    def __init__(self, steps: Steps):
        self.features: dict[Value, Features] = {}
        self.features[steps.input] = self._of_unknown(steps.input)
        for step in steps:
            self.features[step.output] = self._output(record_of(step))

    @abc.abstractmethod
    def linear(self, layer: Any, numbers: np.ndarray) -> np.ndarray:
        """The outputs of a dense layer or a convolution that reads `numbers`."""

    @abc.abstractmethod
    def through(self, record: AbstractRecord, numbers: np.ndarray) -> np.ndarray:
        """The outputs of a layer that treats each feature by itself."""

    @abc.abstractmethod
    def tied(self, record: records.Merge, parts: list[np.ndarray]) -> np.ndarray:
        """The outputs of a layer that adds, multiplies, ... the same features of its inputs."""

    @abc.abstractmethod
    def activated(self, activation: Activation, numbers: np.ndarray) -> np.ndarray:
        """What comes out of an activation."""

    @abc.abstractmethod
    def alike(self, parts: np.ndarray) -> np.ndarray:
        """One number for each column: for features of several positions that become one."""

    @abc.abstractmethod
    def unknown(self, size: int) -> np.ndarray:
        """The numbers of features of which nothing is known."""

    @abc.abstractmethod
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

    def _output(self, record: AbstractRecord) -> Features:
        found = self._carried(record)
        if found is None:
            self.opaque(record.step)
            return self._of_unknown(record.step.output)
        if record.activation.name == "linear":
            return found
        return Features(found.axis, self.activated(record.activation, found.numbers))

    @functools.singledispatchmethod
    def _carried(self, record: AbstractRecord) -> Features | None:
        """What comes out of a layer before its activation; None if that is not known."""
        return None

    @_carried.register
    def _linear(self, record: records.Linear) -> Features | None:
        if not record.mixes_all:
            return None
        numbers = self.along(record.step.inputs[0], record.channel_axis)
        return Features(record.channel_axis, self.linear(record.layer, numbers))

    @_carried.register
    def _depthwise(self, record: records.Depthwise) -> Features | None:
        # A variational one has masks of its own, which nobody would keep in step.
        return None if record.is_variational else self._one_by_one(record, record.channel_axis)

    @_carried.register
    def _identity(self, record: records.Identity) -> Features:
        return self._one_by_one(record, self._read(record).axis)

    @_carried.register
    def _affine(self, record: records.Affine) -> Features | None:
        if record.axis is not None:
            return self._one_by_one(record, record.axis)
        is_uniform = all(number.shape.num_elements() == 1 for number in record.numbers())
        return self._identity(record) if is_uniform else None

    @_carried.register
    def _normalisation(self, record: records.Normalisation) -> Features | None:
        # Over their own axis features make one another; no one can go.
        return None if self._read(record).axis in record.axes else self._identity(record)

    @_carried.register
    def _resampling(self, record: records.Resampling) -> Features:
        return self._one_by_one(record, record.channel_axis)

    @_carried.register
    def _rearrangement(self, record: records.Rearrangement) -> Features | None:
        """Rearrange a full array of the places of the numbers as the layer does with its inputs."""
        if record.in_space:
            return self._one_by_one(record, record.channel_axis)
        features, shape = self._read(record), record.step.inputs[0].shape[1:]
        # The arguments of an operation are in no configuration that could be changed.
        if None in shape or not isinstance(record.layer, keras.Layer):
            return None
        ones = [1] * len(shape)
        ones[features.axis - 1] = features.numbers.size
        places = np.broadcast_to(np.arange(features.numbers.size).reshape(ones), shape)
        axis = record.axis_after(features.axis)
        places = np.moveaxis(record.rearranged(places), axis - 1, -1)
        numbers = self.alike(features.numbers[places.reshape(-1, places.shape[-1])])
        return Features(axis, self.through(record, numbers))

    @_carried.register
    def _merge(self, record: records.Merge) -> Features | None:
        axis = self._read(record).axis
        if not record.same_rank:
            return None
        parts = [self.along(value, axis) for value in record.step.inputs]
        if len({part.size for part in parts}) > 1:
            return None
        return Features(axis, self.tied(record, parts))

    @_carried.register
    def _concatenation(self, record: records.Concatenation) -> Features:
        axis = self._read(record).axis
        parts = [self.along(value, axis) for value in record.step.inputs]
        if record.axis == axis:
            return Features(axis, np.concatenate(parts))
        return Features(axis, self.alike(np.stack(parts)))

    def _read(self, record: AbstractRecord) -> Features:
        return self.features[record.step.inputs[0]]

    def _one_by_one(self, record: AbstractRecord, axis: int) -> Features:
        step = record.step
        numbers = self.through(record, self.along(step.inputs[0], axis))
        return Features(min(axis, len(step.output.shape) - 1), numbers)
