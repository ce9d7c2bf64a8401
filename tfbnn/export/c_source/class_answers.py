"""Answers in C for classes, and for yes or no."""

from typing import ClassVar

from tfbnn.export.c_source.abstract_answer import ENDINGS, AbstractAnswer
from tfbnn.export.c_source.text import Function, float_literal

# The smallest normal float32, under the logarithm of a probability; so in `likelihoods.classes`.
_TINY = "1.2e-38f"

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


class AbstractClassAnswer(AbstractAnswer):
    """Mean probabilities, their entropy, and the mutual information."""

    endings = ("softmax", "sigmoid")
    # The activation that makes probabilities of logits.
    last: ClassVar[str]
    # The text of `answer`, and the entropy of the tempered mean in it.
    body: ClassVar[str]
    tempered: ClassVar[str]

    def functions(self) -> tuple[Function, ...]:
        needs, final_entropy = (self.outputs_at, self._probabilities(), _SURPRISE), "entropy"
        if self.likelihood.tempers_mean:
            needs, final_entropy = (*needs, self._tempered_mean()), self.tempered
        return (Function("answer", self.body.replace("FINAL_ENTROPY", final_entropy), needs),)

    def _tempered_mean(self) -> Function:
        """From mean probabilities to tempered ones, in place, and their entropy."""
        temperature = float_literal(self.likelihood.mean_temperature)
        body = "    return softmax(count, x);\n"
        if self.last == "sigmoid":
            body = f"{_call(self.last)}    return surprise(x[0]) + surprise(1.0f - x[0]);\n"
        comment = "/* The temperature of the mean, in place; returns the entropy, in nats. */\n"
        logits = _each(f"({_LOG_ODDS[self.last]}) / {temperature}")
        text = f"{comment}static float tempered(int count, float *x)\n{{\n{logits}{body}}}\n"
        return Function("tempered", text, (ENDINGS[self.last], _SURPRISE))

    def _probabilities(self) -> Function:
        """From the outputs of the network to probabilities, in place; of classes, their entropy."""
        is_softmax = self.last == "softmax"
        steps, needs = [], []
        if self.activation is not None:
            steps.append(_call(self.activation))
            needs.append(ENDINGS[self.activation])
        if not (self.likelihood.from_logits or self.likelihood.temperature == 1.0):
            steps.append(_each(_LOG_ODDS[self.last]))
        if self.likelihood.temperature != 1.0:
            steps.append(_each(f"x[i] / {float_literal(self.likelihood.temperature)}"))
        if self.likelihood.from_logits or self.likelihood.temperature != 1.0:
            steps.append(_call(self.last))
            needs.append(ENDINGS[self.last])
        if is_softmax and steps and steps[-1] == _call("softmax"):
            steps[-1] = f"    return {steps[-1].strip()}\n"
        elif is_softmax:
            steps.append(_ENTROPY)
            needs.append(_SURPRISE)
        body = "".join(steps) or "    (void)count;\n    (void)x;\n"
        c_type = "float" if is_softmax else "void"
        text = f"static {c_type} probabilities(int count, float *x)\n{{\n{body}}}\n"
        return Function("probabilities", text, tuple(needs))


class CategoricalAnswer(AbstractClassAnswer):
    """One of several classes at each place."""

    last = "softmax"
    body = _CATEGORICAL
    tempered = "tempered(FEATURES, prediction)"

    @property
    def uncertainty_shape(self) -> tuple[int, ...]:
        return self.value.shape[:-1]


class BernoulliAnswer(AbstractClassAnswer):
    """Yes or no, for each output."""

    last = "sigmoid"
    body = _BERNOULLI
    tempered = "tempered(1, prediction + i)"

    @property
    def uncertainty_shape(self) -> tuple[int, ...]:
        return self.value.shape[:-1] if self.features == 1 else self.value.shape


_CLIPPED = "x[i] > 1e-37f ? x[i] : 1e-37f"
_ENTROPY = """\
    float entropy = 0.0f;
    for (int i = 0; i < count; i++) {
        entropy += surprise(x[i]);
    }
    return entropy;
"""
# As in `likelihoods.classes`: 2**-25 is less than what is left of a probability rounded to 1.
_REST = "1.0f - x[i] > 2.98023224e-8f ? 1.0f - x[i] : 2.98023224e-8f"
_LOG_ODDS = {"softmax": f"logf({_CLIPPED})", "sigmoid": f"logf({_CLIPPED}) - logf({_REST})"}


def _call(name: str) -> str:
    return "    softmax(count, x);\n" if name == "softmax" else _each("sigmoid(x[i])")


def _each(expression: str) -> str:
    return f"    for (int i = 0; i < count; i++) {{\n        x[i] = {expression};\n    }}\n"
