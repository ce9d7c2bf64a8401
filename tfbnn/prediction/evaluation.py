"""Evaluation of the predictive distribution on labelled data, and temperature scaling."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfbnn import arguments
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.routes import posterior_of
from tfbnn.prediction import (
    calibration,
    diagrams,
    regression_scores,
    temperature,
    uncertainty,
)
from tfbnn.prediction.labelled import LabelledBlock, labelled_blocks
from tfbnn.prediction.predictive import num_networks


@dataclasses.dataclass(frozen=True)
class ClassEvaluation:
    """Scores of class predictions.

    Attributes:
        nll: Negative log of the predicted probability of each label, summed over the labels of an
            example, in nats per example: the `nll` of the objective, of the average over networks.
        error: Share of wrong labels.
        brier: Brier score, summed over classes, from 0 to 2, mean over labels.
        ece: Expected calibration error of the labels in 15 bins, as a share.
        mean_entropy: Mean entropy of the predictions in nats per label.
        num_samples: Number of networks.
        probabilities: Predicted probabilities `(labels, classes)`, of the labels that count.
        labels: Those labels, whole numbers `(labels,)`.
        weights: How many observations each counts as, `(labels,)`.
        num_rows: Number of examples.
    """

    nll: float
    error: float
    brier: float
    ece: float
    mean_entropy: float
    num_samples: int
    probabilities: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray = dataclasses.field(repr=False)
    weights: np.ndarray = dataclasses.field(repr=False)
    num_rows: int = dataclasses.field(repr=False)

    def reliability_diagram(self, path: Any = None, title: str | None = None) -> Any:
        """Confidence against accuracy, a matplotlib figure, saved to `path` if given.

        `title` says which rows it shows; their number by default.
        """
        return diagrams.reliability_diagram(
            self.probabilities, self.labels, path=path, weights=self.weights, title=title
        )

    def scores(self) -> dict[str, float]:
        """The scores without the data, for a table or a JSON file."""
        return _scores(self)


@dataclasses.dataclass(frozen=True)
class NormalEvaluation:
    """Scores of predictions of real numbers.

    Attributes:
        nll: Negative log of the mean density of each target, summed over the targets of an
            example, in nats per example: the `nll` of the objective, of the average over networks.
        rmse: Root mean squared error of the mean, in the unit of the targets.
        coverage: Share of targets in their central 95 % interval.
        mean_standard_deviation: Mean total standard deviation, in the unit of the targets.
        num_samples: Number of networks.
        num_rows: Number of examples.
    """

    nll: float
    rmse: float
    coverage: float
    mean_standard_deviation: float
    num_samples: int
    num_rows: int = dataclasses.field(repr=False)

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
    sample_weight: Any = None,
) -> Any:
    """Score the predictive distribution, the average over networks drawn from the posterior.

    With `p(y | x)` the mean over draws of `p(y | x, w)`, at the temperature of
    `tfbnn.calibrate` if there is one, for each label `y` of an example,

        nll = sum over labels of (weight * -log(p(y | x))) / rows

    in nats per example, summed over event axes, as the `nll` that `model.evaluate` reports at the
    posterior mean of the weights; without noise in the weights the two are equal, but for a
    temperature (which this has) and `loss_weights` (which that has). All other scores are weighted
    means over labels. Steps that a Keras mask leaves out have the weight 0.

    Args:
        model: As in `tfbnn.predict`; it must have one output.
        x: Inputs, as in `tfbnn.predict`; a `tf.data.Dataset` gives `(x, y)` or
            `(x, y, sample_weight)`.
        y: Targets `(rows, ...)`: labels, one-hot rows or real numbers, as in `fit`.
        num_samples: Number of networks.
        batch_size: Rows at a time, for arrays.
        seed: A whole number; the same seed gives the same networks.
        verbose: As in `tfbnn.predict`.
        sample_weight: How many observations a row, or each of its labels, counts as, `(rows,)` or
            `(rows, ...)`, as in `fit`; None: each counts once.

    Returns:
        A `ClassEvaluation` or a `NormalEvaluation`.

    Raises:
        ValueError: If targets are missing, out of range, or as many as the inputs are not, or no
            label counts.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> sorted(tfbnn.evaluate(model, np.eye(3), np.array([0, 1, 1])).scores())
    ['brier', 'ece', 'error', 'mean_entropy', 'nll', 'num_samples']
    """
    posterior = _with_one_output(model)
    num_samples = num_networks(posterior, arguments.count("num_samples", num_samples))
    blocks = labelled_blocks(posterior, x, y, sample_weight, num_samples, batch_size, seed, verbose)
    kind = posterior.likelihoods[0].kind
    evaluation = _evaluate_normal if kind == "normal" else _evaluate_classes
    return evaluation(blocks, num_samples)


def calibrate(
    model: Any,
    x: Any,
    y: Any = None,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    verbose: Any = "auto",
    sample_weight: Any = None,
    of: str = "best",
) -> temperature.Temperature:
    """Temperature scaling: soften or sharpen predictions by one number, chosen on held-out data.

    A temperature T of the draws divides the logits of each network before the mean over networks,
    one of the mean divides the logarithms of their mean probabilities `p`:

        draws:  p_T = mean(softmax(logits / T), axis=draws)
        mean:   p_T = p**(1 / T) / sum(p**(1 / T))

    and the same with two classes for yes or no. Both mend a model that is too sure. One that is
    too unsure because its draws disagree is mended by the temperature of the mean alone;
    `epistemic` and `aleatoric` are then those of the draws and do not add up to `uncertainty`.

    T minimises the `nll` of `tfbnn.evaluate`. It is kept with the model's likelihood, as
    `temperature` or `mean_temperature`: `tfbnn.predict`, `tfbnn.evaluate`, `.keras` files and
    exports use it from then on (of a plain Keras model the first two, until it is compiled again).
    Training and `model.evaluate` do not. Calling it again starts from 1.

    Warns (`UserWarning`) of a T outside of [1/3, 3], of fewer than 10 wrong answers in the held-out
    data, and of a standard error of `log(T)` above 0.2.

    Args:
        model: As in `tfbnn.predict`; it must predict classes.
        x: Inputs of data that the model was not trained on, nor will be tested on.
        y: Labels, as in `fit`.
        num_samples: Number of networks.
        batch_size: Rows at a time, for arrays.
        seed: A whole number; the same seed gives the same networks.
        verbose: As in `tfbnn.predict`.
        sample_weight: As in `tfbnn.evaluate`.
        of: `"draws"`, `"mean"`, or `"best"`: the one with the lower NLL; the draws, unless the
            difference is more than its standard error.

    Returns:
        The temperature: above 1 the model was overconfident, below 1 it was underconfident. It is a
        `float` that says `of` what it is (`"draws"` or `"mean"`), and the `standard_error` of its
        logarithm.

    Raises:
        ValueError: If the model does not predict classes, or no temperature fits.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((1,)), tfbnn.layers.DenseFlipout(1)])
    >>> model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    >>> _ = model.layers[0].kernel.loc_variable.assign([[2.0]])
    >>> x = np.repeat([[1.0], [-1.0]], 50, axis=0)
    >>> y = np.arange(100) % 50 < np.repeat([40, 10], 50)  # four in five are right
    >>> found = tfbnn.calibrate(model, x, y, seed=0)
    >>> round(found, 1), found.of, model.likelihood.temperature == found
    (1.4, 'draws', True)

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", sec. 4.2; for the mean of
        several networks Rahaman and Thiery 2021, "Uncertainty Quantification and Deep Ensembles".
    """
    arguments.one_of("of", of, ("best", *temperature.KINDS))
    posterior = _with_one_output(model)
    likelihood = posterior.likelihoods[0]
    if likelihood.kind == "normal":
        raise ValueError(
            "Temperature scaling is for classes; a regression learns its noise with "
            "`tfbnn.losses.NormalNLL`. Received: a model with a normal likelihood"
        )
    blocks = labelled_blocks(posterior, x, y, sample_weight, num_samples, batch_size, seed, verbose)
    *logits, labels, weights = _joined([_held_out(block) for block in blocks])
    candidates = {
        kind: calibration.examples_of(one.swapaxes(0, 1), labels, weights)
        for kind, one in zip(temperature.KINDS, logits, strict=True)
    }
    found = temperature.chosen(candidates, of)
    temperature.warn_if_doubtful(found, candidates["mean"].num_wrong())
    name = {"draws": "temperature", "mean": "mean_temperature"}[found.of]
    likelihood.take_temperatures(likelihood.at(**{name: float(found)}))
    return found


def _held_out(block: LabelledBlock) -> tuple[np.ndarray, ...]:
    """Logits of the draws and of their mean at T = 1, labels and weights, `(labels, ...)` each."""
    answer = dataclasses.replace(block.answer, likelihood=block.answer.likelihood.at())
    draws = answer.likelihood.logits(answer.outputs).numpy()
    mean = answer.likelihood.mean_logits(answer.mean).numpy()[np.newaxis]
    if answer.likelihood.kind == "bernoulli":
        draws, mean = draws[..., np.newaxis], mean[..., np.newaxis]
    # The labels first, as concatenation wants them.
    logits = (one[:, block.counted].swapaxes(0, 1) for one in (draws, mean))
    return (*logits, *_counted(block))


def _with_one_output(model: Any) -> AbstractPosterior:
    posterior = posterior_of(model)
    if len(posterior.likelihoods) != 1:
        raise ValueError(
            "Scores are for one output: use `tfbnn.predict` and `tfbnn.prediction.calibration` on "
            f"each. Received: a model with {len(posterior.likelihoods)} outputs"
        )
    return posterior


def _evaluate_classes(blocks: Iterable[LabelledBlock], num_samples: int) -> ClassEvaluation:
    nll, rows = 0.0, 0
    parts = []
    for block in blocks:
        probabilities = block.answer.prediction(keep_samples=False).prediction
        if block.answer.likelihood.kind == "bernoulli":
            probabilities = np.stack([1 - probabilities, probabilities], axis=-1)
        nll, rows = nll + block.nll(), rows + len(block.labels)
        parts.append((probabilities[block.counted], *_counted(block)))
    counted = _joined(parts)
    entropy = uncertainty.entropy(counted[0])
    return ClassEvaluation(
        nll=nll / rows,
        error=calibration.error(*counted),
        brier=calibration.brier_score(*counted),
        ece=calibration.expected_calibration_error(counted[0], counted[1], weights=counted[2]),
        mean_entropy=float(np.average(entropy, weights=counted[2])),
        num_samples=num_samples,
        probabilities=counted[0],
        labels=counted[1],
        weights=counted[2],
        num_rows=rows,
    )


def _evaluate_normal(blocks: Iterable[LabelledBlock], num_samples: int) -> NormalEvaluation:
    nll, rows = 0.0, 0
    parts = []
    for block in blocks:
        prediction = block.answer.prediction(keep_samples=True)
        nll, rows = nll + block.nll(), rows + len(block.labels)
        arrays = (*prediction.credible_interval(0.95), *prediction)
        parts.append((*(array[block.counted] for array in arrays), *_counted(block)))
    lower, upper, mean, deviation, targets, weights = _joined(parts)
    return NormalEvaluation(
        nll=nll / rows,
        rmse=regression_scores.root_mean_squared_error(mean, targets, weights),
        coverage=regression_scores.interval_coverage(lower, upper, targets, weights),
        mean_standard_deviation=float(np.average(deviation, weights=weights)),
        num_samples=num_samples,
        num_rows=rows,
    )


def _counted(block: LabelledBlock) -> tuple[np.ndarray, np.ndarray]:
    """The labels that count, and how much, `(labels,)` each."""
    return block.labels[block.counted], block.weights[block.counted]


def _joined(parts: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """The arrays of all blocks, each `(labels, ...)`."""
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    if not len(joined[-1]):
        raise ValueError(
            "No label counts, so there is nothing to score. Received: masks or sample weights that "
            "leave out every label"
        )
    return joined


def _scores(evaluation: Any) -> dict[str, float]:
    fields = dataclasses.fields(evaluation)
    return {f.name: getattr(evaluation, f.name) for f in fields if f.repr}
