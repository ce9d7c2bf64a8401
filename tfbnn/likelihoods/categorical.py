"""Categorical: one of several classes."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.classes import SMALLEST, UNLIKELY, AbstractClasses
from tfbnn.likelihoods.targets import from_one_hot, in_shape, matched, value_range
from tfbnn.requirements import require
from tfbnn.scores.arrays import whole_labels

# By how much the sum of shares may differ from 1: three digits, or what float16 leaves of ten.
_ROUNDING = 5e-3


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
        return tf.math.log(tf.maximum(probabilities, SMALLEST))

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
        return tf.linalg.diag(1.0 / tf.maximum(probabilities, UNLIKELY))

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
