"""Products: the inner loops of dense layers and convolutions in C.

With means `m` and variances `v` of the inputs, means `W` and variances `S` of the kernel, a unit is

    mean     = sum(W * m) + bias
    variance = sum(S * (m**2 + v)) + sum(W**2 * v) + variance of the bias

over the weights that are stored. With `S = rows * columns` the first sum of the variance is
`sum(rows * (m**2 + v)) * column`: one number for all units of a place, computed outside.

Each input is added to all units before the next: one that is zero (the background of an image, a
unit that is off) is skipped, and a compiler adds to several units of a dense kernel at once.
"""

import dataclasses

from tfbnn.export.c_source.text import Function


@dataclasses.dataclass(frozen=True)
class Product:
    """One kind of inner loop.

    Attributes:
        storage: Of the kernel: `dense`, `gaps8` or `gaps16`.
        precision: `float32` or `int8`.
        scale: Where the variances of the kernel are: `none`, `full` or `columns`.
        random_input: Whether the inputs have variances.
        wide_counts: Whether an input may have more than 65535 weights.
    """

    storage: str
    precision: str
    scale: str
    random_input: bool
    wide_counts: bool

    @property
    def is_random(self) -> bool:
        """Whether the outputs have variances."""
        return self.random_input or self.scale != "none"

    @property
    def name(self) -> str:
        """Name of the C function."""
        ending = "_of_moments" if self.random_input else ""
        return f"product_{self._key}{ending}"

    @property
    def matrix(self) -> str:
        """Name of the C type."""
        return f"matrix_{self._key}"

    def function(self) -> Function:
        """The C function, for the units of one group at one place."""
        return Function(self.name, self._text(), (self._type(),))

    @property
    def _key(self) -> str:
        scale = "" if self.scale == "none" else f"_{self.scale}"
        return f"{self.storage}{'_wide' if self.wide_counts else ''}_{self.precision}{scale}"

    @property
    def _is_int8(self) -> bool:
        return self.precision == "int8"

    @property
    def _is_sparse(self) -> bool:
        return self.storage != "dense"

    def fields(self) -> list[tuple[str, str]]:
        """C type and name of each pointer in the matrix."""
        fields = [("int8_t" if self._is_int8 else "float", "loc")]
        if self.scale == "full":
            fields.append(("uint8_t", "scale") if self._is_int8 else ("float", "weight_variance"))
        if self._is_sparse:
            fields.append(("uint8_t" if self.storage == "gaps8" else "uint16_t", "gaps"))
            fields.append(("uint32_t" if self.wide_counts else "uint16_t", "counts"))
        if self._is_int8:
            fields.append(("float", "loc_steps"))
            if self.scale == "full":
                fields.append(("float", "scale_steps"))
        if self.scale == "columns":
            fields.append(("float", "columns"))
        return [*fields, ("float", "bias"), ("float", "bias_variance")]

    def _type(self) -> Function:
        fields = "".join(f"    const {c_type} *{name};\n" for c_type, name in self.fields())
        return Function(
            self.matrix, f"typedef struct {{\n    int inputs, units;\n{fields}}} {self.matrix};\n"
        )

    def _text(self) -> str:
        parameters = [f"const {self.matrix} *matrix", "int group, size_t entry"]
        # Not `restrict`: with it gcc 12 (`-O2`) sums mean and variance of a single unit side by
        # side, and loses the variance.
        parameters.append("const float *mean")
        parameters += ["const float *variance"] * self.random_input
        parameters += ["float shared"] * (self.scale == "columns")
        parameters.append("float *output_mean")
        parameters += ["float *output_variance"] * self.is_random
        body = [
            "const int units = matrix->units, first = group * units;",
            *self._pointers(),
            "for (int unit = 0; unit < units; unit++) {",
            f"    output_mean[unit] = {'output_variance[unit] = ' * self._sums_variances}0.0f;",
            "}",
            "for (int input = 0; input < matrix->inputs; input++) {",
            *[f"    {line}" for line in self._input()],
            "}",
            "for (int unit = 0; unit < units; unit++) {",
            "    const int i = first + unit;",
            *[f"    {line}" for line in self._results()],
            "}",
        ]
        return "\n".join(
            [
                f"static void {self.name}(",
                *[f"    {parameter}," for parameter in parameters[:-1]],
                f"    {parameters[-1]})",
                "{",
                *[f"    {line}" for line in body],
                "}\n",
            ]
        )

    @property
    def _streams(self) -> list[str]:
        """Names of what is stored of each weight."""
        return [n for _, n in self.fields() if n in ("loc", "scale", "weight_variance", "gaps")]

    @property
    def _sums_variances(self) -> bool:
        """Whether the variance of a unit is a sum over its weights."""
        return self.random_input or self.scale == "full"

    @property
    def _is_step_inside(self) -> bool:
        # Two kinds of codes go to one sum; otherwise the step waits for the end of the sum.
        return self._is_int8 and self.scale == "full"

    def _pointers(self) -> list[str]:
        types = {name: c_type for c_type, name in self.fields()}
        lines = [f"const {types[n]} *{n} = matrix->{n} + entry;" for n in self._streams]
        if self._is_sparse:
            lines.append(f"const {types['counts']} *counts = matrix->counts;")
            lines.append("counts += (size_t)group * (size_t)matrix->inputs;")
        return lines

    def _input(self) -> list[str]:
        """What one input adds to the sums of all units."""
        values = {"m": "mean[input]"}
        if self.random_input:
            values["v"] = "variance[input]"
        if self.scale == "full":
            values["square"] = f"m * m{' + v' * self.random_input}"
        is_there = " || ".join(f"{name} != 0.0f" for name in values if name != "square")
        count = "(long)counts[input]" if self._is_sparse else "units"
        index = "k" if self._is_sparse else "unit"
        return [
            *[f"const float {name} = {value};" for name, value in values.items()],
            f"const long count = {count};",
            f"if ({is_there}) {{",
            *["    int unit = 0;"] * self._is_sparse,
            f"    for (long {index} = 0; {index} < count; {index}++) {{",
            *[f"        {line}" for line in self._weight(index)],
            "    }",
            "}",
            *[f"{name} += count;" for name in self._streams],
        ]

    def _weight(self, index: str) -> list[str]:
        """What one weight adds to the sums of its unit."""
        cast = "(float)" if self._is_int8 else ""
        loc_step, scale_step = "", ""
        if self._is_step_inside:
            loc_step = " * matrix->loc_steps[first + unit]"
            scale_step = " * matrix->scale_steps[first + unit]"
        lines = [f"unit += gaps[{index}];"] * self._is_sparse
        lines.append(f"const float w = {cast}loc[{index}]{loc_step};")
        terms = ["w * w * v"] * self.random_input
        if self.scale == "full" and self._is_int8:
            lines.append(f"const float s = (float)scale[{index}]{scale_step};")
            terms.append("s * s * square")
        elif self.scale == "full":
            terms.append(f"weight_variance[{index}] * square")
        lines.append("output_mean[unit] += w * m;")
        if terms:
            lines.append(f"output_variance[unit] += {' + '.join(terms)};")
        return lines

    def _results(self) -> list[str]:
        """From the sums of a unit to its mean and variance."""
        step = " * matrix->loc_steps[i]" if self._is_int8 and not self._is_step_inside else ""
        bias = "(matrix->bias ? matrix->bias[i] : 0.0f)"
        lines = [f"output_mean[unit] = output_mean[unit]{step} + {bias};"]
        if self.is_random:
            terms = [f"output_variance[unit]{step}{step}"] * self._sums_variances
            terms += ["shared * matrix->columns[i]"] * (self.scale == "columns")
            terms.append("(matrix->bias_variance ? matrix->bias_variance[i] : 0.0f)")
            joined = "\n    + ".join(terms)
            lines += f"output_variance[unit] = {joined};".split("\n")
        return lines
