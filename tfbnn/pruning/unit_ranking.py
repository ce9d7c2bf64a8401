"""The ranking of units: neurons and filters with all that they read and all that reads them."""

from typing import Any

import keras
import numpy as np

from tfbnn.layers.keras_layers import record_of
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.records import Linear
from tfbnn.layers.steps import steps_of
from tfbnn.layers.variational import random_maps
from tfbnn.pruning.masks import Selection, mask_of
from tfbnn.pruning.rankings import AbstractRanking, check_finite
from tfbnn.pruning.scores import GROUP_CRITERIA
from tfbnn.pruning.units import HELD, Units


class UnitRanking(AbstractRanking):
    """Units, each worth what its incoming or its outgoing weights are worth, whichever is less.

    A unit needs both: if its incoming weights are noise it computes a constant, which the next bias
    can do, and if its outgoing weights are noise nobody listens. The score of all its weights
    together would keep a unit that reads noise as long as many strong weights read it.

    Units that a plain Keras layer computes or reads have no masks there, and are kept.

    Raises:
        ValueError: If the graph of the model is not known, no unit can be removed, or the weights
            are not finite.
    """

    def __init__(self, model: keras.Model, criterion: str):
        maps = random_maps(model)
        units = _prunable_units(model)
        self._masks = [mask_of(one.kernel) for one in maps]
        self._rows = [_of(units.rows, one, -2) for one in maps]
        self._columns = [_of(units.columns, one, -1) for one in maps]
        self._count = units.count
        self._score = self._scores(maps, criterion)
        self._members = self._members_of_units()

    def at(self, sparsity: float, scope: str) -> Selection:
        weights = _Remaining(self._masks, self._members)
        removed = np.zeros(self._count, bool)
        if scope == "global":
            self._remove_weights(sparsity, weights, removed)
        else:
            for columns in self._columns:
                self._remove_units(sparsity, np.unique(columns[columns != HELD]), weights, removed)
        return self._selection(removed)

    def above(self, threshold: float) -> Selection:
        return self._selection(self._score <= threshold)

    def highest(self) -> list[float]:
        units = map(np.union1d, self._rows, self._columns)
        return [float(self._score[u[u != HELD]].max(initial=-np.inf)) for u in units]

    def largest_left(self, selection: Selection) -> int:
        """The number of weights of the largest unit that could go too, 0 if none could."""
        weights = _Remaining(selection.kernels, self._members)
        lost = (weights.lost(unit) for unit in range(1, self._count))
        return max((sum(parts) for parts in lost if not weights.would_empty(parts)), default=0)

    def _remove_weights(self, sparsity: float, weights: "_Remaining", removed: np.ndarray) -> None:
        """Remove units, the lowest score first, until the next one would be too many."""
        size = sum(mask.size for mask in self._masks)
        left = max(0, round(sparsity * size) - (size - weights.total))
        for unit in self._in_order(np.arange(1, self._count)):
            lost = weights.lost(unit)
            if weights.would_empty(lost):
                continue
            if sum(lost) > left:
                break
            weights.remove(unit)
            removed[unit] = True
            left -= sum(lost)

    def _remove_units(
        self, sparsity: float, units: np.ndarray, weights: "_Remaining", removed: np.ndarray
    ) -> None:
        """Remove the share `sparsity` of the units of one layer."""
        left = round(sparsity * units.size) - removed[units].sum()
        for unit in self._in_order(units[~removed[units]]):
            if left <= 0:
                break
            if not weights.would_empty(weights.lost(unit)):
                weights.remove(unit)
                removed[unit] = True
                left -= 1

    def _in_order(self, units: np.ndarray) -> np.ndarray:
        return units[np.argsort(self._score[units], kind="stable")]

    def _selection(self, removed: np.ndarray) -> Selection:
        kept = ~removed
        kernels = [
            mask * np.outer(kept[rows], kept[columns])
            for mask, rows, columns in zip(self._masks, self._rows, self._columns, strict=True)
        ]
        return Selection(kernels, [kept[columns] for columns in self._columns])

    def _scores(self, maps: list[RandomMap], criterion: str) -> np.ndarray:
        """The score of each unit; that of `HELD` is infinite."""
        group = GROUP_CRITERIA[criterion]
        terms = []
        for one, mask in zip(maps, self._masks, strict=True):
            check_finite(one.kernel)
            terms.append([mask, *[mask * term for term in group.terms(one.kernel)]])
        sides = []
        for numbers, axis in ((self._columns, -1), (self._rows, -2)):
            alive, *sums = (self._sums(parts, numbers, axis) for parts in zip(*terms, strict=True))
            sides.append(np.where(alive > 0, group.of_sums(*sums), -np.inf))
        score = np.minimum(*sides)
        score[HELD] = np.inf
        return score

    def _sums(
        self, parts: tuple[np.ndarray, ...], numbers: list[np.ndarray], axis: int
    ) -> np.ndarray:
        """Sums of arrays of the shapes of the kernels over the units along an axis."""
        total = np.zeros(self._count)
        for part, units in zip(parts, numbers, strict=True):
            others = tuple(i for i in range(part.ndim) if i != part.ndim + axis)
            total += np.bincount(units, part.sum(others, np.float64), minlength=self._count)
        return total

    def _members_of_units(self) -> list[dict[int, tuple[np.ndarray, np.ndarray]]]:
        """For each unit and each kernel that has some: its rows and its columns."""
        members = [{} for _ in range(self._count)]
        for kernel, (rows, columns) in enumerate(zip(self._rows, self._columns, strict=True)):
            for unit in np.union1d(rows, columns):
                members[unit][kernel] = (
                    np.flatnonzero(rows == unit),
                    np.flatnonzero(columns == unit),
                )
        return members


