"""Constants: which features of a network are the same number for every input."""

from typing import Any

import keras
import numpy as np

from tfbnn.layers.steps import Steps
from tfbnn.layers.variational import AbstractVariationalLayer
from tfbnn.pruning.flow import (
    DROPOUT,
    PADDING,
    POOLING,
    REARRANGING,
    TYING,
    AbstractFlow,
    treats_each_feature,
)
from tfbnn.pruning.masks import mask_of
from tfbnn.weights.families import Weight


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
        """The constants that the layer computes, NaN where there is none."""
        varies = (self.live & (constants != 0)[:, np.newaxis]).any(0)
        bias = _point_bias(self.layer)
        if bias is None or not treats_each_feature(self.layer.activation):
            return np.full(varies.size, np.nan)
        return np.where(varies, np.nan, _applied(self.layer.activation, bias + self.shift))

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
    """The constant that each feature is, or NaN.

    Args:
        steps: The steps of the network.
        states: What is left of its dense layers and convolutions.
    """

    def __init__(self, steps: Steps, states: dict[Any, LinearState]):
        self._states = states
        for state in states.values():
            state.inputs = None
        super().__init__(steps)

    def linear(self, layer: Any, numbers: np.ndarray) -> np.ndarray:
        self._states[layer].read(numbers)
        return self._states[layer].outputs(numbers)

    def through(self, layer: Any, numbers: np.ndarray) -> np.ndarray:
        if type(layer) in (*REARRANGING, *POOLING):
            return numbers
        if type(layer) is keras.layers.BatchNormalization:
            return _normalised(layer, numbers)
        if type(layer) in (*DROPOUT, *PADDING):
            return np.where(numbers == 0, 0.0, np.nan)
        if type(layer) is keras.layers.GaussianNoise:
            return self.unknown(numbers.size)
        return _applied(layer, numbers)

    def tied(self, layer: Any, parts: list[np.ndarray]) -> np.ndarray:
        return TYING[type(layer)](parts)

    def alike(self, parts: np.ndarray) -> np.ndarray:
        return np.where((parts == parts[:1]).all(0), parts[0], np.nan)

    def unknown(self, size: int) -> np.ndarray:
        return np.full(size, np.nan)


def _applied(function: Any, numbers: np.ndarray) -> np.ndarray:
    """A function of Keras of the numbers that are known."""
    known = np.isfinite(numbers)
    outputs = function(keras.ops.convert_to_tensor(np.where(known, numbers, 0), "float32"))
    return np.where(known, keras.ops.convert_to_numpy(outputs).astype(np.float64), np.nan)


def _normalised(layer: keras.layers.BatchNormalization, numbers: np.ndarray) -> np.ndarray:
    mean, variance = (
        keras.ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance)
    )
    outputs = (numbers - mean) / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        outputs = outputs * keras.ops.convert_to_numpy(layer.gamma)
    return outputs + keras.ops.convert_to_numpy(layer.beta) if layer.center else outputs


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


def _point_bias(layer: Any) -> np.ndarray | float | None:
    """The bias, 0 if there is none, None if it is random."""
    if layer.bias is None:
        return 0.0
    if _is_random(layer.bias):
        return None
    bias = layer.bias.loc if isinstance(layer.bias, Weight) else layer.bias
    return keras.ops.convert_to_numpy(bias).astype(np.float64)


def _covers_its_inputs(layer: Any) -> bool:
    """Whether a layer reads no padding, which would be zero where its input is a constant."""
    size = getattr(layer, "kernel_size", ())
    return set(size) <= {1} or layer.padding == "valid"
