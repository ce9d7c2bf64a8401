"""Classes, and yes or no: labels that have probabilities."""

import abc
import math
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.class_results import ClassEvaluation, ClassPrediction
from tfbnn.likelihoods.results import Prediction, float32
from tfbnn.likelihoods.targets import from_one_hot, in_shape, matched, value_range
from tfbnn.requirements import require
from tfbnn.scores import class_uncertainty
from tfbnn.scores.arrays import whole_labels

# Under the logarithm of a probability in float32.
_SMALLEST = 1e-37
# Where a probability is rounded to 1, what is left of it is less than half a step of float32.
_SMALLEST_COMPLEMENT = 2.0**-25

# By how much the sum of shares may differ from 1: three digits, or what float16 leaves of ten.
_ROUNDING = 5e-3
# The smallest normal float32, under the logarithm of a probability.
_TINY = 1.2e-38
# Under that of one whose gradient must be finite, too.
_UNLIKELY = 1e-12


class AbstractClasses(AbstractLikelihood):
    """Labels that have probabilities, which are a function of logits."""

    prediction_type = ClassPrediction
    evaluation_type = ClassEvaluation
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

    def difference(self, prediction: np.ndarray, other: Prediction) -> np.ndarray:
        distance = self.categories(prediction) - self.categories(other.prediction)
        return 0.5 * np.abs(distance).sum(axis=-1)

    def distances(
        self, targets: Sequence[tf.Tensor], answers: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # The entropy of classes is a function of their probabilities, and no target of its own.
        (p, _, information), (q, _, other_information) = targets, answers
        cross_entropy = -self.categories(p) * tf.math.log(self.categories(q) + _UNLIKELY)
        return cross_entropy, tf.square(information - other_information)


class Categorical(AbstractClasses):
    """One of several classes. `parameters`: probabilities `(..., classes)`."""

    name = "categorical"
    usage = "for classes `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`"
    each = "each class"
    probabilities = staticmethod(tf.nn.softmax)

    def __init__(self, loss: keras.losses.Loss):
        super().__init__(loss)
        self.sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)

    @staticmethod
    def logits_of(probabilities: tf.Tensor) -> tf.Tensor:
        return tf.math.log(tf.maximum(probabilities, _SMALLEST))

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        targets = matched(targets, self.targets_shape(outputs.shape))
        if not self.sparse:
            targets = tf.cast(targets, tf.float32)
            return -keras.ops.categorical_crossentropy(
                targets, outputs, from_logits=self.from_logits
            )
        targets = tf.cast(targets, tf.int32)
        return -keras.ops.sparse_categorical_crossentropy(
            targets, outputs, from_logits=self.from_logits
        )

    @staticmethod
    def categories(probabilities: Any) -> tf.Tensor:
        return probabilities

    @staticmethod
    def covariance(probabilities: tf.Tensor) -> tf.Tensor:
        column = probabilities[..., tf.newaxis]
        return tf.linalg.diag(probabilities) - column * probabilities[..., tf.newaxis, :]

    @staticmethod
    def inverse_covariance(probabilities: tf.Tensor) -> tf.Tensor:
        return tf.linalg.diag(1.0 / tf.maximum(probabilities, _UNLIKELY))

    def sample(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        classes = outputs.shape[-1]
        logits = outputs if self.from_logits else self.logits_of(outputs)
        flat = tf.reshape(logits, (-1, classes))
        drawn = tf.random.stateless_categorical(flat, 1, seed, dtype=tf.int32)
        labels = tf.reshape(drawn, tf.shape(outputs)[:-1])
        labels = tf.ensure_shape(labels, outputs.shape[:-1])
        return labels if self.sparse else tf.one_hot(labels, classes)

    def num_classes(self, outputs_shape: Sequence[int | None]) -> int | None:
        return outputs_shape[-1]

    def nll_in_words(self, nll: float) -> str:
        return (
            f" The right answer gets a probability of exp(-NLL) = {math.exp(-nll):.3g}, as a "
            "geometric mean."
        )

    def labels(
        self, targets: np.ndarray, outputs_shape: tuple[int, ...], counted: np.ndarray
    ) -> np.ndarray:
        if not self.sparse:
            targets = from_one_hot(in_shape(targets, outputs_shape), counted)
        return whole_labels(targets, outputs_shape)

    def targets_shape(self, outputs_shape: Any) -> Any:
        return outputs_shape[:-1] if self.sparse else outputs_shape

    def targets_like(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs[..., 0] if self.sparse else outputs

    def log_prob_like(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs[..., 0]

    def require_possible(
        self, targets: tf.Tensor, outputs_shape: Any, counts: tf.Tensor | None = None
    ) -> list[tf.Operation]:
        # Whole numbers up to 2**53.
        targets = tf.cast(targets, tf.float64)
        classes = outputs_shape[-1]
        if self.sparse:
            return require(
                (targets >= 0) & (targets < classes) & tf.equal(targets, tf.round(targets)),
                f"Labels must be whole numbers from 0 to {classes - 1}, as the network has "
                f"{classes} outputs. Received: labels from",
                *value_range(targets),
            )
        sums = tf.reduce_sum(targets, axis=-1)
        whole = tf.abs(sums - 1) <= _ROUNDING
        return require(
            tf.reduce_all(targets >= 0, axis=-1) & (whole if counts is None else whole | ~counts),
            "One-hot targets must be shares of each class, not negative, that sum to 1. "
            "Received: targets from",
            *value_range(targets),
            "with sums from",
            *value_range(sums),
        )


class Bernoulli(AbstractClasses):
    """Yes or no, for each output on its own. `parameters`: probabilities `(..., outputs)`."""

    name = "bernoulli"
    usage = "for yes or no `keras.losses.BinaryCrossentropy(from_logits=True)`"
    each = "yes"
    probabilities = staticmethod(tf.nn.sigmoid)

    @staticmethod
    def logits_of(probabilities: tf.Tensor) -> tf.Tensor:
        no = tf.maximum(1.0 - probabilities, _SMALLEST_COMPLEMENT)
        return tf.math.log(tf.maximum(probabilities, _SMALLEST)) - tf.math.log(no)

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        targets = tf.cast(matched(targets, outputs.shape), tf.float32)
        return -keras.ops.binary_crossentropy(targets, outputs, from_logits=self.from_logits)

    @staticmethod
    def categories(probabilities: Any) -> tf.Tensor:
        if probabilities.shape[-1] == 1:
            # One question has one answer, without an axis for it.
            return tf.concat([1.0 - probabilities, probabilities], axis=-1)
        return tf.stack([1.0 - probabilities, probabilities], axis=-1)

    @staticmethod
    def covariance(probabilities: tf.Tensor) -> tf.Tensor:
        return tf.linalg.diag(probabilities * (1.0 - probabilities))

    @staticmethod
    def inverse_covariance(probabilities: tf.Tensor) -> tf.Tensor:
        return tf.linalg.diag(1.0 / tf.maximum(probabilities * (1.0 - probabilities), _UNLIKELY))

    def sample(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        yes = self.probabilities(outputs) if self.from_logits else outputs
        return tf.cast(tf.random.stateless_uniform(tf.shape(yes), seed) < yes, tf.float32)

    def labels(
        self, targets: np.ndarray, outputs_shape: tuple[int, ...], counted: np.ndarray
    ) -> np.ndarray:
        del counted
        if (*targets.shape, 1) == outputs_shape:
            targets = targets[..., np.newaxis]
        return whole_labels(in_shape(targets, outputs_shape), (*outputs_shape, 2))

    def require_possible(
        self, targets: tf.Tensor, outputs_shape: Any, counts: tf.Tensor | None = None
    ) -> list[tf.Operation]:
        del outputs_shape, counts
        targets = tf.cast(targets, tf.float32)
        return require(
            (targets >= 0) & (targets <= 1),
            "Targets of a binary cross-entropy must be between 0 and 1. Received: targets from",
            *value_range(targets),
        )
