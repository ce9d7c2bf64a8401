"""Answers in C: from the moments of the outputs to a prediction and its uncertainties.

The likelihood is averaged over fixed points, `mean + sqrt(variance) * point`, half of which are the
negatives of the others. Without variances there is one point, the mean.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfbnn.export.c_source.activations import EXPONENTIAL, SIGMOID
from tfbnn.export.c_source.program import AbstractOperation, Places, Value
from tfbnn.export.c_source.text import Array, Function, float_literal
from tfbnn.prediction.answers import OUTPUTS
from tfbnn.prediction.points import standard_points
from tfbnn.training.likelihoods import AbstractLikelihood
from tfbnn.training.losses import SMALLEST_SCALE

# The smallest normal float32, under the logarithm of a probability; so in `prediction.answers`.
_TINY = "1.2e-38f"

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

_SURPRISE = Function(
    "surprise",
    f"""\
/* -p * log(p), in nats */
static float surprise(float p)
{{
    return -p * logf(p > {_TINY} ? p : {_TINY});
}}
""",
)

_CATEGORICAL = """\
/* Mean probabilities; their entropy; and what of it is disagreement (mutual information). */
static void answer(const float *mean, const float *variance, float *prediction,
                   float *uncertainty, float *mutual_information, float *work)
{
    for (int place = 0; place < PLACES; place++) {
        const int draws = variance ? POINTS : 1;
        const float share = 1.0f / (float)draws;
        float entropy = 0.0f, expected = 0.0f;
        for (int i = 0; i < FEATURES; i++) {
            prediction[i] = 0.0f;
        }
        for (int draw = 0; draw < draws; draw++) {
            outputs_at(draw, mean, variance, work);
            expected += probabilities(FEATURES, work) * share;
            for (int i = 0; i < FEATURES; i++) {
                prediction[i] += work[i] * share;
            }
        }
        for (int i = 0; i < FEATURES; i++) {
            entropy += surprise(prediction[i]);
        }
        *uncertainty++ = FINAL_ENTROPY;
        *mutual_information++ = variance && entropy > expected ? entropy - expected : 0.0f;
        prediction += FEATURES;
        mean += FEATURES;
        variance = variance ? variance + FEATURES : NULL;
    }
}
"""

_BERNOULLI = """\
/* Mean probability of each yes; its entropy; and what of it is disagreement. */
static void answer(const float *mean, const float *variance, float *prediction,
                   float *uncertainty, float *mutual_information, float *work)
{
    for (int place = 0; place < PLACES; place++) {
        const int draws = variance ? POINTS : 1;
        for (int i = 0; i < FEATURES; i++) {
            prediction[i] = uncertainty[i] = mutual_information[i] = 0.0f;
        }
        for (int draw = 0; draw < draws; draw++) {
            outputs_at(draw, mean, variance, work);
            probabilities(FEATURES, work);
            for (int i = 0; i < FEATURES; i++) {
                const float entropy = surprise(work[i]) + surprise(1.0f - work[i]);
                prediction[i] += work[i] / (float)draws;
                mutual_information[i] -= entropy / (float)draws;
            }
        }
        for (int i = 0; i < FEATURES; i++) {
            const float entropy = surprise(prediction[i]) + surprise(1.0f - prediction[i]);
            const float difference = entropy + mutual_information[i];
            uncertainty[i] = FINAL_ENTROPY;
            mutual_information[i] = variance && difference > 0.0f ? difference : 0.0f;
        }
        prediction += FEATURES;
        uncertainty += FEATURES;
        mutual_information += FEATURES;
        mean += FEATURES;
        variance = variance ? variance + FEATURES : NULL;
    }
}
"""

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

_HEAD = f"""\
/* The mean of scale**2, where scale is the softplus of an output beside the mean. */
static float noise_variance(int target, const float *mean, const float *variance)
{{
    const int draws = variance ? POINTS : 1;
    const int i = TARGETS + target;
    float sum = 0.0f;
    for (int draw = 0; draw < draws; draw++) {{
        const float x = FINISH(mean[i] + (variance ? sqrtf(variance[i]) * point(draw, i) : 0.0f));
        const float scale = log1pf(expf(-fabsf(x))) + (x > 0.0f ? x : 0.0f)
            + {float_literal(SMALLEST_SCALE)};
        sum += scale * scale / (float)draws;
    }}
    return sum * UNIT;
}}
"""

_POINT = """\
static float point(int draw, int feature)
{
    const int half = POINTS / 2;
    return draw < half ? points[draw * FEATURES + feature]
                       : -points[(draw - half) * FEATURES + feature];
}
"""

_NO_POINT = """\
static float point(int draw, int feature)
{
    (void)draw;
    (void)feature;
    return 0.0f;
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
class Answer(AbstractOperation):
    """The last step: it writes what the caller asked for.

    Attributes:
        value: The outputs of the network, before `activation`.
        likelihood: Of the outputs.
        activation: `"softmax"` or `"sigmoid"` at the end of the network, or None.
        num_points: Number of points.
    """

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
        return OUTPUTS[self.likelihood.kind]

    @property
    def features(self) -> int:
        """Number of outputs that belong together: the last axis."""
        return self.value.shape[-1]

    @property
    def has_head(self) -> bool:
        """Whether half of the outputs are the noise of the others."""
        return self.likelihood.kind == "normal" and self.likelihood.loss.scale == "head"

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """Shape of the prediction for one example."""
        last = self.features // 2 if self.has_head else self.features
        return (*self.value.shape[:-1], last)

    @property
    def uncertainty_shape(self) -> tuple[int, ...]:
        """Shape of the uncertainty, and of the third answer, for one example."""
        of_place = self.likelihood.kind == "categorical"
        one_probability = self.likelihood.kind == "bernoulli" and self.features == 1
        return self.value.shape[:-1] if of_place or one_probability else self.prediction_shape

    @property
    def workspace(self) -> int:
        is_closed = self.likelihood.kind == "normal" and self.activation is None
        return 0 if is_closed else self.features

    def arrays(self) -> tuple[Array, ...]:
        if not (self.value.is_random and (self.workspace or self.has_head)):
            return ()
        points = standard_points(self.num_points, self.features)
        return (Array("points", points[: self.num_points // 2]),)

    def functions(self) -> tuple[Function, ...]:
        sizes = Function("sizes", self._sizes())
        point = Function("point", _POINT if self.arrays() else _NO_POINT, (sizes,))
        if self.likelihood.kind == "normal":
            return (self._normal(sizes, point),)
        outputs_at = Function("outputs_at", _OUTPUTS_AT, (point,))
        needs = (outputs_at, self._probabilities(), _SURPRISE)
        text = _CATEGORICAL if self.likelihood.kind == "categorical" else _BERNOULLI
        if not self.likelihood.tempers_mean:
            return (Function("answer", text.replace("FINAL_ENTROPY", "entropy"), needs),)
        text = text.replace("FINAL_ENTROPY", _TEMPERED[self.likelihood.kind])
        return (Function("answer", text, (*needs, self._tempered_mean())),)

    def statement(self, places: Places) -> str:
        work = f", {places.workspace}" if self.workspace else ""
        return f"answer({places.moments(self.value)}, {', '.join(self.names)}{work});"

    def _normal(self, sizes: Function, point: Function) -> Function:
        """The answer for real numbers."""
        ending = () if self.activation is None else (_NEEDED[self.activation],)
        if self.has_head:
            unit, table = self._squares("units", self.likelihood.loss.unit())
            text = table + _HEAD.replace("FINISH", self.activation or "").replace("UNIT", unit)
            noise = Function("noise_variance", text, (point, *ending))
        else:
            noise = Function("noise_variance", self._constant_noise(), (sizes,))
        if self.activation is None:
            return Function("answer", _NORMAL, (noise,))
        outputs_at = Function("outputs_at", _OUTPUTS_AT, (point,))
        return Function("answer", _NORMAL_AT_POINTS, (outputs_at, noise, *ending))

    def _sizes(self) -> str:
        sizes = {
            "PLACES": int(np.prod(self.value.shape[:-1])),
            "FEATURES": self.features,
            "TARGETS": self.prediction_shape[-1],
            "POINTS": self.num_points,
        }
        return f"enum {{ {', '.join(f'{n} = {v}' for n, v in sizes.items())} }};\n"

    def _constant_noise(self) -> str:
        noise, table = self._squares("noise", self.likelihood.loss.constant_scale())
        unused = "" if table else "    (void)target;\n"
        return (
            f"{table}/* The noise of the targets, in the square of their unit. */\n"
            "static float noise_variance(int target, const float *mean, const float *variance)\n"
            f"{{\n{unused}    (void)mean;\n    (void)variance;\n"
            f"    return {noise};\n}}\n"
        )

    def _tempered_mean(self) -> Function:
        """From mean probabilities to tempered ones, in place, and their entropy."""
        last = "softmax" if self.likelihood.kind == "categorical" else "sigmoid"
        logits = _each(f"({_LOG_ODDS[last]}) / {float_literal(self.likelihood.mean_temperature)}")
        if last == "softmax":
            body, needs = "    return softmax(count, x);\n", (_SOFTMAX,)
        else:
            body = f"{_call(last)}    return surprise(x[0]) + surprise(1.0f - x[0]);\n"
            needs = (SIGMOID, _SURPRISE)
        comment = "/* The temperature of the mean, in place; returns the entropy, in nats. */\n"
        text = f"{comment}static float tempered(int count, float *x)\n{{\n{logits}{body}}}\n"
        return Function("tempered", text, needs)

    def _squares(self, name: str, scale: tf.Tensor) -> tuple[str, str]:
        """The square of a scale, or of that of `target`, in C, and the table it is read from."""
        squares = np.square(scale.numpy().astype(np.float64)).astype(np.float32)
        if squares.ndim == 0:
            return float_literal(float(squares)), ""
        return f"{name}[target]", Array(name, squares).definition()

    def _probabilities(self) -> Function:
        """From the outputs of the network to probabilities, in place; of classes, their entropy."""
        is_softmax = self.likelihood.kind == "categorical"
        last = "softmax" if is_softmax else "sigmoid"
        steps, needs = [], []
        if self.activation is not None:
            steps.append(_call(self.activation))
            needs.append(_NEEDED[self.activation])
        if not (self.likelihood.from_logits or self.likelihood.temperature == 1.0):
            steps.append(_each(_LOG_ODDS[last]))
        if self.likelihood.temperature != 1.0:
            steps.append(_each(f"x[i] / {float_literal(self.likelihood.temperature)}"))
        if self.likelihood.from_logits or self.likelihood.temperature != 1.0:
            steps.append(_call(last))
            needs.append(_NEEDED[last])
        if is_softmax and steps and steps[-1] == _call("softmax"):
            steps[-1] = f"    return {steps[-1].strip()}\n"
        elif is_softmax:
            steps.append(_ENTROPY)
            needs.append(_SURPRISE)
        body = "".join(steps) or "    (void)count;\n    (void)x;\n"
        c_type = "float" if is_softmax else "void"
        text = f"static {c_type} probabilities(int count, float *x)\n{{\n{body}}}\n"
        return Function("probabilities", text, tuple(needs))


_NEEDED = {"softmax": _SOFTMAX, "sigmoid": SIGMOID}
_CLIPPED = "x[i] > 1e-37f ? x[i] : 1e-37f"
_ENTROPY = """\
    float entropy = 0.0f;
    for (int i = 0; i < count; i++) {
        entropy += surprise(x[i]);
    }
    return entropy;
"""
# As in `training.likelihoods`: 2**-25 is less than what is left of a probability rounded to 1.
_REST = "1.0f - x[i] > 2.98023224e-8f ? 1.0f - x[i] : 2.98023224e-8f"
_LOG_ODDS = {"softmax": f"logf({_CLIPPED})", "sigmoid": f"logf({_CLIPPED}) - logf({_REST})"}
_TEMPERED = {
    "categorical": "tempered(FEATURES, prediction)",
    "bernoulli": "tempered(1, prediction + i)",
}


def _call(name: str) -> str:
    return "    softmax(count, x);\n" if name == "softmax" else _each("sigmoid(x[i])")


def _each(expression: str) -> str:
    return f"    for (int i = 0; i < count; i++) {{\n        x[i] = {expression};\n    }}\n"
