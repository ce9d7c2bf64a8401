"""`tfbnn.distill`: teach a network what a posterior predicts and how sure it is, without labels."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.steps import steps_of
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.results import Prediction
from tfbnn.likelihoods.targets import sum_events
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.routes import model_of, posterior_of
from tfbnn.prediction import moments
from tfbnn.prediction.sampling import num_rows
from tfbnn.training.data import check_arrays
from tfbnn.training.feeding import fed
from tfbnn.weights.sums import total

_MODES = ("moments", "none")
# At so few points the mean of a softmax is right to 1e-3, which is enough for a gradient.
_NUM_POINTS = 32


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
        TypeError: If `answers` is no prediction of `tfbnn.predict`, or `model` is a posterior
            without the law of each weight (`"moments"`) or without a mean (`"none"`).
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
    epochs = arguments.count("epochs", epochs)
    batch_size = arguments.count("batch_size", batch_size)
    learning_rate = arguments.positive("learning_rate", learning_rate)
    callbacks = arguments.listed("callbacks", callbacks, _checked_callback)
    verbose = arguments.verbosity("verbose", verbose)
    posterior = posterior_of(model)
    x, targets = _checked(posterior, x, answers)
    student = _student(model, posterior, uncertainty)
    trainer = _Distillation(student, posterior.likelihoods[0], uncertainty)
    steps = epochs * math.ceil(len(x) / batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    trainer.compile(keras.optimizers.Adam(rate))
    rows = fed(x, targets, batch_size=batch_size, shuffle=True)
    return trainer.fit(rows, epochs=epochs, callbacks=callbacks, verbose=verbose)


def _student(model: Any, posterior: AbstractPosterior, uncertainty: str) -> keras.Model:
    """The model whose variables are trained."""
    if uncertainty == "moments":
        student = model_of(model, "Distillation by `uncertainty='moments'`")
    elif posterior.mean() is not None:
        student = posterior.as_model()
    else:
        student = None
    # What is taught is what the posterior predicts with, or it would learn nothing.
    if student is not posterior.model:
        raise TypeError(
            "The posterior has no network at a mean that could be taught in place: give a model, "
            "of laws of weights `posterior.as_model()`. "
            f"Received: a posterior of type {type(posterior).__name__}"
        )
    return student


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
            terms = self._likelihood.distances(targets, self._answers(x))
            # Over all other axes that count the sum, as in the objective.
            terms = [tf.reduce_mean(sum_events(t, [mask])) for t in terms[: len(self._means)]]
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
        named = self._likelihood.answer(outputs)
        return tuple(named[name] for name in self._likelihood.meanings)


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
    likelihood = posterior.likelihoods[0]
    same_kind = isinstance(answers, likelihood.prediction_type)
    if not same_kind or num_rows(x) != len(answers.prediction):
        raise ValueError(
            "`answers` must be of the same rows and the same kind, such as classes, as "
            "the model's. "
            f"Received: {len(answers.prediction)} {type(answers).__name__}s for "
            f"{num_rows(x)} rows and a likelihood of kind {likelihood.name!r}"
        )
    mask = np.ones(len(x), bool) if answers.mask is None else answers.mask
    return x, (*(getattr(answers, name) for name in likelihood.meanings), mask)


def _checked_callback(name: str, value: Any) -> keras.callbacks.Callback:
    return arguments.instance(name, value, keras.callbacks.Callback, "a Keras callback")
