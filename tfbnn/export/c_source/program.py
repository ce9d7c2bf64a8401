"""Program: the operations of a C function, the values between them, and where these lie.

A `Value` of the network is the means, and where it is random the variances, of an array. It lies in
a `Storage`, which others may share: a Flatten gives another shape to the same numbers.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

from tfbnn.export.c_source.text import Array, Function


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """Room for `size` means, followed by `size` variances if `is_random`.

    The one of the network's inputs belongs to the caller, and is not written to.
    """

    size: int
    is_random: bool = False
    is_callers: bool = False

    @property
    def num_floats(self) -> int:
        """Room in the scratch."""
        return 0 if self.is_callers else self.size * (1 + self.is_random)


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What an operation computes and others read, for one example: no axis of the batch."""

    shape: tuple[int, ...]
    storage: Storage

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_random(self) -> bool:
        """Whether there are variances."""
        return self.storage.is_random

    @classmethod
    def new(cls, shape: tuple[int, ...], is_random: bool) -> "Value":
        """A value with a storage of its own."""
        return cls(tuple(shape), Storage(math.prod(shape), is_random))


@dataclasses.dataclass(frozen=True)
class Places:
    """C expressions for the values, and for the workspace, of one operation."""

    offsets: dict[Storage, int]
    workspace_offset: int

    def mean(self, value: Value) -> str:
        """Pointer to the means."""
        if value.storage.is_callers:
            return "input"
        return f"buffer + {self.offsets[value.storage]}"

    def variance(self, value: Value) -> str:
        """Pointer to the variances, `NULL` where there are none."""
        if not value.is_random:
            return "NULL"
        return f"buffer + {self.offsets[value.storage] + value.storage.size}"

    def moments(self, value: Value) -> str:
        """Both pointers, as two arguments of a function."""
        return f"{self.mean(value)}, {self.variance(value)}"

    def pairs(self, value: Value, output: Value) -> list[tuple[str, str]]:
        """Pointers to the means of two values and, if the output has them, to their variances."""
        pairs = [(self.mean(value), self.mean(output))]
        return pairs + [(self.variance(value), self.variance(output))] * output.is_random

    def copy(self, value: Value, output: Value) -> str:
        """A line that copies a value to the place of another; nothing if both lie in one."""
        source, target = self.mean(value), self.mean(output)
        count = value.size * (1 + value.is_random)
        is_one = source == target
        return "" if is_one else f"memcpy({target}, {source}, {count} * sizeof(float));\n"

    @property
    def workspace(self) -> str:
        """Pointer to the workspace."""
        return f"buffer + {self.workspace_offset}"


class AbstractOperation(abc.ABC):
    """One step of the program: some values in, one out (the last one writes to the caller).

    Attributes:
        in_place: Whether the output may take the place of the first input, element by element.
        needs: The C functions it calls, if these are always the same.
    """

    in_place: ClassVar[bool] = False
    needs: ClassVar[tuple[Function, ...]] = ()
    inputs: tuple[Value, ...]
    output: Value | None

    @property
    def workspace(self) -> int:
        """Number of floats that are needed while this step runs."""
        return 0

    def functions(self) -> tuple[Function, ...]:
        """The C functions it calls."""
        return self.needs

    def arrays(self) -> tuple[Array, ...]:
        """The constants it reads."""
        return ()

    @abc.abstractmethod
    def statement(self, places: Places) -> str:
        """The C statement that runs it."""


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractUnary(AbstractOperation):
    """An operation of one value."""

    value: Value
    output: Value

    @property
    def inputs(self) -> tuple[Value, ...]:
        return (self.value,)


@dataclasses.dataclass(frozen=True)
class Program:
    """A network as a list of operations, in their order, the last of which answers.

    For each there is where its values lie in a scratch of so many floats.
    """

    input: Value
    operations: tuple[AbstractOperation, ...]
    places: tuple[Places, ...]
    scratch_floats: int

    @property
    def arrays(self) -> list[Array]:
        """All constants, each once: a layer that is called twice has its weights once."""
        arrays = {array.name: array for op in self.operations for array in op.arrays()}
        return list(arrays.values())

    @property
    def functions(self) -> Iterator[Function]:
        """The C functions that operations call."""
        return (function for operation in self.operations for function in operation.functions())
