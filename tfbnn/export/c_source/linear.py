"""Linear layers: dense layers and convolutions as operations of the program."""

import dataclasses

import numpy as np

from tfbnn.export.c_source.geometry import GATHER, WINDOW, Window
from tfbnn.export.c_source.products import Product
from tfbnn.export.c_source.program import AbstractUnary, Places
from tfbnn.export.c_source.text import Array, Function, in_comment
from tfbnn.export.c_source.weights import EncodedKernel
from tfbnn.export.variances import FactorisedVariance

_SECOND_MOMENT = Function(
    "second_moment",
    """\
/* sum(rows * (mean**2 + variance)): the share of all units in the variances of the weights. */
static float second_moment(int count, const float *rows, const float *mean, const float *variance)
{
    float sum = 0.0f;
    for (int i = 0; i < count; i++) {
        const float square = mean[i] * mean[i] + (variance ? variance[i] : 0.0f);
        sum += rows ? rows[i] * square : square;
    }
    return sum;
}
""",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """The weights of one layer as the program holds them.

    Attributes:
        name: Beginning of the names of its arrays.
        kernel: Means, and variances that are stored one by one.
        precision: `"float32"` or `"int8"`.
        factorised: Variances in two small arrays, or None.
        bias: `(units,)` or None.
        bias_variance: `(units,)` or None.
    """

    name: str
    kernel: EncodedKernel
    precision: str
    factorised: FactorisedVariance | None
    bias: np.ndarray | None
    bias_variance: np.ndarray | None

    def arrays(self) -> dict[str, Array]:
        """The constants by the name of the field that points to them."""
        kernel, factorised = self.kernel, self.factorised
        values = {
            "loc": kernel.loc,
            "scale" if self.precision == "int8" else "weight_variance": kernel.scale,
            "gaps": kernel.gaps,
            "counts": kernel.counts,
            "loc_steps": kernel.loc_steps,
            "scale_steps": kernel.scale_steps,
            "columns": factorised and factorised.columns,
            "rows": self._rows(),
            "bias": self.bias,
            "bias_variance": self.bias_variance,
        }
        return {n: Array(f"{self.name}_{n}", v) for n, v in values.items() if v is not None}

    def _rows(self) -> np.ndarray | None:
        # Rows that are all 1 are left out.
        if self.factorised is None or (self.factorised.rows == 1).all():
            return None
        return self.factorised.rows.ravel()

    def product(self, random_input: bool) -> Product:
        """The inner loop for these weights."""
        scale = "full" if self.kernel.scale is not None else "none"
        return Product(
            self.kernel.storage,
            self.precision,
            scale if self.factorised is None else "columns",
            random_input,
            self.kernel.counts is not None and self.kernel.counts.dtype == np.uint32,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Linear(AbstractUnary):
    """A dense layer over the last axis, or a convolution.

    Attributes:
        name: Name of the C function.
        layer: Name of the layer.
        title: What stands above the function.
        window: None for a dense layer.
    """

    name: str
    layer: str
    title: str
    weights: Weights
    window: Window | None = None

    @property
    def workspace(self) -> int:
        patch = self.weights.kernel.inputs * (1 + self.value.is_random)
        return 0 if self.window is None else patch

    def arrays(self) -> tuple[Array, ...]:
        return tuple(self.weights.arrays().values())

    def functions(self) -> tuple[Function, ...]:
        needs = [self._product.function()]
        needs += [_SECOND_MOMENT] * self._is_shared
        needs += [] if self.window is None else [WINDOW, GATHER]
        return (Function(self.name, self._text(), tuple(needs)),)

    def statement(self, places: Places) -> str:
        arguments = [places.mean(self.value)]
        arguments += [places.variance(self.value)] * self.value.is_random
        arguments.append(places.mean(self.output))
        arguments += [places.variance(self.output)] * self.output.is_random
        arguments += [places.workspace] * (self.window is not None)
        return f"{self.name}({', '.join(arguments)});"

    @property
    def _product(self) -> Product:
        return self.weights.product(self.value.is_random)

    @property
    def _is_shared(self) -> bool:
        return self.weights.factorised is not None

    def _text(self) -> str:
        parameters = ["const float *mean"]
        parameters += ["const float *variance"] * self.value.is_random
        parameters.append("float *output_mean")
        parameters += ["float *output_variance"] * self.output.is_random
        parameters += ["float *patch"] * (self.window is not None)
        body = self._places_of_dense() if self.window is None else self._places_of_window()
        return "\n".join(
            [
                f"/* {in_comment(self.title)} */",
                f"static void {self.name}({', '.join(parameters)})",
                "{",
                f"    const {self._product.matrix} matrix = {{",
                *[f"        {line}," for line in self._matrix()],
                "    };",
                *[f"    {line}" for line in body],
                "}\n",
            ]
        )

    def _matrix(self) -> list[str]:
        arrays, kernel = self.weights.arrays(), self.weights.kernel
        fields = [arrays[n].name if n in arrays else "NULL" for _, n in self._product.fields()]
        return [str(kernel.inputs), str(kernel.units // kernel.groups), *fields]

    def _places_of_dense(self) -> list[str]:
        inputs = self.weights.kernel.inputs
        return [
            f"for (int place = 0; place < {self.value.size // inputs}; place++) {{",
            *self._call("mean", "variance", "0, 0"),
            f"    mean += {inputs};",
            *[f"    variance += {inputs};"] * self.value.is_random,
            "}",
        ]

    def _places_of_window(self) -> list[str]:
        kernel, window = self.weights.kernel, self.window
        groups = kernel.groups
        channels = window.input_shape[2] // groups
        first = f"group * {channels}, {channels}" if groups > 1 else f"0, {channels}"
        where = f"&w, place / {window.output_shape[1]}, place % {window.output_shape[1]}, {first}"
        inner = [f"    gather({where}, mean, patch);"]
        inner += [f"    gather({where}, variance, patch + {kernel.inputs});"] * self.value.is_random
        span = "group, entries[group]" if groups > 1 else "0, 0"
        inner += self._call("patch", f"patch + {kernel.inputs}", span)
        lines = [f"const window w = {window.literal()};"]
        if groups > 1:
            entries = ", ".join(str(kernel.entry(group)) for group in range(groups))
            lines.append(f"static const uint32_t entries[{groups}] = {{{entries}}};")
            inner = [
                f"    for (int group = 0; group < {groups}; group++) {{",
                *[f"    {line}" for line in inner],
                "    }",
            ]
        num_places = window.output_shape[0] * window.output_shape[1]
        return [*lines, f"for (int place = 0; place < {num_places}; place++) {{", *inner, "}"]

    def _call(self, mean: str, variance: str, span: str) -> list[str]:
        """The products of one group of units at one place, and on to the next outputs."""
        kernel = self.weights.kernel
        variances = variance if self.value.is_random else "NULL"
        rows = self.weights.arrays().get("rows")
        shared = (
            f"second_moment({kernel.inputs}, {rows.name if rows else 'NULL'}, {mean}, {variances})"
        )
        arguments = ["&matrix", span, mean]
        arguments += [variance] * self.value.is_random
        arguments += [shared] * self._is_shared
        arguments.append("output_mean")
        arguments += ["output_variance"] * self.output.is_random
        units = kernel.units // kernel.groups
        return [
            f"    {self._product.name}({', '.join(arguments)});",
            f"    output_mean += {units};",
            *[f"    output_variance += {units};"] * self.output.is_random,
        ]
