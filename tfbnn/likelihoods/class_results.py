"""What comes out for classes."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from tfbnn.likelihoods.results import Evaluation, Prediction
from tfbnn.scores import class_scores, class_uncertainty, diagrams, number_uncertainty


@dataclasses.dataclass(frozen=True)
class ClassPrediction(Prediction):
    """Prediction of classes. `prediction`: mean probabilities `(rows, ..., classes)`, or
    `(rows, 1)` for yes or no; `uncertainty`: predictive entropy in nats `(rows, ...)`.

    Attributes:
        expected_entropy: Aleatoric part of the uncertainty, in nats, `(rows, ...)`.
        mutual_information: Epistemic part of the uncertainty, in nats, `(rows, ...)`.
        variation_ratio: Share of the draws that vote against the majority, `(rows, ...)`.
        variance: Variance of the probabilities over draws, in the shape of `prediction`.
        mean_temperature: The temperature of the mean that `tfbnn.calibrate` chose. Other than 1,
            `prediction` and `uncertainty` are of the tempered mean, `p**(1 / T) / sum(p**(1 / T))`
            of the mean `p` over draws, and all else is of the draws before that: their difference
            of entropies stays the mutual information, and the two parts add up to the entropy of
            `p`, not to `uncertainty`.
    """

    expected_entropy: np.ndarray = dataclasses.field(repr=False)
    mutual_information: np.ndarray = dataclasses.field(repr=False)
    variation_ratio: np.ndarray = dataclasses.field(repr=False)
    variance: np.ndarray = dataclasses.field(repr=False)
    mean_temperature: float = dataclasses.field(default=1.0, repr=False, kw_only=True)

    @property
    def predictive_entropy(self) -> np.ndarray:
        """The uncertainty by its name: entropy of `prediction`, in nats."""
        return self.uncertainty

    @property
    def epistemic(self) -> np.ndarray:
        """What more data would remove: `mutual_information`, in nats."""
        return self.mutual_information

    @property
    def aleatoric(self) -> np.ndarray:
        """What more data would not remove: `expected_entropy`, in nats.

        The two add up to `uncertainty`, but for a `mean_temperature` other than 1.
        """
        return self.expected_entropy

    def quantile(self, q: float) -> np.ndarray:
        """Quantile over the draws of each probability, in the shape of `prediction`."""
        return number_uncertainty.sample_quantile(self._kept_samples()[0], q)


@dataclasses.dataclass(frozen=True)
class ClassEvaluation(Evaluation):
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

    @classmethod
    def of(
        cls, judged: Sequence[np.ndarray], labels: np.ndarray, weights: np.ndarray, **counts: Any
    ) -> Self:
        (probabilities,) = judged
        said = probabilities, labels, weights
        entropy = class_uncertainty.entropy(probabilities)
        return cls(
            error=class_scores.error(*said),
            brier=class_scores.brier_score(*said),
            ece=class_scores.expected_calibration_error(probabilities, labels, weights=weights),
            mean_entropy=float(np.average(entropy, weights=weights)),
            probabilities=probabilities,
            labels=labels,
            weights=weights,
            **counts,
        )

    def reliability_diagram(self, path: Any = None, title: str | None = None) -> Any:
        """Confidence against accuracy, a matplotlib figure, saved to `path` if given.

        `title` says which rows it shows; their number by default.
        """
        return diagrams.reliability_diagram(
            self.probabilities, self.labels, path=path, weights=self.weights, title=title
        )
