"""Products: the inner loops of dense layers and convolutions in C.

With means `m` and variances `v` of the inputs, means `W` and variances `S` of the kernel, a unit is

    mean     = sum(W * m) + bias
    variance = sum(S * (m**2 + v)) + sum(W**2 * v) + variance of the bias

over the weights that are stored. With `S = rows * columns` the first sum of the variance is
`sum(rows * (m**2 + v)) * column`: one number for all units of a place, computed outside.
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
        wide_counts: Whether a unit may have more than 65535 weights.
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
        """The C function, for the units from `first` to `last - 1` at one place."""
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
            self.matrix, f"typedef struct {{\n    int inputs;\n{fields}}} {self.matrix};\n"
        )

    def _text(self) -> str:
        parameters = [f"const {self.matrix} *matrix, int first, int last, size_t entry"]
        parameters.append("const float *mean")
        parameters += ["const float *variance"] * self.random_input
        parameters += ["float shared"] * (self.scale == "columns")
        parameters.append("float *output_mean")
        parameters += ["float *output_variance"] * self.is_random
        indent = f",\n{' ' * len(f'static void {self.name}(')}"
        pointers = [f"    const {t} *{n} = matrix->{n} + entry;" for t, n in self._streams()]
        return "\n".join(
            [
                f"static void {self.name}({indent.join(parameters)})",
                "{",
                *pointers,
                "    for (int unit = first; unit < last; unit++) {",
                *self._loop(),
                *self._results(),
                "    }",
                "}\n",
            ]
        )

    def _streams(self) -> list[tuple[str, str]]:
        return [f for f in self.fields() if f[1] in ("loc", "scale", "weight_variance", "gaps")]

    @property
    def _sums(self) -> list[str]:
        sums = ["sum"]
        sums += ["own"] * (self.scale == "full")
        return sums + ["passed"] * self.random_input

    @property
    def _lanes(self) -> int:
        # Sums of their own hide the latency of an addition; more of them would not fit in the
        # registers of a small device.
        return 4 if len(self._sums) == 1 else 2

    def _loop(self) -> list[str]:
        """Sums over the stored weights of one unit."""
        lanes = range(self._lanes)
        names = [f"{name}{lane} = 0.0f" for name in self._sums for lane in lanes]
        lines = [f"float {', '.join(names)};"]
        lines.append("int position = 0;" if self._is_sparse else "const float *m = mean;")
        if not self._is_sparse and self.random_input:
            lines.append("const float *v = variance;")
        count = "(long)matrix->counts[unit]" if self._is_sparse else "matrix->inputs"
        lines.append(f"long count = {count};")
        lines.append(f"for (; count >= {self._lanes}; count -= {self._lanes}) {{")
        lines += [f"    {line}" for lane in lanes for line in self._step(lane)]
        lines += ["}", "for (; count > 0; count--) {"]
        lines += [f"    {line}" for line in self._step(0)]
        return [f"        {line}" for line in [*lines, "}"]]

    def _step(self, lane: int) -> list[str]:
        """One weight, whose products go to the sums number `lane`."""
        cast = "(float)" if self._is_int8 else ""
        terms = {"w": f"{cast}*loc++"}
        if self.scale == "full":
            terms["s"] = f"{cast}*scale++" if self._is_int8 else "*weight_variance++"
        terms["m_i"] = "mean[position]" if self._is_sparse else "*m++"
        if self.random_input:
            terms["v_i"] = "variance[position]" if self._is_sparse else "*v++"
        lines = ["{"] + ["    position += *gaps++;"] * self._is_sparse
        lines.append(f"    const float {', '.join(f'{n} = {t}' for n, t in terms.items())};")
        lines.append(f"    sum{lane} += w * m_i;")
        if self.scale == "full":
            square = "(m_i * m_i + v_i)" if self.random_input else "(m_i * m_i)"
            lines.append(f"    own{lane} += {'s * s' if self._is_int8 else 's'} * {square};")
        if self.random_input:
            lines.append(f"    passed{lane} += w * w * v_i;")
        return [*lines, "}"]

    def _results(self) -> list[str]:
        total = {n: " + ".join(f"{n}{lane}" for lane in range(self._lanes)) for n in self._sums}
        step = " * matrix->loc_steps[unit]" if self._is_int8 else ""
        lines = [f"output_mean[unit] = ({total['sum']}){step}"]
        lines.append("    + (matrix->bias ? matrix->bias[unit] : 0.0f);")
        if self.is_random:
            terms = [f"({total['passed']}){step}{step}"] if self.random_input else []
            if self.scale == "full":
                own = " * matrix->scale_steps[unit]" if self._is_int8 else ""
                terms.append(f"({total['own']}){own}{own}")
            terms += ["shared * matrix->columns[unit]"] * (self.scale == "columns")
            terms.append("(matrix->bias_variance ? matrix->bias_variance[unit] : 0.0f)")
            joined = "\n            + ".join(terms)
            lines.append(f"output_variance[unit] = {joined};")
        return [f"        {line}" for line in lines]
