"""Arrangement in C: affine maps, sums, joining and padding of arrays, and the type of the input."""

import dataclasses

import numpy as np

from tfbnn.export.c_source.program import AbstractOperation, Places, Value
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
class Affine(AbstractOperation):
    """`factor * x + term`.

    Attributes:
        name: Beginning of the names of its arrays.
        factor: An array that broadcasts to the value, as `term` does.
    """

    name: str
    value: Value
    output: Value
    factor: np.ndarray
    term: np.ndarray
    in_place = True

    @property
    def inputs(self) -> tuple[Value, ...]:
        return (self.value,)

    def functions(self) -> tuple[Function, ...]:
        return (_AFFINE,)

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

    def functions(self) -> tuple[Function, ...]:
        return (_ADD,)

    def statement(self, places: Places) -> str:
        first, second = map(places.moments, self.inputs)
        return f"add({self.output.size}, {first}, {second}, {places.moments(self.output)});"


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenate(AbstractOperation):
    """Values side by side along an axis."""

    inputs: tuple[Value, ...]
    output: Value
    axis: int

    def functions(self) -> tuple[Function, ...]:
        return (_COPY,)

    def statement(self, places: Places) -> str:
        rows = int(np.prod(self.output.shape[: self.axis]))
        width = self.output.size // rows
        lines, start = [], 0
        for value in self.inputs:
            count = value.size // rows
            size = f"{rows}, {count}, {width}"
            mean = places.mean(self.output)
            lines.append(f"copy({size}, {places.mean(value)}, {mean} + {start});")
            if self.output.is_random:
                variance = places.variance(self.output)
                lines.append(f"copy({size}, {places.variance(value)}, {variance} + {start});")
            start += count
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class Padding(AbstractOperation):
    """Zeros around a value `(rows, columns, channels)`.

    Attributes:
        before: Rows and columns of zeros before it.
    """

    value: Value
    output: Value
    value_size: tuple[int, int, int]
    output_size: tuple[int, int, int]
    before: tuple[int, int]

    @property
    def inputs(self) -> tuple[Value, ...]:
        return (self.value,)

    def functions(self) -> tuple[Function, ...]:
        return (_COPY,)

    def statement(self, places: Places) -> str:
        rows, columns, channels = self.value_size
        width = self.output_size[1] * channels
        start = self.before[0] * width + self.before[1] * channels
        pairs = [(places.mean(self.value), places.mean(self.output))]
        if self.value.is_random:
            pairs.append((places.variance(self.value), places.variance(self.output)))
        lines = []
        for source, target in pairs:
            lines.append(f"copy(1, {self.output.size}, 0, NULL, {target});")
            lines.append(
                f"copy({rows}, {columns * channels}, {width}, {source}, {target} + {start});"
            )
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class Load(AbstractOperation):
    """The network's input, from bytes."""

    value: Value
    output: Value

    @property
    def inputs(self) -> tuple[Value, ...]:
        return (self.value,)

    def functions(self) -> tuple[Function, ...]:
        return (_LOAD,)

    def statement(self, places: Places) -> str:
        return f"load({self.value.size}, input, {places.mean(self.output)});"


def _shortest_period(rows: np.ndarray, channels: int) -> np.ndarray:
    """The beginning of each row that, repeated, gives the rest: 1 element, the channels or all."""
    for period in (1, channels):
        if (rows.reshape(len(rows), -1, period) == rows[:, np.newaxis, :period]).all():
            return rows[:, :period]
    return rows
