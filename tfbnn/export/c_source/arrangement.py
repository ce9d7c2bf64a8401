"""Arrangement in C: affine maps, sums, arrays side by side or elsewhere, and the input's type."""

import dataclasses

import numpy as np

from tfbnn.export.c_source.program import AbstractOperation, AbstractUnary, Places, Value
from tfbnn.export.c_source.text import Array, Function

_AFFINE = Function(
    "affine",
    """\
/* factor * x + term, each repeated after `period` elements. */
static void affine(int count, int period, const float *factor, const float *term,
                   const float *mean, const float *variance,
                   float *output_mean, float *output_variance)
{
    for (int i = 0, k = 0; i < count; i++, k = k + 1 == period ? 0 : k + 1) {
        output_mean[i] = factor[k] * mean[i] + term[k];
        if (variance) {
            output_variance[i] = factor[k] * factor[k] * variance[i];
        }
    }
}
""",
)

_ADD = Function(
    "add",
    """\
/* The sum of two arrays; normals are independent. */
static void add(int count, const float *mean1, const float *variance1,
                const float *mean2, const float *variance2,
                float *output_mean, float *output_variance)
{
    for (int i = 0; i < count; i++) {
        output_mean[i] = mean1[i] + mean2[i];
        if (output_variance) {
            output_variance[i] =
                (variance1 ? variance1[i] : 0.0f) + (variance2 ? variance2[i] : 0.0f);
        }
    }
}
""",
)

_COPY = Function(
    "copy",
    """\
/* Copy `rows` rows of `count` elements into an array whose rows have `width`; NULL for zeros. */
static void copy(int rows, int count, int width, const float *input, float *output)
{
    for (int row = 0; row < rows; row++) {
        for (int i = 0; i < count; i++) {
            output[row * width + i] = input ? input[row * count + i] : 0.0f;
        }
    }
}
""",
)

_REARRANGE = Function(
    "rearrange",
    """\
/* Each element is the one of the input at the sum of three offsets, one of each axis; zero if one
   of these is UINT32_MAX. */
static void rearrange(int rows, int columns, int channels, const uint32_t *row,
                      const uint32_t *column, const uint32_t *channel,
                      const float *input, float *output)
{
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
            for (int k = 0; k < channels; k++) {
                const int is_zero = row[i] == UINT32_MAX || column[j] == UINT32_MAX
                    || channel[k] == UINT32_MAX;
                *output++ = is_zero ? 0.0f : input[row[i] + column[j] + channel[k]];
            }
        }
    }
}
""",
)

# `UINT32_MAX` in C.
_NOWHERE = 2**32 - 1

_LOAD = Function(
    "load",
    """\
/* Bytes as numbers from 0 to 255. */
static void load(int count, const uint8_t *input, float *output)
{
    for (int i = 0; i < count; i++) {
        output[i] = (float)input[i];
    }
}
""",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Affine(AbstractUnary):
    """`factor * x + term`, arrays that broadcast to the value."""

    name: str
    factor: np.ndarray
    term: np.ndarray
    in_place = True

    needs = (_AFFINE,)

    def arrays(self) -> tuple[Array, Array]:
        both = np.stack(
            [np.broadcast_to(a, self.value.shape).ravel() for a in (self.factor, self.term)]
        ).astype(np.float32)
        factor, term = _shortest_period(both, self.value.shape[-1])
        return Array(f"{self.name}_factor", factor), Array(f"{self.name}_term", term)

    def statement(self, places: Places) -> str:
        factor, term = self.arrays()
        return (
            f"affine({self.value.size}, {factor.values.size}, {factor.name}, {term.name}, "
            f"{places.moments(self.value)}, {places.moments(self.output)});"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Add(AbstractOperation):
    """The sum of two values."""

    inputs: tuple[Value, Value]
    output: Value
    in_place = True

    needs = (_ADD,)

    def statement(self, places: Places) -> str:
        first, second = map(places.moments, self.inputs)
        return f"add({self.output.size}, {first}, {second}, {places.moments(self.output)});"


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenate(AbstractOperation):
    """Values side by side along an axis."""

    inputs: tuple[Value, ...]
    output: Value
    axis: int

    needs = (_COPY,)

    def statement(self, places: Places) -> str:
        rows = int(np.prod(self.output.shape[: self.axis]))
        width = self.output.size // rows
        lines, start = [], 0
        for value in self.inputs:
            count = value.size // rows
            size = f"{rows}, {count}, {width}"
            for source, target in places.pairs(value, self.output):
                lines.append(f"copy({size}, {source}, {target} + {start});")
            start += count
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class Rearrange(AbstractUnary):
    """Each element is one of the value, or zero; see `offsets_of`."""

    name: str
    offsets: tuple[np.ndarray, np.ndarray, np.ndarray]

    needs = (_REARRANGE,)

    def arrays(self) -> tuple[Array, ...]:
        return tuple(Array(f"{self.name}_{i}", offset) for i, offset in enumerate(self.offsets))

    def statement(self, places: Places) -> str:
        sizes = [str(offset.size) for offset in self.offsets]
        first = ", ".join([*sizes, *(array.name for array in self.arrays())])
        pairs = places.pairs(self.value, self.output)
        return "\n".join(f"rearrange({first}, {source}, {target});" for source, target in pairs)


def offsets_of(places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Offsets of rows, columns and channels that add up to places, or None if there are none such.

    `places` says where each element is in the input, -1 for a zero; it has at most three axes. The
    offsets are unsigned integers, of which the largest stands for zeros.

    Example:

    >>> import numpy as np
    >>> [offset.tolist() for offset in offsets_of(np.array([[0, 2], [1, 3]]))]
    [[0], [0, 1], [0, 2]]
    """
    if places.ndim > 3 or places.max(initial=-1) < 0:
        return None
    places = places.reshape((1,) * (3 - places.ndim) + places.shape)
    start = tuple(np.argwhere(places >= 0)[0])
    offsets = []
    for axis in range(3):
        line = places[(*start[:axis], slice(None), *start[axis + 1 :])]
        offsets.append(np.where(line < 0, _NOWHERE, line - places[start] * (axis > 0)))
    sums = sum(np.ix_(*offsets))
    is_sum = np.array_equal(np.where(sums < _NOWHERE, sums, -1), places)
    is_positive = min(offset.min() for offset in offsets) >= 0
    return tuple(offset.astype(np.uint32) for offset in offsets) if is_sum and is_positive else None


@dataclasses.dataclass(frozen=True, eq=False)
class Load(AbstractUnary):
    """The network's input, from bytes."""

    needs = (_LOAD,)

    def statement(self, places: Places) -> str:
        return f"load({self.value.size}, input, {places.mean(self.output)});"


def _shortest_period(rows: np.ndarray, channels: int) -> np.ndarray:
    """The beginning of each row that, repeated, gives the rest: 1 element, the channels or all."""
    for period in (1, channels):
        if (rows.reshape(len(rows), -1, period) == rows[:, np.newaxis, :period]).all():
            return rows[:, :period]
    return rows
