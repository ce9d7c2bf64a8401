"""`tfbnn.distill`: teach a network what a posterior predicts and how sure it is, without labels."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.steps import steps_of
from tfbnn.posterior.mean_field import mean_field
from tfbnn.prediction import moments
from tfbnn.prediction.answers import OUTPUTS, answer
from tfbnn.prediction.predictive import num_rows
from tfbnn.prediction.summaries import NormalPrediction, Prediction
from tfbnn.training.data import check_arrays
from tfbnn.training.feeding import fed
from tfbnn.training.likelihoods import AbstractLikelihood, sum_events
from tfbnn.weights.sums import total

_MODES = ("moments", "none")
# At so few points the mean of a softmax is right to 1e-3, which is enough for a gradient.
_NUM_POINTS = 32
# Under the logarithm of a probability and of a standard deviation.
_TINY = 1e-12


def distill(
    model: Any,
    x: Any,
    answers: Prediction,
    uncertainty: str = "moments",
    epochs: int = 20,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: Any = "auto",
) -> keras.callbacks.History:
    """Fine-tune a model, in place, until it answers as another one did.

    Classes: minimises, per row and in nats,

        - sum(p * log(q)) + (I_p - I_q)**2

    where `p` are the probabilities in `answers`, `q` those of `model`, and `I` the mutual
    information of each. Real numbers: the cross-entropy of the two normal laws, once with the total
    and once with the epistemic standard deviation. There is no KL and no label in it; inputs of any
    kind will do, and those on which the teacher is unsure teach what is to be unsure about. Steps
    that the mask of `answers` leaves out teach nothing.

    Pruned weights stay pruned. Dropout and BatchNormalization run as in inference.

    Args:
        model: The small network: a `tfbnn.Sequential` or `tfbnn.Model` of one input and one output.
        x: Inputs `(rows, ...)`.
        answers: What the teacher says of them: `tfbnn.predict(teacher, x)`.
        uncertainty: How `model` is run, as in an exported file: `"moments"`, one pass of means and
            variances, which trains the standard deviations as well; `"none"`, the posterior mean
            alone.
        epochs: Passes over `x`.
        batch_size: Rows in a step.
        learning_rate: Of Adam at the start; it falls to zero along half a cosine.
        callbacks: Keras callbacks.
        verbose: As in Keras' `fit`.

    Returns:
        Keras' `History`, with `cross_entropy` and, for `"moments"`, `epistemic`, the second term.

    Raises:
        TypeError: If `answers` is no prediction of `tfbnn.predict`, or `model` is another posterior
            than the mean-field one.
        ValueError: If rows or shapes do not fit, an argument is out of range, or a layer of `model`
            has no moments.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    >>> answers = tfbnn.predict(model, x, num_samples=64, seed=0)
    >>> small = tfbnn.prune(model, sparsity=0.5)
    >>> history = tfbnn.distill(small, x, answers, epochs=2, verbose=0)
    >>> sorted(history.history)
    ['cross_entropy', 'epistemic']

    Reference:
        Balan et al. 2015, "Bayesian Dark Knowledge"; Hinton et al. 2015, "Distilling the Knowledge
        in a Neural Network".
    """
    arguments.one_of("uncertainty", uncertainty, _MODES)
    epochs, batch_size = (
        arguments.count("epochs", epochs),
        arguments.count("batch_size", batch_size),
    )
    learning_rate = arguments.positive("learning_rate", learning_rate)
    callbacks = arguments.listed("callbacks", callbacks, _checked_callback)
    verbose = arguments.verbosity("verbose", verbose)
    posterior = mean_field(model)
    x, targets = _checked(posterior, x, answers)
    trainer = _Distillation(posterior.model, posterior.likelihoods[0], uncertainty)
    steps = epochs * math.ceil(len(x) / batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    trainer.compile(keras.optimizers.Adam(rate))
    rows = fed(x, targets, batch_size=batch_size, shuffle=True)
    return trainer.fit(rows, epochs=epochs, callbacks=callbacks, verbose=verbose)


class _Distillation(keras.Model):
    """Trains the weights of `student`; Keras' loop, bars and callbacks around one step."""

    def __init__(self, student: keras.Model, likelihood: AbstractLikelihood, uncertainty: str):
        super().__init__()
        self.student = student
        self._likelihood = likelihood
        self._steps = steps_of(student) if uncertainty == "moments" else None
        if self._steps is not None:
            moments.check(
                self._steps, "Use `uncertainty='none'`, which runs every layer as Keras does."
            )
        names = ("cross_entropy", "epistemic") if uncertainty == "moments" else ("cross_entropy",)
        self._means = [keras.metrics.Mean(name=name) for name in names]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._means

    def train_step(self, data: Any) -> dict[str, Any]:
        x, (*targets, mask) = data
        with tf.GradientTape() as tape:
            terms = _terms(self._likelihood.kind, targets, self._answers(x))
            terms = [_mean_over_rows(term, mask) for term in terms[: len(self._means)]]
            loss = total(terms)
        variables = self.student.trainable_variables
        # The mean does not depend on the standard deviations.
        pairs = zip(tape.gradient(loss, variables), variables, strict=True)
        self.optimizer.apply_gradients([(g, v) for g, v in pairs if g is not None])
        for mean, term in zip(self._means, terms, strict=True):
            mean.update_state(term)
        return self.get_metrics_result()

    def _answers(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if self._steps is None:
            outputs = self.student(x, training=False)[tf.newaxis]
        else:
            weights = moments.current_weights
            outputs = moments.outputs_at_points(self._steps, x, weights, _NUM_POINTS)
        named = answer(self._likelihood, outputs)
        return tuple(named[name] for name in OUTPUTS[self._likelihood.kind])


def _terms(kind: str, targets: list[tf.Tensor], answers: tuple[tf.Tensor, ...]) -> list[tf.Tensor]:
    """The two terms of the loss, `(batch, ...)`."""
    if kind == "normal":
        mean, total, epistemic = targets
        other, other_total, other_epistemic = answers
        pairs = ((total, other_total), (epistemic, other_epistemic))
        return [_normal_cross_entropy(mean, a, other, b) for a, b in pairs]
    p, information = targets
    q, _, other_information = answers
    difference = tf.square(information - other_information)
    cross_entropy = -p * tf.math.log(q + _TINY)
    if kind == "bernoulli":
        cross_entropy -= (1 - p) * tf.math.log(1 - q + _TINY)
    return [cross_entropy, difference]


def _normal_cross_entropy(mean: Any, scale: Any, other: Any, other_scale: Any) -> tf.Tensor:
    """`- E[log(N(y; other, other_scale**2))]` for `y ~ N(mean, scale**2)`, in nats."""
    variance = tf.square(other_scale) + _TINY
    squares = (tf.square(mean - other) + tf.square(scale)) / variance
    return 0.5 * (squares + tf.math.log(2 * math.pi * variance))


def _mean_over_rows(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sum over all other axes that count, as the objective does, and mean over the batch."""
    return tf.reduce_mean(sum_events(values, [mask]))


def _checked(posterior: Any, x: Any, answers: Prediction) -> tuple[np.ndarray, tuple]:
    if not isinstance(answers, Prediction):
        raise TypeError(
            "`answers` must be what `tfbnn.predict(teacher, x)` gives. "
            f"Received: answers of type {type(answers).__name__}"
        )
    x = arguments.real_array("x", x)
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    check_arrays("x", x)
    names = OUTPUTS[posterior.likelihoods[0].kind]
    real_numbers = isinstance(answers, NormalPrediction)
    if real_numbers != (names[2] == "epistemic") or num_rows(x) != len(answers.prediction):
        raise ValueError(
            "`answers` must be of the same rows and the same kind (classes or real numbers) as the "
            f"model's. Received: {len(answers.prediction)} {type(answers).__name__}s for "
            f"{num_rows(x)} rows and a likelihood of kind {posterior.likelihoods[0].kind!r}"
        )
    # The entropy of classes is a function of their probabilities, and no target of its own.
    used = names if names[2] == "epistemic" else (names[0], names[2])
    mask = np.ones(len(x), bool) if answers.mask is None else answers.mask
    return x, (*(getattr(answers, name) for name in used), mask)


def _checked_callback(name: str, value: Any) -> keras.callbacks.Callback:
    return arguments.instance(name, value, keras.callbacks.Callback, "a Keras callback")
