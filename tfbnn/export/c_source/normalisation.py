"""Normalisation in C: rows of numbers or of normals with a mean of 0 and a variance of 1."""

import dataclasses

from tfbnn.export.c_source.activations import LARGER
from tfbnn.export.c_source.program import AbstractUnary, Places
from tfbnn.export.c_source.text import Function, float_literal

_NORMALISE = Function(
    "normalise",
    """\
/* Rows of `count` numbers less their mean, over their standard deviation. Of normals the deviation
   is taken at its mean, and the outputs are linear around the means of the inputs. */
static void normalise(int rows, int count, float epsilon, const float *mean, const float *variance,
                      float *output_mean, float *output_variance)
{
    const float share = 1.0f / (float)count;
    for (int row = 0; row < rows; row++) {
        float centre = 0.0f, spread = 0.0f, noise = 0.0f, first = 0.0f, second = 0.0f;
        for (int i = 0; i < count; i++) {
            centre += share * mean[i];
            noise += variance ? share * variance[i] : 0.0f;
        }
        for (int i = 0; i < count; i++) {
            spread += share * (mean[i] - centre) * (mean[i] - centre);
        }
        const float scale = 1.0f / sqrtf(spread + (1.0f - share) * noise + epsilon);
        for (int i = 0; variance && i < count; i++) {
            const float z = (mean[i] - centre) * scale;
            first += share * variance[i] * z;
            second += share * variance[i] * z * z;
        }
        for (int i = 0; i < count; i++) {
            const float z = (mean[i] - centre) * scale;
            if (variance) {
                const float own = variance[i] * (1.0f - 2.0f * share * (1.0f + z * z));
                const float others = noise + 2.0f * z * first + z * z * second;
                output_variance[i] = larger(0.0f, own + share * others) * scale * scale;
            }
            output_mean[i] = z;
        }
        mean += count;
        output_mean += count;
        variance = variance ? variance + count : NULL;
        output_variance = variance ? output_variance + count : NULL;
    }
}
""",
    (LARGER,),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Normalise(AbstractUnary):
    """Each `count` numbers side by side with a mean of 0 and a variance of 1."""

    count: int
    epsilon: float
    in_place = True
    needs = (_NORMALISE,)

    def statement(self, places: Places) -> str:
        size = f"{self.value.size // self.count}, {self.count}, {float_literal(self.epsilon)}"
        return f"normalise({size}, {places.moments(self.value)}, {places.moments(self.output)});"
