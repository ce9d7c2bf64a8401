"""Answers in C: from the moments of the outputs to a prediction and its uncertainties.

The likelihood is averaged over fixed points, `mean + sqrt(variance) * point`, half of which are the
negatives of the others. Without variances there is one point, the mean.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from tfbnn.export.c_source.activations import EXPONENTIAL, SIGMOID
from tfbnn.export.c_source.program import AbstractOperation, Places, Value
from tfbnn.export.c_source.text import Array, Function, filled
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.prediction.points import standard_points

_SOFTMAX = Function(
    "softmax",
    """\
/* Probabilities in place; returns their entropy, in nats, without a logarithm of each. */
static float softmax(int classes, float *x)
{
    float largest = x[0], sum = 0.0f, weighted = 0.0f;
    for (int i = 1; i < classes; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    for (int i = 0; i < classes; i++) {
        const float below = x[i] - largest;
        x[i] = exponential(below);
        sum += x[i];
        weighted += x[i] * (below > -87.0f ? below : -87.0f);
    }
    const float share = 1.0f / sum;
    for (int i = 0; i < classes; i++) {
        x[i] *= share;
    }
    return logf(sum) - weighted * share;
}
""",
    (EXPONENTIAL,),
)

# The activations that may end a network, by name.
ENDINGS = {"softmax": _SOFTMAX, "sigmoid": SIGMOID}

_POINT = """\
static float point(int draw, int feature)
{
    const int half = POINTS / 2;  //? there
    return draw < half ? points[draw * FEATURES + feature]  //? there
                       : -points[(draw - half) * FEATURES + feature];  //? there
    (void)draw;  //? !there
    (void)feature;  //? !there
    return 0.0f;  //? !there
}
"""

_OUTPUTS_AT = """\
static void outputs_at(int draw, const float *mean, const float *variance, float *outputs)
{
    for (int i = 0; i < FEATURES; i++) {
        outputs[i] = mean[i] + (variance ? sqrtf(variance[i]) * point(draw, i) : 0.0f);
    }
}
"""


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractAnswer(AbstractOperation):
    """The last step: it writes what the caller asked for.

    Attributes:
        value: The outputs of the network, before `activation`.
        likelihood: Of the outputs.
        activation: The last one of the network, if it is one of `endings`, or None.
        num_points: Number of points.
    """

    # Activations at the end of a network that this applies, at each point.
    endings: ClassVar[tuple[str, ...]]
    # Whether half of the outputs are the noise of the others.
    has_head = False

    value: Value
    likelihood: AbstractLikelihood
    activation: str | None
    num_points: int
    output = None

    @property
    def inputs(self) -> tuple[Value, ...]:
        return (self.value,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the three answers."""
        return tuple(self.likelihood.meanings)

    @property
    def features(self) -> int:
        """Number of outputs that belong together: the last axis."""
        return self.value.shape[-1]

    @property
    def width(self) -> int:
        """Number of those that are answered for at once."""
        return self.features

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """Shape of the prediction for one example."""
        return self.value.shape

    @property
    def uncertainty_shape(self) -> tuple[int, ...]:
        """Shape of the uncertainty, and of the third answer, for one example."""
        return self.prediction_shape

    @property
    def workspace(self) -> int:
        return self.features

    def arrays(self) -> tuple[Array, ...]:
        if not (self.value.is_random and (self.workspace or self.has_head)):
            return ()
        points = standard_points(self.num_points, self.features)
        return (Array("points", points[: self.num_points // 2]),)

    @property
    def sizes(self) -> Function:
        """Numbers of what there is."""
        sizes = {
            "PLACES": int(np.prod(self.value.shape[:-1])),
            "FEATURES": self.features,
            "WIDTH": self.width,
            "TARGETS": self.prediction_shape[-1],
            "POINTS": self.num_points,
        }
        return Function(
            "sizes", f"enum {{ {', '.join(f'{n} = {v}' for n, v in sizes.items())} }};\n"
        )

    @property
    def point(self) -> Function:
        """The standard point of an output for a draw."""
        return Function("point", filled(_POINT, {"there": bool(self.arrays())}), (self.sizes,))

    @property
    def outputs_at(self) -> Function:
        """The outputs for a draw."""
        return Function("outputs_at", _OUTPUTS_AT, (self.point,))

    def statement(self, places: Places) -> str:
        work = f", {places.workspace}" if self.workspace else ""
        return f"answer({places.moments(self.value)}, {', '.join(self.names)}{work});"
