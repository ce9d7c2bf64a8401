"""Bernoulli: yes or no."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.classes import SMALLEST, UNLIKELY, AbstractClasses
from tfbnn.likelihoods.targets import in_shape, matched, value_range
from tfbnn.lite_rules import YesNoSet
from tfbnn.requirements import require
from tfbnn.scores.arrays import whole_labels

# Where a probability is rounded to 1, what is left of it is less than half a step of float32.
_SMALLEST_COMPLEMENT = 2.0**-25


class Bernoulli(AbstractClasses):
    """Yes or no, for each output on its own. `parameters`: probabilities `(..., outputs)`."""

    name = "bernoulli"
    usage = "for yes or no `keras.losses.BinaryCrossentropy(from_logits=True)`"
    each = "yes"
    region_type = YesNoSet
    probabilities = staticmethod(tf.nn.sigmoid)

    @staticmethod
    def logits_of(probabilities: tf.Tensor) -> tf.Tensor:
        no = tf.maximum(1.0 - probabilities, _SMALLEST_COMPLEMENT)
        return tf.math.log(tf.maximum(probabilities, SMALLEST)) - tf.math.log(no)

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
        return tf.linalg.diag(1.0 / tf.maximum(probabilities * (1.0 - probabilities), UNLIKELY))

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
