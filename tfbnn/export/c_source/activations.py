"""Activations: nonlinear functions, element by element, of numbers and of normals, in C.

The ReLU and its like have means and variances in closed form (the maximum of two normals); all
others are integrated over 20 points of Gauss and Hermite.
"""

import dataclasses

import numpy as np

from tfbnn.export.c_source.program import AbstractUnary, Places
from tfbnn.export.c_source.text import Array, Function, float_literal
from tfbnn.layers import activations

NUM_NODES = 20

LARGER = Function(
    "larger",
    """\
static inline float larger(float x, float y)
{
    return x > y ? x : y;
}
""",
)

# The reduction and the polynomial of Cephes' expf (Moshier 1989).
EXPONENTIAL = Function(
    "exponential",
    """\
/* exp(x) to 3e-7 of it, for x from -87 to 87, and no further than that. Unlike with expf, several
   can be computed at a time. */
static inline float exponential(float x)
{
    const float bounded = x > -87.0f ? (x < 87.0f ? x : 87.0f) : -87.0f;
    const float halves = bounded * 1.44269504f;
    const int whole = (int)(halves + (halves < 0.0f ? -0.5f : 0.5f));
    const float r = bounded - (float)whole * 0.693359375f + (float)whole * 2.12194440e-4f;
    const float rest = 0.5f + r * (0.166666655f + r * (0.0416657959f
        + r * (0.00833345191f + r * (0.00139819995f + r * 1.98756915e-4f))));
    union {
        uint32_t bits;
        float value;
    } power;
    power.bits = (uint32_t)(whole + 127) << 23;
    return x == x ? power.value * (1.0f + r + r * r * rest) : x;
}
""",
)

MAXIMUM = Function(
    "maximum",
    """\
/* Mean and variance of the larger of two independent normals (Clark 1961). Returns the probability
   that it is the first, by the approximation of Bowling et al. 2009: no erf is needed. */
static inline float maximum(float mean1, float variance1, float mean2, float variance2,
                            float *mean, float *variance)
{
    const float theta = sqrtf(larger(variance1 + variance2, 1e-12f));
    const float distance = (mean1 - mean2) / theta;
    const float a = distance > 8.0f ? 8.0f : larger(distance, -8.0f);
    const float first = 1.0f / (1.0f + exponential(-(1.5976f * a + 0.07056f * a * a * a)));
    const float density = 0.398942280f * exponential(-0.5f * a * a);
    const float upper = a * first + density;
    *mean = mean2 + (mean1 - mean2) * first + theta * density;
    *variance = larger(0.0f, variance1 * first + variance2 * (1.0f - first)
                                 - theta * theta * upper * (upper - a));
    return first;
}
""",
    (LARGER, EXPONENTIAL),
)

_LEAKY_RELU = Function(
    "leaky_relu",
    """\
/* slope * x + (1 - slope) * max(x, 0) */
static void leaky_relu(int count, float slope, float *restrict mean, float *restrict variance)
{
    const float rest = 1.0f - slope;
    for (int i = 0; i < count; i++) {
        const float m = mean[i];
        if (variance) {
            float upper_mean, upper_variance;
            const float v = variance[i];
            const float first = maximum(m, v, 0.0f, 0.0f, &upper_mean, &upper_variance);
            mean[i] = slope * m + rest * upper_mean;
            variance[i] = slope * slope * v + rest * rest * upper_variance
                + 2.0f * slope * rest * v * first;
        } else {
            mean[i] = m > 0.0f ? m : slope * m;
        }
    }
}
""",
    (MAXIMUM,),
)