class _Remaining:
    """The numbers of weights that are left while units are removed."""

    def __init__(
        self, masks: list[np.ndarray], members: list[dict[int, tuple[np.ndarray, np.ndarray]]]
    ):
        # Weights of one input and one output, summed over space.
        self._counts = [
            mask.reshape(-1, *mask.shape[-2:]).sum(0).astype(np.int64) for mask in masks
        ]
        self._totals = [int(counts.sum()) for counts in self._counts]
        self._members = members

    @property
    def total(self) -> int:
        return sum(self._totals)

    def lost(self, unit: int) -> list[int]:
        """How many weights of each kernel would go with a unit."""
        lost = [0] * len(self._counts)
        for kernel, (rows, columns) in self._members[unit].items():
            counts = self._counts[kernel]
            twice = counts[np.ix_(rows, columns)].sum()
            lost[kernel] = int(counts[rows].sum() + counts[:, columns].sum() - twice)
        return lost

    def would_empty(self, lost: list[int]) -> bool:
        """Whether a kernel would lose the last of its weights."""
        return any(0 < part == total for part, total in zip(lost, self._totals, strict=True))

    def remove(self, unit: int) -> None:
        for kernel, part in enumerate(self.lost(unit)):
            self._totals[kernel] -= part
        for kernel, (rows, columns) in self._members[unit].items():
            self._counts[kernel][rows] = 0
            self._counts[kernel][:, columns] = 0


def _prunable_units(model: keras.Model) -> Units:
    steps = steps_of(model)
    linear = [record for record in map(record_of, steps) if isinstance(record, Linear)]
    plain = tuple(r.layer for r in linear if r.mixes_all and not r.is_variational)
    units = Units(steps, held=plain)
    if units.count == 1:
        raise ValueError(
            "No unit of the model can be removed: its outputs are never pruned, and no other unit "
            "goes from one variational layer to another through layers that are known. Use "
            f"granularity='weight' or 'block'. Received: model={model.name!r}"
        )
    return units


def _of(table: dict[Any, np.ndarray], one: RandomMap, axis: int) -> np.ndarray:
    """The units along an axis of a kernel, `HELD` where the layer of the map has none."""
    held = np.full(one.kernel.shape[axis], HELD)
    return table.get(one.layer, held)
