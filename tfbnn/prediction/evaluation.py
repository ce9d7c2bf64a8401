"""Evaluation of the predictive distribution on labelled data, and temperature scaling."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.variational import posterior_of
from tfbnn.prediction import calibration, diagrams, regression_scores, uncertainty
from tfbnn.prediction.predictive import num_rows, predict, sampled_blocks
from tfbnn.prediction.summaries import Prediction
from tfbnn.training.likelihoods import AbstractLikelihood


@dataclasses.dataclass(frozen=True)
class ClassEvaluation:
    """Scores of class predictions.

    Attributes:
        nll: Negative log of the mean probability of the true class, nats per label.
        error: Share of wrong labels.
        brier: Brier score, summed over classes, from 0 to 2.
        ece: Expected calibration error in 15 bins, as a share.
        mean_entropy: Mean predictive entropy in nats.
        num_samples: Number of networks.
    """

    nll: float
    error: float
    brier: float
    ece: float
    mean_entropy: float
    num_samples: int
    probabilities: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray = dataclasses.field(repr=False)

    def reliability_diagram(self, path: Any = None, title: str | None = None) -> Any:
        """Confidence against accuracy, a matplotlib figure, saved to `path` if given.

        `title` says which rows it shows; their number by default.
        """
        return diagrams.reliability_diagram(self.probabilities, self.labels, path=path, title=title)

    def scores(self) -> dict[str, float]:
        """The scores without the data, for a table or a JSON file."""
        return _scores(self)


@dataclasses.dataclass(frozen=True)
class NormalEvaluation:
    """Scores of predictions of real numbers.

    Attributes:
        nll: Negative log of the mean density of the targets, nats per example.
        rmse: Root mean squared error of the mean, in the unit of the targets.
        coverage: Share of targets in their central 95 % interval.
        mean_standard_deviation: Mean total standard deviation, in the unit of the targets.
        num_samples: Number of networks.
    """

    nll: float
    rmse: float
    coverage: float
    mean_standard_deviation: float
    num_samples: int

    def scores(self) -> dict[str, float]:
        """The scores, for a table or a JSON file."""
        return _scores(self)


def evaluate(
    model: Any,
    x: Any,
    y: Any = None,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    verbose: Any = "auto",
) -> Any:
    """Score the predictive distribution, `-log(mean over draws of p(y | x, w))`, and the rest.

    `model.evaluate` reports the NLL at the posterior mean of the weights; this is the NLL of the
    average over `num_samples` networks.

    Args:
        model: As in `tfbnn.predict`; it must have one output.
        x: Inputs, as in `tfbnn.predict`; a `tf.data.Dataset` holds the targets too.
        y: Targets `(rows, ...)`: labels, one-hot rows or real numbers, as in `fit`.
        num_samples: Number of networks.
        batch_size: Rows at a time, for arrays.
        seed: A whole number; the same seed gives the same networks.
        verbose: As in `tfbnn.predict`.

    Returns:
        A `ClassEvaluation` or a `NormalEvaluation`.

    Raises:
        ValueError: If targets are missing, out of range, or as many as the inputs are not.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> sorted(tfbnn.evaluate(model, np.eye(3), np.array([0, 1, 1])).scores())
    ['brier', 'ece', 'error', 'mean_entropy', 'nll', 'num_samples']
    """
    posterior = _with_one_output(model)
    x, targets = _labelled(x, y)
    likelihood = posterior.likelihoods[0]
    keep = likelihood.kind == "normal"
    prediction = predict(posterior, x, num_samples, batch_size, seed, keep, verbose)
    y = np.concatenate(targets)
    if keep:
        return _evaluate_normal(prediction, y)
    return _evaluate_classes(likelihood, prediction, y)


def calibrate(
    model: Any,
    x: Any,
    y: Any = None,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    verbose: Any = "auto",
) -> float:
    """Temperature scaling: divide all logits by one number, chosen on held-out data.

    The temperature minimises `-log(mean over draws of p(y | logits / temperature))`. It is kept
    with the model's likelihood: `tfbnn.predict`, `tfbnn.evaluate`, `.keras` files and exports use
    it from then on. Training and `model.evaluate` do not. Calling it again starts from 1.

    Args:
        model: As in `tfbnn.predict`; it must predict classes.
        x: Inputs of data that the model was not trained on, nor will be tested on.
        y: Labels, as in `fit`.
        num_samples: Number of networks.
        batch_size: Rows at a time, for arrays.
        seed: A whole number; the same seed gives the same networks.
        verbose: As in `tfbnn.predict`.

    Returns:
        The temperature: above 1 the model was overconfident, below 1 it was underconfident.

    Raises:
        ValueError: If the model does not predict classes, or no temperature fits.

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", sec. 4.2.
    """
    posterior = _with_one_output(model)
    likelihood = posterior.likelihoods[0]
    if likelihood.kind == "normal":
        raise ValueError(
            "Temperature scaling is for classes; a regression learns its noise with "
            "`tfbnn.losses.NormalNLL`. Received: a model with a normal likelihood"
        )
    x, targets = _labelled(x, y)
    before, likelihood.temperature = likelihood.temperature, 1.0
    try:
        blocks = sampled_blocks(posterior, x, num_samples, batch_size, seed, verbose, outputs=True)
        outputs = np.concatenate([block[0][0] for block in blocks], axis=1)
        logits = likelihood.logits(outputs).numpy()
        labels = _labels(likelihood, np.concatenate(targets), logits.shape[1:])
        if likelihood.kind == "bernoulli":
            logits = logits[..., np.newaxis]
        temperature = calibration.fit_temperature(logits, labels)
    except BaseException:
        likelihood.temperature = before
        raise
    likelihood.temperature = temperature
    return temperature


def _with_one_output(model: Any) -> AbstractPosterior:
    posterior = posterior_of(model)
    if len(posterior.likelihoods) != 1:
        raise ValueError(
            "Scores are for one output: use `tfbnn.predict` and `tfbnn.prediction.calibration` on "
            f"each. Received: a model with {len(posterior.likelihoods)} outputs"
        )
    return posterior


def _labelled(x: Any, y: Any) -> tuple[Any, list[np.ndarray]]:
    """Inputs for `predict`, and a list of targets, which is full once the inputs are used up.

    A data set is read once: one that is shuffled gives another order each time.
    """
    if isinstance(x, tf.data.Dataset):
        if y is not None:
            raise ValueError("With a `tf.data.Dataset` the targets come from it. Received: y")
        if int(x.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`x` never ends: use `.take(...)`. Received: an infinite data set")
        targets: list[np.ndarray] = []
        return _recorded(x, targets), targets
    if y is None:
        raise ValueError("There are no targets to score against. Received: y=None")
    y, rows = np.asarray(y), num_rows(x)
    if y.shape[:1] != (rows,):
        raise ValueError(
            "`x` and `y` must have the same number of rows. "
            f"Received: {rows} rows of x, y of shape {y.shape}"
        )
    return x, [y]


def _recorded(dataset: tf.data.Dataset, targets: list[np.ndarray]) -> Iterator[Any]:
    for element in dataset:
        if not isinstance(element, tuple) or len(element) < 2:
            raise ValueError("The data set has no targets: it must give `(x, y)` batches.")
        targets.append(element[1].numpy())
        yield element


def _labels(
    likelihood: AbstractLikelihood, y: np.ndarray, outputs_shape: tuple[int, ...]
) -> np.ndarray:
    """Targets as whole numbers: of the class, or 0 and 1 for each yes or no."""
    if likelihood.kind == "categorical" and likelihood.sparse:
        return y
    flat = likelihood.kind == "bernoulli" and outputs_shape[-1] == 1
    if y.shape != outputs_shape and not (flat and y.shape == outputs_shape[:-1]):
        raise ValueError(
            f"With this loss the targets must have the shape of the outputs, {outputs_shape}. "
            f"Received: y of shape {y.shape}"
        )
    if likelihood.kind == "bernoulli":
        return y.reshape(outputs_shape)
    if not (((y == 0) | (y == 1)).all() and (y.sum(axis=-1) == 1).all()):
        raise ValueError(
            "Only one-hot rows, a single 1 among zeros, can be scored. Received: other targets"
        )
    return y.argmax(axis=-1)


def _evaluate_classes(
    likelihood: AbstractLikelihood, prediction: Prediction, y: np.ndarray
) -> ClassEvaluation:
    probabilities = prediction.prediction
    labels = _labels(likelihood, y, probabilities.shape)
    if likelihood.kind == "bernoulli":
        probabilities = np.stack([1 - probabilities, probabilities], axis=-1)
    return ClassEvaluation(
        nll=calibration.negative_log_likelihood(probabilities, labels),
        error=calibration.error(probabilities, labels),
        brier=calibration.brier_score(probabilities, labels),
        ece=calibration.expected_calibration_error(probabilities, labels),
        mean_entropy=float(uncertainty.entropy(probabilities).mean()),
        num_samples=prediction.num_samples,
        probabilities=probabilities,
        labels=labels,
    )


def _evaluate_normal(prediction: Prediction, y: np.ndarray) -> NormalEvaluation:
    loc, scale = prediction.samples
    # Coverage is the costlier score: wrong targets show first.
    nll = regression_scores.normal_negative_log_likelihood(loc, scale, y)
    lower, upper = prediction.credible_interval(0.95)
    return NormalEvaluation(
        nll=nll,
        rmse=regression_scores.root_mean_squared_error(prediction.prediction, y),
        coverage=regression_scores.interval_coverage(lower, upper, y),
        mean_standard_deviation=float(prediction.uncertainty.mean()),
        num_samples=prediction.num_samples,
    )


def _scores(evaluation: Any) -> dict[str, float]:
    fields = dataclasses.fields(evaluation)
    return {f.name: getattr(evaluation, f.name) for f in fields if f.repr}