_CAPPED_RELU = Function(
    "capped_relu",
    """\
/* max(x, 0) - max(x - cap, 0) */
static void capped_relu(int count, float cap, float *restrict mean, float *restrict variance)
{
    for (int i = 0; i < count; i++) {
        const float m = mean[i];
        if (variance) {
            float mean1, variance1, mean2, variance2, room;
            maximum(m, variance[i], 0.0f, 0.0f, &mean1, &variance1);
            maximum(m - cap, variance[i], 0.0f, 0.0f, &mean2, &variance2);
            /* E[max(cap - x, 0)] - E[max(-x, 0)]: no difference of second moments. */
            room = (mean2 - (m - cap)) - (mean1 - m);
            mean[i] = mean1 - mean2;
            variance[i] = larger(0.0f, variance1 - variance2 - 2.0f * mean2 * room);
        } else {
            mean[i] = m > cap ? cap : larger(m, 0.0f);
        }
    }
}
""",
    (MAXIMUM,),
)

_APPLY = Function(
    "apply",
    f"""\
/* A function of one number, of numbers or by quadrature of normals. */
static void apply(int count, float (*function)(float), float *mean, float *variance)
{{
    for (int i = 0; i < count; i++) {{
        const float m = mean[i];
        if (variance) {{
            float values[{NUM_NODES}], centre = 0.0f, spread = 0.0f;
            const float scale = sqrtf(variance[i]);
            for (int k = 0; k < {NUM_NODES}; k++) {{
                values[k] = function(m + scale * quadrature_nodes[k]);
                centre += quadrature_weights[k] * values[k];
            }}
            for (int k = 0; k < {NUM_NODES}; k++) {{
                spread += quadrature_weights[k] * (values[k] - centre) * (values[k] - centre);
            }}
            mean[i] = centre;
            variance[i] = spread;
        }} else {{
            mean[i] = function(m);
        }}
    }}
}}
""",
)


def _elementwise(name: str, expression: str) -> Function:
    return Function(
        name, f"static float {name}(float x)\n{{\n    return {expression};\n}}\n", (_APPLY,)
    )


SIGMOID = Function(
    "sigmoid",
    """\
static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}
""",
)

# exp(-x) overflows to infinity for x below -88, and 1 / infinity is the right answer.
_ELEMENTWISE = {
    "tanh": _elementwise("tanh_of", "tanhf(x)"),
    "silu": _elementwise("silu", "x / (1.0f + expf(-x))"),
    "gelu": _elementwise("gelu", "0.5f * x * (1.0f + erff(x * 0.707106781f))"),
    "softplus": _elementwise("softplus", "log1pf(expf(-fabsf(x))) + (x > 0.0f ? x : 0.0f)"),
    "exponential": _elementwise("exponential", "expf(x)"),
    "elu": _elementwise("elu", "x > 0.0f ? x : expm1f(x)"),
    # The constants of Klambauer et al. 2017, "Self-Normalizing Neural Networks", eq. 14.
    "selu": _elementwise("selu", "1.05070099f * (x > 0.0f ? x : 1.67326324f * expm1f(x))"),
    "sigmoid": SIGMOID,
}
NAMES = sorted([*_ELEMENTWISE, "relu"])


@dataclasses.dataclass(frozen=True, eq=False)
class Activation(AbstractUnary):
    """An activation of one of `NAMES`."""

    activation: activations.Activation
    in_place = True

    def functions(self) -> tuple[Function, ...]:
        if self.activation.name == "relu":
            return (_LEAKY_RELU if self.activation.cap is None else _CAPPED_RELU,)
        return (_APPLY, _ELEMENTWISE[self.activation.name])

    def arrays(self) -> tuple[Array, ...]:
        return quadrature() if _APPLY in self.functions() else ()

    def statement(self, places: Places) -> str:
        *_, function = self.functions()
        size, moments = self.value.size, places.moments(self.output)
        if self.activation.name == "relu":
            cap = self.activation.cap
            parameter = float_literal(self.activation.slope if cap is None else cap)
            call = f"{function.name}({size}, {parameter}, {moments});"
        else:
            call = f"apply({size}, {function.name}, {moments});"
        return places.copy(self.value, self.output) + call


def quadrature() -> tuple[Array, Array]:
    """Nodes and weights for the mean over a standard normal; the weights add up to 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NUM_NODES)
    weights = weights / weights.sum()
    return (
        Array("quadrature_nodes", nodes.astype(np.float32)),
        Array("quadrature_weights", weights.astype(np.float32)),
    )
