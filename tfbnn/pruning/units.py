"""Units: which rows and columns of which kernels belong to one neuron or filter.

A unit is what one column of a kernel computes. The rows of other kernels that read it belong to it.
Units that are added up (a residual connection), or computed by one layer that is called twice, are
tied: they are one unit. What the input, the output or a layer that is not known holds fast is no
unit; its number is 0.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfbnn.layers.activations import Activation
from tfbnn.layers.keras_internals import all_layers
from tfbnn.layers.records import AbstractRecord, Depthwise, Merge
from tfbnn.layers.steps import Step, Steps
from tfbnn.pruning.flow import AbstractFlow, Features

HELD = 0
"""The number of features that cannot be removed."""


class Units(AbstractFlow):
    """The units of a network; rows and columns of the `held` layers cannot be removed.

    Attributes:
        count: One more than the largest number of a unit.
        rows: For each dense layer and convolution, the units that it reads, `(inputs,)`.
        columns: For each, the units that it computes, `(units,)`.
        passed: For each other layer, the units that come out of it, `(features,)`.
        entered: For the input layer of each model inside, the units that enter it, and their axis.
    """

    def __init__(self, steps: Steps, held: tuple[Any, ...] = ()):
        self._parents = np.zeros(1, np.int64)
        self.rows: dict[Any, np.ndarray] = {}
        self.columns: dict[Any, np.ndarray] = {}
        self.passed: dict[Any, np.ndarray] = {}
        self.entered: dict[Any, Features] = {}
        self._held = list(held)
        super().__init__(steps)
        for entry in steps.entries:
            self._enter(entry.layer, self.features[entry.value])
        self._hold(self.features[steps.output].numbers)
        for table in (self.rows, self.columns, self.passed):
            for layer in self._held:
                self._hold(table.get(layer, ()))
        self._number()

    def linear(self, layer: Any, numbers: np.ndarray) -> np.ndarray:
        self._meet(self.rows.setdefault(layer, numbers), numbers)
        if layer not in self.columns:
            self.columns[layer] = self._new(layer.kernel.shape[-1])
        return self.columns[layer]

    def through(self, record: AbstractRecord, numbers: np.ndarray) -> np.ndarray:
        # What has variables of its features, or a configuration that counts them.
        has_variables = isinstance(record, Depthwise) or getattr(record, "axis", None) is not None
        if has_variables or hasattr(record.layer, "target_shape"):
            self._meet(self.passed.setdefault(record.layer, numbers), numbers)
        return np.repeat(numbers, getattr(record.layer, "depth_multiplier", 1))

    def tied(self, record: Merge, parts: list[np.ndarray]) -> np.ndarray:
        del record
        return self.alike(np.stack(parts))

    def activated(self, activation: Activation, numbers: np.ndarray) -> np.ndarray:
        if not activation.treats_each_feature:
            self._hold(numbers)
        return numbers

    def alike(self, parts: np.ndarray) -> np.ndarray:
        pairs = np.stack([np.broadcast_to(parts[:1], parts.shape), parts], -1).reshape(-1, 2)
        for one, other in np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0):
            self._tie(one, other)
        return parts[0]

    def unknown(self, size: int) -> np.ndarray:
        return np.full(size, HELD)

    def opaque(self, step: Step) -> None:
        for value in step.inputs:
            self._hold(self.features[value].numbers)
        if isinstance(step.layer, keras.layers.Layer):
            self._held += all_layers(step.layer)

    def _enter(self, layer: Any, features: Features) -> None:
        """Remember what enters a model; it has one input shape for all its calls."""
        seen = self.entered.setdefault(layer, features)
        is_one = seen.axis == features.axis < len(layer.batch_shape)
        self._meet(seen.numbers, features.numbers, is_one)

    def _meet(self, seen: np.ndarray, numbers: np.ndarray, is_one: bool = True) -> None:
        """Tie what a layer sees in several calls."""
        if is_one and seen.size == numbers.size:
            self.alike(np.stack([seen, numbers]))
        else:
            self._hold(np.concatenate([seen, numbers]))

    def _new(self, count: int) -> np.ndarray:
        numbers = np.arange(self._parents.size, self._parents.size + count)
        self._parents = np.concatenate([self._parents, numbers])
        return numbers

    def _hold(self, numbers: Sequence[int]) -> None:
        for number in np.unique(numbers):
            self._tie(HELD, number)

    def _tie(self, one: int, other: int) -> None:
        one, other = sorted((self._root(one), self._root(other)))
        self._parents[other] = one

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            number = self._parents[number]
        return int(number)

    def _number(self) -> None:
        """Number the units that are left after tying, without gaps; `HELD` stays 0."""
        roots = np.array([self._root(number) for number in range(self._parents.size)])
        found, numbers = np.unique(roots, return_inverse=True)
        self.count = found.size
        for table in (self.rows, self.columns, self.passed):
            table.update({layer: numbers[seen] for layer, seen in table.items()})
        for layer, seen in self.entered.items():
            self.entered[layer] = Features(seen.axis, numbers[seen.numbers])
