"""Real numbers: targets that have a mean and a standard deviation."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.results import Evaluation, Prediction, float32
from tfbnn.lite_rules import Interval
from tfbnn.scores import number_scores, number_uncertainty
from tfbnn.scores.arrays import as_shape

# Under the logarithm of a variance, and under a standard deviation.
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class NumberPrediction(Prediction):
    """Prediction of real numbers. `prediction`: mean; `uncertainty`: total standard deviation;
    both `(rows, ..., targets)` in the unit of the targets.

    Attributes:
        epistemic: Standard deviation of the mean over draws: what more data would remove.
        aleatoric: Standard deviation of the noise in the targets. The squares of the two add up
            to the square of `uncertainty`.
    """

    epistemic: np.ndarray = dataclasses.field(repr=False)
    aleatoric: np.ndarray = dataclasses.field(repr=False)

    @property
    def variance(self) -> np.ndarray:
        """Total variance, the square of `uncertainty`."""
        return np.square(self.uncertainty)


@dataclasses.dataclass(frozen=True)
class NumberEvaluation(Evaluation):
    """Scores of predictions of real numbers.

    Attributes:
        nll: Negative log of the mean density, or probability, of each target, summed over the
            targets of an example, in nats per example: the `nll` of the objective, of the average
            over networks.
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

    @classmethod
    def of(
        cls, judged: Sequence[np.ndarray], labels: np.ndarray, weights: np.ndarray, **counts: Any
    ) -> Self:
        lower, upper, mean, deviation = judged
        return cls(
            rmse=number_scores.root_mean_squared_error(mean, labels, weights),
            coverage=number_scores.interval_coverage(lower, upper, labels, weights),
            mean_standard_deviation=float(np.average(deviation, weights=weights)),
            **counts,
        )


class AbstractRealNumbers(AbstractLikelihood):
    """A law of real numbers that has a mean and a standard deviation."""

    prediction_type: type[NumberPrediction]
    evaluation_type = NumberEvaluation
    region_type = Interval

    @abc.abstractmethod
    def mean_and_deviation(self, *parameters: Any) -> tuple[Any, Any]:
        """Mean and standard deviation of the law with these `parameters`."""

    @property
    def meanings(self) -> dict[str, str]:
        return {
            "prediction": "mean of the target",
            "uncertainty": "total standard deviation, in the unit of the target",
            "epistemic": "standard deviation of the mean",
        }

    def answer(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        loc, scale = self.mean_and_deviation(*self.parameters(outputs))
        mean = tf.reduce_mean(loc, axis=0)
        if outputs.shape[0] == 1:
            return dict(zip(self.meanings, (mean, scale[0], tf.zeros_like(mean)), strict=True))
        # Not a squared difference, of which LiteRT makes one operation: that of 8 bits ends the
        # process where draws that differ little have a variance that is small beside their means.
        epistemic = tf.reduce_mean(tf.square(tf.abs(loc - mean)), axis=0)
        total = tf.sqrt(epistemic + tf.reduce_mean(tf.square(scale), axis=0))
        return dict(zip(self.meanings, (mean, total, tf.sqrt(epistemic)), strict=True))

    def prediction(
        self, parameters: tuple[np.ndarray, ...], keep_samples: bool, mask: Any = None
    ) -> NumberPrediction:
        loc, scale = map(np.asarray, self.mean_and_deviation(*parameters))
        return self.prediction_type(
            prediction=float32(loc.mean(axis=0, dtype=np.float64)),
            uncertainty=float32(number_uncertainty.total_standard_deviation(loc, scale)),
            num_samples=len(loc),
            samples=parameters if keep_samples else None,
            mask=mask,
            epistemic=float32(np.sqrt(number_uncertainty.epistemic_variance(loc))),
            aleatoric=float32(np.sqrt(number_uncertainty.aleatoric_variance(loc, scale))),
        )

    def labels(
        self, targets: np.ndarray, outputs_shape: tuple[int, ...], counted: np.ndarray
    ) -> np.ndarray:
        labels = as_shape("targets", targets, self.targets_shape(outputs_shape))
        self.require_possible(tf.convert_to_tensor(labels), outputs_shape, counted)
        return labels

    def judged(self, prediction: Prediction, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        del shape
        return (*prediction.credible_interval(0.95), *prediction)

    @classmethod
    def mistakes(
        cls, prediction: np.ndarray, labels: np.ndarray, tolerance: float | None
    ) -> np.ndarray:
        if tolerance is None:
            raise ValueError(
                "A prediction of a real number is wrong if it is off by more than a tolerance, in "
                "the unit of the targets: pass `tolerance=`. Received: tolerance=None"
            )
        return np.abs(prediction - labels) > tolerance

    def difference(self, prediction: np.ndarray, other: Prediction) -> np.ndarray:
        return np.abs(prediction - other.prediction) / np.maximum(other.uncertainty, _TINY)

    def distances(
        self, targets: Sequence[tf.Tensor], answers: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        mean, total, epistemic = targets
        other, other_total, other_epistemic = answers
        return (
            normal_cross_entropy(mean, total, other, other_total),
            normal_cross_entropy(mean, epistemic, other, other_epistemic),
        )


def normal_cross_entropy(mean: Any, scale: Any, other: Any, other_scale: Any) -> tf.Tensor:
    """`- E[log(N(y; other, other_scale**2))]` for `y ~ N(mean, scale**2)`, in nats."""
    variance = tf.square(other_scale) + _TINY
    squares = (tf.square(mean - other) + tf.square(scale)) / variance
    return 0.5 * (squares + tf.math.log(2 * math.pi * variance))
