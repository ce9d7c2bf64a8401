"""Records: the kinds of layers there are, seen from whoever goes through a network layer by layer.

A record says what a layer or an operation of `keras.ops` does in inference: one of these kinds on
what it reads, and then an activation. `keras_layers` says of which kind each layer is; moments, the
flow of units and C code add what each of them alone knows of a kind.

| kind | outputs, before the activation |
|---|---|
| `AnyLinear` | a linear map of the inputs and a kernel, and a bias |
| `Linear`, `Depthwise` | the same: a matrix product or a convolution, or one of each channel |
| `Identity`, `Noise`, `Dropout` | the inputs |
| `Affine` | `factor * x + offset` |
| `Normalisation` | `x` with a mean of 0 and a variance of 1 over some axes, and then the same |
| `Resampling`, `Pooling` | means or maxima over space, of each channel by itself |
| `Rearrangement` | each is one of the inputs, or zero |
| `Merge`, `Concatenation` | sums, ... of several inputs, number by number; inputs side by side |
| `Unknown` | anything |
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.activations import Activation, activation_of
from tfbnn.layers.linear_layer import AbstractLinearLayer
from tfbnn.layers.steps import Step


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractRecord:
    """What the layer of a step is."""

    step: Step

    @property
    def layer(self) -> Any:
        """The layer, or the operation."""
        return self.step.layer

    @property
    def activation(self) -> Activation:
        """What comes last."""
        return activation_of(self.layer, len(self.step.output.shape))

    def entry_in(self, table: dict[type, Any]) -> Any:
        """What a table has for its class, or for one that it is a case of, and for its `kind`."""
        entry = next((table[cls] for cls in type(self).__mro__ if cls in table), None)
        return entry.get(self.kind) if isinstance(entry, dict) else entry

    @property
    def is_variational(self) -> bool:
        """Whether its weights have a law."""
        return isinstance(self.layer, AbstractLinearLayer)

    @property
    def channels_last(self) -> bool:
        """Whether the features are in the last axis, or the layer does not care."""
        return getattr(self.layer, "data_format", None) != "channels_first"

    @property
    def channel_axis(self) -> int:
        """The axis of the features in what it reads."""
        return len(self.step.inputs[0].shape) - 1 if self.channels_last else 1

    @property
    def same_rank(self) -> bool:
        """Whether all inputs have the same number of axes. Keras inserts some where they do not."""
        return len({len(value.shape) for value in self.step.inputs}) == 1


class Unknown(AbstractRecord):
    """May do anything."""


@dataclasses.dataclass(frozen=True, eq=False)
class AnyLinear(AbstractRecord):
    """`linear_map(x, layer.kernel) + layer.bias`, of Keras or variational, whatever the map."""

    linear_map: Any


class Linear(AnyLinear):
    """A matrix product, or a convolution: its kernel is `(..., inputs of a group, outputs)`."""

    @property
    def units(self) -> int:
        """Number of outputs at each place."""
        return self.step.output.shape[self.channel_axis]

    @property
    def groups(self) -> int:
        """Number of parts of the features that do not meet."""
        return getattr(self.linear_map, "groups", 1)

    @property
    def mixes_all(self) -> bool:
        """Whether each output is known to read all features."""
        return self.linear_map.has_rows_and_columns


class Depthwise(Linear):
    """A linear map of each feature by itself, over space, to one output or to several."""

    @property
    def groups(self) -> int:
        return self.units // self.layer.depth_multiplier


class Identity(AbstractRecord):
    """Nothing but the activation."""


class Noise(Identity):
    """Nothing but noise, and that in training only."""


class Dropout(Noise):
    """Noise that leaves a zero as it is."""


@dataclasses.dataclass(frozen=True, eq=False)
class Affine(AbstractRecord):
    """`factor * x + offset`.

    Attributes:
        numbers: Gives factor and offset, which broadcast to the inputs.
        axis: The axis of their features if they are variables of the layer, or None.
    """

    numbers: Callable[[], tuple[tf.Tensor, tf.Tensor]]
    axis: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Normalisation(AbstractRecord):
    """`factor * (x - mean) / sqrt(variance + epsilon) + offset`, with mean and variance of `x`.

    Attributes:
        numbers: As in `Affine`.
        axes: The axes over which `x` has its mean and its variance.
    """

    numbers: Callable[[], tuple[tf.Tensor, tf.Tensor]]
    axes: tuple[int, ...]


class Resampling(AbstractRecord):
    """Weighted means over space, of each channel by itself; the weights add up to 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pooling(Resampling):
    """The largest or the mean in each window, of each channel by itself.

    Attributes:
        kind: `"maximum"` or `"average"`.
        is_global: Whether there is one window, of all that there is.
    """

    kind: str
    is_global: bool = False

    def window(self, spatial: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], str]:
        """Size, strides and padding of the windows over inputs of a shape `spatial`."""
        if self.is_global:
            return tuple(spatial), tuple(spatial), "valid"
        return tuple(self.layer.pool_size), tuple(self.layer.strides), self.layer.padding


@dataclasses.dataclass(frozen=True, eq=False)
class Rearrangement(AbstractRecord):
    """Each output is one of the inputs, or zero.

    Attributes:
        in_space: Whether features stay features, and only places in space change.
        has_zeros: Whether there are zeros beside the inputs.
    """

    in_space: bool = False
    has_zeros: bool = False

    def rearranged(self, numbers: np.ndarray) -> np.ndarray:
        """Where the layer puts the whole numbers of one example (no axis for the batch)."""
        # Keras casts no whole numbers, whatever the policy of the layer.
        outputs = self.layer(keras.ops.convert_to_tensor(numbers[np.newaxis]))
        return keras.ops.convert_to_numpy(outputs)[0]

    def axis_after(self, axis: int) -> int:
        """Where the features along an axis of the inputs are in the outputs."""
        if hasattr(self.layer, "dims"):
            return 1 + self.layer.dims.index(axis)
        return len(self.step.output.shape) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Merge(AbstractRecord):
    """One number from the same number of each input.

    Attributes:
        kind: `"add"`, `"average"`, `"maximum"`, `"minimum"`, `"multiply"` or `"subtract"`.
    """

    kind: str


class Concatenation(AbstractRecord):
    """The inputs side by side."""

    @property
    def axis(self) -> int:
        """The axis along which they lie."""
        return self.layer.axis % len(self.step.output.shape)
