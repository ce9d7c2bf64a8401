"""Answers in C for real numbers with normal noise."""

import numpy as np

from tfbnn.export.c_source.abstract_answer import ENDINGS, AbstractAnswer
from tfbnn.export.c_source.text import Array, Function, filled, float_literal
from tfbnn.likelihoods.normal import SMALLEST_SCALE

_NORMAL = """\
/* Mean of each target; standard deviation in all; and that of the mean alone. */
static void answer(const float *mean, const float *variance, float *prediction,
                   float *uncertainty, float *epistemic)
{
    for (int place = 0; place < PLACES; place++) {
        for (int i = 0; i < TARGETS; i++) {
            const float spread = variance ? variance[i] : 0.0f;
            *prediction++ = mean[i];
            *uncertainty++ = sqrtf(spread + noise_variance(i, mean, variance));
            *epistemic++ = sqrtf(spread);
        }
        mean += FEATURES;
        variance = variance ? variance + FEATURES : NULL;
    }
}
"""

_NORMAL_AT_POINTS = """\
/* The same over the points, if the network ends in a sigmoid. */
static void answer(const float *mean, const float *variance, float *prediction,
                   float *uncertainty, float *epistemic, float *work)
{
    for (int place = 0; place < PLACES; place++) {
        const int draws = variance ? POINTS : 1;
        for (int i = 0; i < TARGETS; i++) {
            prediction[i] = epistemic[i] = 0.0f;
        }
        for (int draw = 0; draw < draws; draw++) {
            outputs_at(draw, mean, variance, work);
            for (int i = 0; i < TARGETS; i++) {
                /* Mean and variance so far: no difference of large sums. */
                const float x = sigmoid(work[i]), distance = x - prediction[i];
                prediction[i] += distance / (float)(draw + 1);
                epistemic[i] += distance * (x - prediction[i]) / (float)draws;
            }
        }
        for (int i = 0; i < TARGETS; i++) {
            uncertainty[i] = sqrtf(epistemic[i] + noise_variance(i, mean, variance));
            epistemic[i] = sqrtf(epistemic[i]);
        }
        prediction += TARGETS;
        uncertainty += TARGETS;
        epistemic += TARGETS;
        mean += FEATURES;
        variance = variance ? variance + FEATURES : NULL;
    }
}
"""

_PREDICTED_NOISE = """\
${table}/* The mean of scale**2, where scale is the softplus of an output beside the mean. */
static float noise_variance(int target, const float *mean, const float *variance)
{
    const int draws = variance ? POINTS : 1;
    const int i = TARGETS + target;
    float sum = 0.0f;
    for (int draw = 0; draw < draws; draw++) {
        const float x = ${end}(mean[i] + (variance ? sqrtf(variance[i]) * point(draw, i) : 0.0f));
        const float scale = log1pf(expf(-fabsf(x))) + (x > 0.0f ? x : 0.0f)
            + ${smallest};
        sum += scale * scale / (float)draws;
    }
    return sum * ${square};
}
"""

_CONSTANT_NOISE = """\
${table}/* The noise of the targets, in the square of their unit. */
static float noise_variance(int target, const float *mean, const float *variance)
{
    (void)target;  //? !table
    (void)mean;
    (void)variance;
    return ${square};
}
"""


class NormalAnswer(AbstractAnswer):
    """Mean and total standard deviation of each target, and that of the mean."""

    endings = ("sigmoid",)

    @property
    def has_head(self) -> bool:
        return self.likelihood.noise_is_predicted

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return tuple(self.likelihood.targets_shape(self.value.shape))

    @property
    def workspace(self) -> int:
        return 0 if self.activation is None else self.features

    def functions(self) -> tuple[Function, ...]:
        ending = () if self.activation is None else (ENDINGS[self.activation],)
        loss = self.likelihood.loss
        name, scale, template = "noise", loss.constant_scale, _CONSTANT_NOISE
        if self.has_head:
            name, scale, template = "units", loss.unit, _PREDICTED_NOISE
        square, table = _square_of(name, scale().numpy())
        text = filled(
            template,
            {"table": bool(table)},
            table=table,
            square=square,
            end=self.activation or "",
            smallest=float_literal(SMALLEST_SCALE),
        )
        needs = (self.point, *ending) if self.has_head else (self.sizes,)
        noise = Function("noise_variance", text, needs)
        if self.activation is None:
            return (Function("answer", _NORMAL, (noise,)),)
        return (Function("answer", _NORMAL_AT_POINTS, (self.outputs_at, noise, *ending)),)


def _square_of(name: str, scale: np.ndarray) -> tuple[str, str]:
    """The square of a scale, or of that of `target`, in C, and the table it is read from."""
    squares = np.square(scale.astype(np.float64)).astype(np.float32)
    if squares.ndim == 0:
        return float_literal(float(squares)), ""
    return f"{name}[target]", Array(name, squares).definition()
