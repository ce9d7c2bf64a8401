"""Linear layers: dense layers and convolutions as operations of the program."""

import dataclasses
import textwrap

import numpy as np

from tfbnn.export.c_source.geometry import GATHER, WINDOW, Window
from tfbnn.export.c_source.products import Product
from tfbnn.export.c_source.program import AbstractUnary, Places
from tfbnn.export.c_source.text import Array, Function, filled, in_comment
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

_LINEAR = """\
/* ${title} */
static void ${name}(${parameters})
{
    const ${matrix} matrix = {
        ${fields},
    };
    const window w = ${window};  //? window
    static const uint32_t entries[${groups}] = {${entries}};  //? grouped
    for (int place = 0; place < ${places}; place++) {
        for (int group = 0; group < ${groups}; group++) {  //? grouped
PRODUCTS
        }  //? grouped
        mean += ${inputs};  //? !window
        variance += ${inputs};  //? !window random_input
    }
}
"""

# For one group of units at one place.
_PRODUCTS = """\
gather(${place}, mean, patch);  //? window
gather(${place}, variance, patch + ${inputs});  //? window random_input
${product}(${arguments});
output_mean += ${units};
output_variance += ${units};  //? random"""


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """The weights of one layer as the program holds them.

    Attributes:
        name: Beginning of the names of its arrays.
        kernel: Means, and variances that are stored one by one.
        precision: `"float32"` or `"int8"`.
        factorised: Variances in two small arrays, or None.
        bias: `(units,)` or None, as `bias_variance`.
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
    """A dense layer over the last axis, without a window, or a convolution.

    `name` is that of the C function, above which stands `title`; `layer` is that of the layer.
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
        arguments = self._listed(
            places.mean(self.value),
            places.variance(self.value),
            places.mean(self.output),
            places.variance(self.output),
            places.workspace,
        )
        return f"{self.name}({arguments});"

    @property
    def _product(self) -> Product:
        return self.weights.product(self.value.is_random)

    @property
    def _is_shared(self) -> bool:
        return self.weights.factorised is not None

    def _listed(
        self, mean: str, variance: str, output: str, output_variance: str, patch: str
    ) -> str:
        """Parameters or arguments of the function, as far as it has them."""
        listed = [mean, *[variance] * self.value.is_random, output]
        listed += [output_variance] * self.output.is_random + [patch] * (self.window is not None)
        return ", ".join(listed)

    def _text(self) -> str:
        kernel, window, groups = self.weights.kernel, self.window, self.weights.kernel.groups
        place = ""
        if window is not None:
            columns, channels = window.output_shape[1], window.input_shape[2] // groups
            first = f"group * {channels}" if groups > 1 else "0"
            place = f"&w, place / {columns}, place % {columns}, {first}, {channels}"
        conditions = {
            "window": window is not None,
            "grouped": groups > 1,
            "random_input": self.value.is_random,
            "random": self.output.is_random,
        }
        parameters = "const float *mean", "const float *variance", "float *output_mean"
        products = textwrap.indent(_PRODUCTS, (12 if groups > 1 else 8) * " ")
        return filled(
            _LINEAR.replace("PRODUCTS", products),
            conditions,
            title=in_comment(self.title),
            name=self.name,
            parameters=self._listed(*parameters, "float *output_variance", "float *patch"),
            matrix=self._product.matrix,
            fields=",\n        ".join(self._fields()),
            window=window and window.literal(),
            groups=groups,
            entries=", ".join(str(kernel.entry(group)) for group in range(groups)),
            places=self.output.size // kernel.units,
            place=place,
            inputs=kernel.inputs,
            units=kernel.units // groups,
            product=self._product.name,
            arguments=self._arguments(),
        )

    def _fields(self) -> list[str]:
        """What is in the matrix, in the order of the C type."""
        kernel = self.weights.kernel
        names = {name: array.name for name, array in self.weights.arrays().items()}
        biases = [names.pop(name, "NULL") for name in ("bias", "bias_variance")]
        names.pop("rows", None)
        return [f"{kernel.inputs}", f"{kernel.units // kernel.groups}", *names.values(), *biases]

    def _arguments(self) -> str:
        """Those of the product."""
        inputs, is_random = self.weights.kernel.inputs, self.value.is_random
        mean, variance = "mean", "variance"
        if self.window is not None:
            mean, variance = "patch", f"patch + {inputs}"
        arguments = [
            "&matrix",
            "group, entries[group]" if self.weights.kernel.groups > 1 else "0, 0",
        ]
        arguments += [mean, *[variance] * is_random]
        if self._is_shared:
            rows = self.weights.arrays().get("rows")
            moments = f"{mean}, {variance if is_random else 'NULL'}"
            arguments.append(f"second_moment({inputs}, {rows.name if rows else 'NULL'}, {moments})")
        return ", ".join([*arguments, "output_mean", *["output_variance"] * self.output.is_random])
