"""Constants: which features of a network are the same number for every input."""

import functools
from typing import Any

import keras
import numpy as np

from tfbnn.layers import records
from tfbnn.layers.activations import Activation
from tfbnn.layers.records import AbstractRecord
from tfbnn.layers.steps import Step, Steps
from tfbnn.layers.variational import AbstractVariationalLayer
from tfbnn.pruning.flow import AbstractFlow
from tfbnn.pruning.masks import mask_of
from tfbnn.weights.families import Weight

_COMBINED = {
    "add": sum,
    "average": lambda parts: sum(parts) / len(parts),
    "maximum": lambda parts: np.max(parts, 0),
    "minimum": lambda parts: np.min(parts, 0),
    # 0 where one factor is, whatever the others are.
    "multiply": lambda parts: np.where((np.stack(parts) == 0).any(0), 0.0, np.prod(parts, 0)),
    "subtract": lambda parts: parts[0] - parts[1],
}


class LinearState:
    """What is left of one dense layer or convolution while units are removed.

    Attributes:
        layer: The layer.
        live: Whether there is a weight from an input to an output, `(inputs, outputs)`.
        shift: What has been added to the mean of the bias, `(outputs,)`.
        variance: What has been added to the variance of the bias, `(outputs,)`.
        inputs: The constants that the layer reads, `(inputs,)`, NaN where there is none.
    """

    def __init__(self, layer: Any):
        self.layer = layer
        self.live = _over_space(_mask(layer)).any(0)
        self.shift = np.zeros(self.live.shape[1])
        self.variance = np.zeros(self.live.shape[1])
        self.inputs: np.ndarray | None = None

    def read(self, constants: np.ndarray) -> None:
        """Note what a call of the layer reads; what differs between two calls is no constant."""
        if self.inputs is not None:
            constants = np.where(self.inputs == constants, constants, np.nan)
        self.inputs = constants

    def outputs(self, constants: np.ndarray) -> np.ndarray:
        """The constants before the activation of the layer, NaN where there is none."""
        varies = (self.live & (constants != 0)[:, np.newaxis]).any(0)
        return np.where(varies, np.nan, _point_bias(self.layer) + self.shift)

    def harmless(self, fold: bool) -> np.ndarray:
        """Whether an input can go without a change of the outputs, `(inputs,)`."""
        reads = self.live.any(1)
        return ~reads | (self.inputs == 0) | (np.isfinite(self.inputs) & self.takes_constants(fold))

    def takes_constants(self, fold: bool) -> bool:
        """Whether the bias can take on a constant input times its weights.

        A random weight gives a normal number, the same everywhere if there is no padding; only a
        random bias can take on its variance.
        """
        layer = self.layer
        if layer.bias is None or not _covers_its_inputs(layer):
            return False
        return fold or not isinstance(layer, AbstractVariationalLayer) or _is_random(layer.bias)

    def remove(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Remove inputs and outputs; what constant inputs contribute goes into the bias."""
        constants = np.where(rows & self.live.any(1), self.inputs, 0)
        if constants.any():
            loc, variance = _moments(self.layer)
            self.shift += constants @ (loc * self.live)
            if _is_random(self.layer.bias):
                self.variance += constants**2 @ (variance * self.live)
        self.live[rows] = False
        self.live[:, columns] = False


class Constants(AbstractFlow):
    """The constant that each feature is, or NaN; the states of layers note what those read."""

    def __init__(self, steps: Steps, states: dict[Any, LinearState]):
        self._states = states
        for state in states.values():
            state.inputs = None
        super().__init__(steps)

    def linear(self, layer: Any, numbers: np.ndarray) -> np.ndarray:
        self._states[layer].read(numbers)
        return self._states[layer].outputs(numbers)

    @functools.singledispatchmethod
    def through(self, record: AbstractRecord, numbers: np.ndarray) -> np.ndarray:
        return numbers

    @through.register
    def _depthwise(self, record: records.Depthwise, numbers: np.ndarray) -> np.ndarray:
        known = numbers if _covers_its_inputs(record.layer) else _zeros(numbers)
        sums, _ = _moments(record.layer)
        return (known[:, np.newaxis] * sums).ravel() + _point_bias(record.layer)

    @through.register(records.Noise)
    @through.register(records.Normalisation)
    def _not_known(self, record: AbstractRecord, numbers: np.ndarray) -> np.ndarray:
        return self.unknown(numbers.size)

    @through.register
    def _dropout(self, record: records.Dropout, numbers: np.ndarray) -> np.ndarray:
        return _zeros(numbers)

    @through.register
    def _affine(self, record: records.Affine, numbers: np.ndarray) -> np.ndarray:
        factor, offset = (np.ravel(number) for number in record.numbers())
        return numbers * factor + offset

    @through.register
    def _rearrangement(self, record: records.Rearrangement, numbers: np.ndarray) -> np.ndarray:
        return _zeros(numbers) if record.has_zeros else numbers

    def tied(self, record: records.Merge, parts: list[np.ndarray]) -> np.ndarray:
        return _COMBINED[record.kind](parts)

    def activated(self, activation: Activation, numbers: np.ndarray) -> np.ndarray:
        """A function of the numbers that are known."""
        if not activation.treats_each_feature:
            return self.unknown(numbers.size)
        known = np.isfinite(numbers)
        inputs = keras.ops.convert_to_tensor(np.where(known, numbers, 0), "float32")
        outputs = keras.ops.convert_to_numpy(activation.function(inputs))
        return np.where(known, outputs.astype(np.float64), np.nan)

    def alike(self, parts: np.ndarray) -> np.ndarray:
        return np.where((parts == parts[:1]).all(0), parts[0], np.nan)

    def unknown(self, size: int) -> np.ndarray:
        return np.full(size, np.nan)

    def opaque(self, step: Step) -> None:
        """Nothing is known behind it, which is all."""


def _zeros(numbers: np.ndarray) -> np.ndarray:
    """The numbers that are zero."""
    return np.where(numbers == 0, 0.0, np.nan)


def _mask(layer: Any) -> np.ndarray:
    if isinstance(layer, AbstractVariationalLayer):
        return mask_of(layer.kernel)
    # A zero of a plain kernel is no pruned weight: it may be trained.
    return np.ones(layer.kernel.shape, np.float32)


def _moments(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the sums of a kernel over space, `(inputs, outputs)`."""
    if not isinstance(layer, AbstractVariationalLayer):
        loc = keras.ops.convert_to_numpy(layer.kernel)
        return _over_space(loc).sum(0, np.float64), np.zeros(loc.shape[-2:])
    loc, scale = layer.kernel.loc.numpy(), layer.kernel.scale.numpy().astype(np.float64)
    return _over_space(loc).sum(0, np.float64), _over_space(scale**2).sum(0)


def _over_space(kernel: np.ndarray) -> np.ndarray:
    return kernel.reshape(-1, *kernel.shape[-2:])


def _is_random(bias: Any) -> bool:
    return isinstance(bias, Weight) and bias.is_random


def _point_bias(layer: Any) -> np.ndarray | float:
    """The bias, 0 if there is none, NaN if it is random."""
    if layer.bias is None:
        return 0.0
    if _is_random(layer.bias):
        return np.nan
    bias = layer.bias.loc if isinstance(layer.bias, Weight) else layer.bias
    return keras.ops.convert_to_numpy(bias).astype(np.float64)


def _covers_its_inputs(layer: Any) -> bool:
    """Whether a layer reads no padding, which would be zero where its input is a constant."""
    size = getattr(layer, "kernel_size", ())
    return set(size) <= {1} or layer.padding == "valid"
