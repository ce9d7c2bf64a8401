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

from tfbnn.export.c_source.text import Function, filled

_MATRIX = """\
typedef struct {
    int inputs, units;
    const ${loc_type} *loc;
    const uint8_t *scale;  //? codes
    const float *weight_variance;  //? full !int8
    const ${gap_type} *gaps;  //? sparse
    const ${count_type} *counts;  //? sparse
    const float *loc_steps;  //? int8
    const float *scale_steps;  //? codes
    const float *columns;  //? columns
    const float *bias;
    const float *bias_variance;
} ${matrix};
"""

# Pointers are not `restrict`: with it gcc 12 (`-O2`) sums mean and variance of a single unit side
# by side, and loses the variance. Codes of two kinds that go to one sum are multiplied with their
# steps at once; otherwise the step waits for the end of the sum.
_PRODUCT = """\
static void ${name}(
    const ${matrix} *matrix,
    int group, size_t entry,
    const float *mean,
    const float *variance,  //? random_input
    float shared,  //? columns
    float *output_mean)  //? !random
    float *output_mean,  //? random
    float *output_variance)  //? random
{
    const int units = matrix->units, first = group * units;
    const ${loc_type} *loc = matrix->loc + entry;
    const uint8_t *scale = matrix->scale + entry;  //? codes
    const float *weight_variance = matrix->weight_variance + entry;  //? full !int8
    const ${gap_type} *gaps = matrix->gaps + entry;  //? sparse
    const ${count_type} *counts = matrix->counts;  //? sparse
    counts += (size_t)group * (size_t)matrix->inputs;  //? sparse
    for (int unit = 0; unit < units; unit++) {
        output_mean[unit] = 0.0f;  //? !sums_variances
        output_mean[unit] = output_variance[unit] = 0.0f;  //? sums_variances
    }
    for (int input = 0; input < matrix->inputs; input++) {
        const float m = mean[input];
        const float v = variance[input];  //? random_input
        const float square = m * m;  //? full !random_input
        const float square = m * m + v;  //? full random_input
        const long count = units;  //? !sparse
        const long count = (long)counts[input];  //? sparse
        if (m != 0.0f) {  //? !random_input
        if (m != 0.0f || v != 0.0f) {  //? random_input
            int unit = 0;  //? sparse
            for (long ${k} = 0; ${k} < count; ${k}++) {
                unit += gaps[${k}];  //? sparse
                const float w = loc[${k}];  //? !int8
                const float w = (float)loc[${k}];  //? int8 !full
                const float w = (float)loc[${k}] * matrix->loc_steps[first + unit];  //? codes
                const float s = (float)scale[${k}] * matrix->scale_steps[first + unit];  //? codes
                output_mean[unit] += w * m;
                output_variance[unit] += w * w * v;  //? random_input !full
                output_variance[unit] += ${spread} * square;  //? full !random_input
                output_variance[unit] += w * w * v + ${spread} * square;  //? full random_input
            }
        }
        loc += count;
        scale += count;  //? codes
        weight_variance += count;  //? full !int8
        gaps += count;  //? sparse
    }
    for (int unit = 0; unit < units; unit++) {
        const int i = first + unit;
        output_mean[unit] = output_mean[unit]${step} + (matrix->bias ? matrix->bias[i] : 0.0f);
        output_variance[unit] = output_variance[unit]${step}${step}  //? sums_variances
            + shared * matrix->columns[i]  //? columns sums_variances
        output_variance[unit] = shared * matrix->columns[i]  //? columns !sums_variances
            + (matrix->bias_variance ? matrix->bias_variance[i] : 0.0f);  //? random
    }
}
"""


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
    def name(self) -> str:
        """Name of the C function."""
        ending = "_of_moments" if self.random_input else ""
        return f"product_{self._key}{ending}"

    @property
    def matrix(self) -> str:
        """Name of the C type."""
        return f"matrix_{self._key}"

    @property
    def _key(self) -> str:
        scale = "" if self.scale == "none" else f"_{self.scale}"
        return f"{self.storage}{'_wide' if self.wide_counts else ''}_{self.precision}{scale}"

    def function(self) -> Function:
        """The C function, for the units of one group at one place."""
        return Function(
            self.name, self._filled(_PRODUCT), (Function(self.matrix, self._filled(_MATRIX)),)
        )

    def _filled(self, template: str) -> str:
        is_int8, is_full = self.precision == "int8", self.scale == "full"
        is_sparse = self.storage != "dense"
        k = "k" if is_sparse else "unit"
        conditions = {
            "int8": is_int8,
            "full": is_full,
            # Of both kinds.
            "codes": is_int8 and is_full,
            "columns": self.scale == "columns",
            "sparse": is_sparse,
            "random_input": self.random_input,
            "random": self.random_input or self.scale != "none",
            # Whether the variance of a unit is a sum over its weights.
            "sums_variances": self.random_input or is_full,
        }
        return filled(
            template,
            conditions,
            name=self.name,
            matrix=self.matrix,
            loc_type="int8_t" if is_int8 else "float",
            gap_type="uint8_t" if self.storage == "gaps8" else "uint16_t",
            count_type="uint32_t" if self.wide_counts else "uint16_t",
            k=k,
            spread="s * s" if is_int8 else f"weight_variance[{k}]",
            step=" * matrix->loc_steps[i]" if is_int8 and not is_full else "",
        )
