"""Classes: labels that have probabilities."""

import abc
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.class_results import ClassEvaluation, ClassPrediction
from tfbnn.likelihoods.results import Prediction, float32
from tfbnn.lite_rules import ClassSet
from tfbnn.scores import class_uncertainty

# Under the logarithm of a probability in float32.
SMALLEST = 1e-37
# The smallest normal float32, under the logarithm of a probability.
_TINY = 1.2e-38
# Under that of one whose gradient must be finite, too.
UNLIKELY = 1e-12


class AbstractClasses(AbstractLikelihood):
    """Labels that have probabilities, which are a function of logits."""

    prediction_type = ClassPrediction
    evaluation_type = ClassEvaluation
    region_type = ClassSet
    # What has a probability, in words.
    each: str

    def __init__(self, loss: keras.losses.Loss):
        super().__init__(loss)
        self.from_logits = loss.get_config()["from_logits"]

    @staticmethod
    @abc.abstractmethod
    def probabilities(logits: tf.Tensor) -> tf.Tensor:
        """Probabilities of logits."""

    @staticmethod
    @abc.abstractmethod
    def logits_of(probabilities: tf.Tensor) -> tf.Tensor:
        """Logits of probabilities, finite."""

    @staticmethod
    @abc.abstractmethod
    def categories(probabilities: Any) -> tf.Tensor:
        """Probabilities of everything that a label may be, on the last axis."""

    @staticmethod
    @abc.abstractmethod
    def covariance(probabilities: tf.Tensor) -> tf.Tensor:
        """Covariance of one label, as 0 and 1 for each output, `(..., outputs, outputs)`."""

    @staticmethod
    @abc.abstractmethod
    def inverse_covariance(probabilities: tf.Tensor) -> tf.Tensor:
        """What curves the log likelihood in probabilities, in the same shape."""

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        return (outputs if self.from_logits else self.logits_of(outputs)) / self.temperature

    def tempered(self, outputs: tf.Tensor) -> tf.Tensor:
        if self.temperature == 1.0:
            return tf.cast(outputs, tf.float32)
        logits = self.logits(outputs)
        return logits if self.from_logits else self.probabilities(logits)

    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outputs = self.tempered(outputs)
        return (self.probabilities(outputs) if self.from_logits else outputs,)

    @property
    def tempers_mean(self) -> bool:
        return self.mean_temperature != 1.0

    def curvature(self, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        if self.from_logits:
            return self.covariance(self.probabilities(outputs))
        return self.inverse_covariance(outputs)

    def in_common(self) -> Self:
        return type(self)(self.loss.from_config({**self.loss.get_config(), "from_logits": True}))

    def outputs_in_common(self, outputs: tf.Tensor) -> tf.Tensor:
        return self.logits(outputs)

    def mean_logits(self, mean: tf.Tensor) -> tf.Tensor:
        """Logits of mean probabilities, divided by the temperature of the mean."""
        return self.logits_of(mean) / self.mean_temperature

    def tempered_mean(self, mean: tf.Tensor) -> tf.Tensor:
        return self.probabilities(self.mean_logits(mean)) if self.tempers_mean else mean

    def log_prob_of_mean(self, targets: Any, mean: tf.Tensor) -> tf.Tensor:
        """`log_prob` of the prediction that is made of mean probabilities."""
        logits = self.mean_logits(mean)
        return self.log_prob(targets, logits if self.from_logits else self.probabilities(logits))

    def blind_guess(self, outputs: tf.Tensor) -> tf.Tensor:
        logits = tf.zeros_like(outputs)
        return logits if self.from_logits else self.probabilities(logits)

    @property
    def meanings(self) -> dict[str, str]:
        tempers = self.tempers_mean
        return {
            "prediction": f"mean probability of {self.each}{', tempered' * tempers}",
            "uncertainty": f"{'entropy of the tempered mean' if tempers else 'predictive entropy'}"
            ", nats",
            "mutual_information": "mutual information of label and weights, nats"
            f"{', before the mean was tempered' * tempers}",
        }

    @property
    def answer_names(self) -> tuple[str, ...]:
        # Where the mean is tempered, the entropies do not add up.
        return (*self.meanings, *["expected_entropy"] * self.tempers_mean)

    def answer(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        (probabilities,) = self.parameters(outputs)
        mean = tf.reduce_mean(probabilities, axis=0)
        uncertainty = expected = self._entropy(mean)
        information = tf.zeros_like(expected)
        if outputs.shape[0] != 1:
            expected = tf.reduce_mean(self._entropy(probabilities), axis=0)
            # Not below zero, which rounding can give.
            information = tf.nn.relu(uncertainty - expected)
        if self.tempers_mean:
            mean = self.tempered_mean(mean)
            uncertainty = self._entropy(mean)
        values = (mean, uncertainty, information, expected)
        return dict(zip(self.answer_names, values, strict=False))

    def _entropy(self, probabilities: tf.Tensor) -> tf.Tensor:
        shares = self.categories(probabilities)
        return -tf.reduce_sum(shares * tf.math.log(tf.maximum(shares, _TINY)), axis=-1)

    def prediction(
        self, parameters: tuple[np.ndarray, ...], keep_samples: bool, mask: Any = None
    ) -> ClassPrediction:
        (probabilities,) = parameters
        shares = np.asarray(self.categories(probabilities))
        mean = float32(probabilities.mean(axis=0, dtype=np.float64))
        uncertainty = class_uncertainty.predictive_entropy(shares)
        if self.tempers_mean:
            mean = self.tempered_mean(mean).numpy()
            uncertainty = class_uncertainty.entropy(np.asarray(self.categories(mean)))
        return ClassPrediction(
            prediction=mean,
            uncertainty=float32(uncertainty),
            num_samples=len(probabilities),
            samples=parameters if keep_samples else None,
            mask=mask,
            expected_entropy=float32(class_uncertainty.expected_entropy(shares)),
            mutual_information=float32(class_uncertainty.mutual_information(shares)),
            variation_ratio=float32(class_uncertainty.variation_ratio(shares)),
            variance=float32(probabilities.var(axis=0, dtype=np.float64)),
            mean_temperature=self.mean_temperature,
        )

    def judged(self, prediction: Prediction, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        return (np.reshape(self.categories(prediction.prediction), (*shape, -1)),)

    @classmethod
    def mistakes(
        cls, prediction: np.ndarray, labels: np.ndarray, tolerance: float | None
    ) -> np.ndarray:
        if tolerance is not None:
            raise ValueError(
                "A class is right or wrong: `tolerance` is for real numbers. "
                f"Received: tolerance={tolerance}"
            )
        shares = np.asarray(cls.categories(prediction))
        return shares.argmax(axis=-1).reshape(labels.shape) != labels

    def difference(self, prediction: np.ndarray, other: Prediction) -> np.ndarray:
        distance = self.categories(prediction) - self.categories(other.prediction)
        return 0.5 * np.abs(distance).sum(axis=-1)

    def distances(
        self, targets: Sequence[tf.Tensor], answers: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # The entropy of classes is a function of their probabilities, and no target of its own.
        (p, _, information), (q, _, other_information) = targets, answers
        cross_entropy = -self.categories(p) * tf.math.log(self.categories(q) + UNLIKELY)
        return cross_entropy, tf.square(information - other_information)
