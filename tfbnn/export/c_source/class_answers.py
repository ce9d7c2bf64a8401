"""Answers in C for classes, and for yes or no."""

import textwrap
from typing import ClassVar

from tfbnn.export.c_source.abstract_answer import ENDINGS, AbstractAnswer
from tfbnn.export.c_source.text import Function, filled, float_literal

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

_ANSWER = """\
/* Mean probabilities; their entropy; and what of it is disagreement (mutual information). */
static void answer(const float *mean, const float *variance, float *prediction,
                   float *uncertainty, float *mutual_information, float *work)
{
    const int draws = variance ? POINTS : 1;
    const float share = 1.0f / (float)draws;
    for (int place = 0; place < PLACES; place++) {
        for (int i = 0; i < FEATURES; i++) {
            prediction[i] = mutual_information[i / WIDTH] = 0.0f;
        }
        for (int draw = 0; draw < draws; draw++) {
            outputs_at(draw, mean, variance, work);
${finish}            for (int i = 0; i < FEATURES; i++) {
                if (i % WIDTH == 0) {
                    mutual_information[i / WIDTH] -= probabilities(WIDTH, work + i) * share;
                }
                prediction[i] += work[i] * share;
            }
        }
        for (int i = 0; i < FEATURES; i += WIDTH) {
            const float total = entropy(WIDTH, prediction);
            const float difference = total + *mutual_information;
            *uncertainty++ = ${final_entropy};
            *mutual_information++ = variance && difference > 0.0f ? difference : 0.0f;
            prediction += WIDTH;
        }
        mean += FEATURES;
        variance = variance ? variance + FEATURES : NULL;
    }
}
"""


class AbstractClassAnswer(AbstractAnswer):
    """Mean probabilities, their entropy, and the mutual information."""

    endings = ("softmax", "sigmoid")
    # The activation that makes probabilities of logits; logits of probabilities; their entropy.
    last: ClassVar[str]
    logits: ClassVar[str]
    entropy: ClassVar[str]

    @property
    def uncertainty_shape(self) -> tuple[int, ...]:
        return self.value.shape[:-1] if self.width == self.features else self.value.shape

    def functions(self) -> tuple[Function, ...]:
        entropy = Function("entropy", self.entropy, (_SURPRISE,))
        needs, final = (self.outputs_at, self._probabilities(entropy), entropy), "total"
        if self.likelihood.tempers_mean:
            mean_logits = f"({self.logits}) / {float_literal(self.likelihood.mean_temperature)}"
            steps = [_each(mean_logits), _call(self.last)]
            tempered = _in_place("tempered", steps, (ENDINGS[self.last], entropy))
            needs, final = (*needs, tempered), "tempered(WIDTH, prediction)"
        finish = ""
        if self.activation is not None and self.width != self.features:
            # It is of all outputs, and not of those that are answered for at once.
            finish = textwrap.indent(_call(self.activation, "FEATURES", "work"), 8 * " ")
            needs = (*needs, ENDINGS[self.activation])
        return (Function("answer", filled(_ANSWER, {}, finish=finish, final_entropy=final), needs),)

    def _probabilities(self, entropy: Function) -> Function:
        """From the outputs of the network to probabilities, in place, and their entropy."""
        steps, needs = [], [entropy]
        if self.activation is not None and self.width == self.features:
            steps.append(_call(self.activation))
            needs.append(ENDINGS[self.activation])
        if not (self.likelihood.from_logits or self.likelihood.temperature == 1.0):
            steps.append(_each(self.logits))
        if self.likelihood.temperature != 1.0:
            steps.append(_each(f"x[i] / {float_literal(self.likelihood.temperature)}"))
        if self.likelihood.from_logits or self.likelihood.temperature != 1.0:
            steps.append(_call(self.last))
            needs.append(ENDINGS[self.last])
        return _in_place("probabilities", steps, tuple(needs))


_CLIPPED = "x[i] > 1e-37f ? x[i] : 1e-37f"
# As in `likelihoods.bernoulli`: 2**-25 is less than what is left of a probability rounded to 1.
_REST = "1.0f - x[i] > 2.98023224e-8f ? 1.0f - x[i] : 2.98023224e-8f"


class CategoricalAnswer(AbstractClassAnswer):
    """One of several classes at each place."""

    last = "softmax"
    logits = f"logf({_CLIPPED})"
    entropy = """\
static float entropy(int count, const float *x)
{
    float sum = 0.0f;
    for (int i = 0; i < count; i++) {
        sum += surprise(x[i]);
    }
    return sum;
}
"""


class BernoulliAnswer(AbstractClassAnswer):
    """Yes or no, for each output."""

    last = "sigmoid"
    width = 1
    logits = f"logf({_CLIPPED}) - logf({_REST})"
    entropy = """\
static float entropy(int count, const float *x)
{
    (void)count;
    return surprise(x[0]) + surprise(1.0f - x[0]);
}
"""


_IN_PLACE = """\
static float ${name}(int count, float *x)
{
${steps}    return ${entropy};
}
"""

_EACH = """\
    for (int i = 0; i < ${count}; i++) {
        ${x}[i] = ${expression};
    }
"""


def _in_place(name: str, steps: list[str], needs: tuple[Function, ...]) -> Function:
    """A function that goes through steps in place and returns the entropy of the result."""
    entropy = "entropy(count, x)"
    if steps and steps[-1] == _call("softmax"):
        # It knows the entropy of what it gives.
        steps, entropy = steps[:-1], "softmax(count, x)"
    text = filled(_IN_PLACE, {}, name=name, steps="".join(steps), entropy=entropy)
    return Function(name, text, needs)


def _call(name: str, count: str = "count", x: str = "x") -> str:
    if name == "softmax":
        return f"    softmax({count}, {x});\n"
    return _each(f"sigmoid({x}[i])", count, x)


def _each(expression: str, count: str = "count", x: str = "x") -> str:
    return filled(_EACH, {}, expression=expression, count=count, x=x)
