"""Buffers: one scratch for all values, in which those that are not needed together share room."""

import dataclasses
from collections.abc import Sequence

from tfbnn.export.c_source.program import AbstractOperation, Places, Program, Storage, Value


@dataclasses.dataclass(frozen=True)
class Block:
    """Room for `size` floats that is needed from operation `first` to `last`, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: "Block") -> bool:
        """Whether both are needed at some time."""
        return self.first <= other.last and other.first <= self.last


def planned(start: Value, operations: Sequence[AbstractOperation]) -> Program:
    """The program of these operations, with a place for each value and workspace."""
    homes = _homes(operations)
    storages = list(dict.fromkeys(homes.values()))
    uses = {storage: _uses(storage, homes, operations) for storage in storages}
    blocks = [Block(s.num_floats, min(uses[s]), max(uses[s])) for s in storages]
    blocks += [Block(op.workspace, index, index) for index, op in enumerate(operations)]
    offsets = arranged(blocks)
    found = dict(zip(storages, offsets, strict=False))
    of_storage = {storage: found[home] for storage, home in homes.items()}
    places = tuple(Places(of_storage, offset) for offset in offsets[len(storages) :])
    size = max(block.size + offset for block, offset in zip(blocks, offsets, strict=True))
    return Program(start, tuple(operations), places, size)


def arranged(blocks: Sequence[Block]) -> list[int]:
    """An offset for each block, such that blocks needed together do not overlap.

    The largest first, each at the lowest place that is free while it is needed.

    Example:

    >>> arranged([Block(4, 0, 1), Block(2, 1, 2), Block(4, 2, 3)])
    [0, 4, 0]

    Reference:
        Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net Inference",
        sec. 5.2, "greedy by size for offset calculation".
    """
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for index in sorted(range(len(blocks)), key=lambda i: -blocks[i].size):
        taken = [(offsets[i], blocks[i].size) for i in placed if blocks[i].meets(blocks[index])]
        offset = 0
        for start, size in sorted(taken):
            if offset + blocks[index].size <= start:
                break
            offset = max(offset, start + size)
        offsets[index] = offset
        placed.append(index)
    return offsets


def _homes(operations: Sequence[AbstractOperation]) -> dict[Storage, Storage]:
    """For each storage the one in whose place it lies: mostly itself."""
    homes: dict[Storage, Storage] = {}
    for index, operation in enumerate(operations):
        for value in operation.inputs:
            homes.setdefault(value.storage, value.storage)
        if operation.output is not None:
            own = operation.output.storage
            homes[own] = homes[operation.inputs[0].storage] if _fits(index, operations) else own
    return homes


def _fits(index: int, operations: Sequence[AbstractOperation]) -> bool:
    """Whether the output of an operation may overwrite its first input."""
    operation = operations[index]
    old, new = operation.inputs[0].storage, operation.output.storage
    alike = (old.size, old.is_random) == (new.size, new.is_random) and not old.is_callers
    readers = [v.storage for op in operations[index + 1 :] for v in op.inputs]
    readers += [value.storage for value in operation.inputs[1:]]
    return operation.in_place and alike and old not in readers


def _uses(
    storage: Storage, homes: dict[Storage, Storage], operations: Sequence[AbstractOperation]
) -> list[int]:
    """Numbers of the operations that read or write a place."""
    return [
        index
        for index, operation in enumerate(operations)
        for value in (*operation.inputs, operation.output)
        if value is not None and homes[value.storage] is storage
    ]
