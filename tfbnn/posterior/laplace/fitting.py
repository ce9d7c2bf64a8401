"""Fitting: one pass over the data, which leaves sums of the size of the curvature."""

import dataclasses
import math
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior.laplace.any_rows import AnyRows
from tfbnn.posterior.laplace.curvature import CURVATURES, judged
from tfbnn.posterior.laplace.recording import recorded
from tfbnn.posterior.laplace.structures import AbstractStructure, Pairs
from tfbnn.posterior.learnt_rows import batches, no_rows, num_batches
from tfbnn.requirements import clear_errors
from tfbnn.training.data_term import counted, log_probs
from tfbnn.training.outputs import loss_weights
from tfbnn.training.progress_bar import progress_bar
from tfbnn.weights import noise

# Rows by which it is seen whether the weights are near a mode, and how far the curvature holds.
_SOME_ROWS = 2048
# Any draws serve: each row has targets of its own.
_SEED = 0
# How many times as long as by chance their gradient may be.
_MOST_DISTANCE = 10.0


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What the data say of the weights around a mode.

    Attributes:
        sums: The curvature, as the structure keeps it, by name.
        num_rows: Number of rows.
        log_likelihood: Of all rows at the mode, in nats.
        some_rows: Some of the batches.
        distance: Length of the gradient of the log likelihood of some rows, in the unit that it has
            by chance at weights that are the right ones.
    """

    sums: dict[str, np.ndarray]
    num_rows: int
    log_likelihood: float
    distance: float
    some_rows: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)

    def check_distance(self) -> None:
        """Warn if the weights are far from a mode."""
        if not self.distance <= _MOST_DISTANCE:
            warnings.warn(
                "The weights are far from a mode of the likelihood, around which Laplace's "
                "approximation is made: train the model on these data until its loss falls no "
                f"more. The gradient of the log likelihood is {self.distance:.3g} times as long as "
                f"by chance at the right weights; up to {_MOST_DISTANCE:g} times is expected.",
                UserWarning,
                stacklevel=3,
            )


@dataclasses.dataclass(frozen=True)
class Pass:
    """A pass over data.

    Attributes:
        model: A Keras model.
        likelihoods: One for each output.
        structure: What is kept.
        curvature: `"exact"` or `"sampled"`.
        verbose: 0 for no progress bar.
    """

    model: keras.Model
    likelihoods: list[AbstractLikelihood]
    structure: AbstractStructure
    curvature: str
    verbose: Any

    def over(self, x: Any, y: Any) -> Fitted:
        """The sums over all rows.

        Raises:
            ValueError: If there is no row, no target, or one is impossible.
        """
        totals = {n: np.zeros(s, np.float64) for n, s in self.structure.shapes().items()}
        gradient = [tf.zeros(v.shape) for v in self._variables]
        step, slope = AnyRows(self._step), AnyRows(self._slope)
        some_rows: list[tuple[Any, ...]] = []
        num_rows = seen = 0
        log_likelihood = 0.0
        with progress_bar(self.verbose, num_batches(x), "batch") as bar:
            for batch in batches(self.model, x, y):
                rows = int(tf.nest.flatten(batch[0])[0].shape[0])
                with clear_errors():
                    sums, log_prob = step(batch, tf.constant(num_rows))
                    if seen < _SOME_ROWS:
                        gradient = [a + b for a, b in zip(gradient, slope(batch), strict=True)]
                        some_rows.append(batch)
                        seen += rows
                for name, one in sums.items():
                    totals[name] += one.numpy()
                log_likelihood += float(log_prob)
                num_rows += rows
                if bar is not None:
                    bar.update()
        if not num_rows:
            raise no_rows(x)
        length = math.sqrt(sum(float(tf.reduce_sum(tf.square(one))) for one in gradient))
        by_chance = self.structure.trace(totals) * seen / num_rows
        distance = length / math.sqrt(max(by_chance, np.finfo(np.float32).tiny))
        return Fitted(totals, num_rows, log_likelihood, distance, some_rows)

    @property
    def _variables(self) -> list[keras.Variable]:
        return [variable for part in self.structure.parts for variable in part.variables]

    def _step(self, batch: tuple[Any, ...], first: tf.Tensor) -> tuple[dict[str, tf.Tensor], Any]:
        """The sums over a batch that begins with a row, and its log likelihood."""
        seed = noise.fold_in(noise.as_seed(_SEED), first)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        rows = tf.shape(tf.nest.flatten(x)[0])[0]
        with (
            tf.GradientTape(persistent=True) as tape,
            recorded(self.structure.parts, tape, rows) as recording,
        ):
            outputs = self.model(x, training=False)
        pairs = zip(
            counted(self.likelihoods, y, outputs, sample_weight),
            loss_weights(self.model),
            strict=True,
        )
        found = [judged(one, output, by, weight) for (one, _, output, by), weight in pairs]
        left, right = CURVATURES[self.curvature](found, recording.outputs, tape, seed)
        by_part = [self._pairs(recording, part, left, right, rows) for part in self.structure.parts]
        log_prob = self._log_prob(y, outputs, sample_weight)
        return self.structure.sums(by_part), log_prob

    def _pairs(self, recording: Any, part: Any, left: Any, right: Any, rows: tf.Tensor) -> Pairs:
        one = recording.gradients(part, left, rows)
        other = one if right is left else recording.gradients(part, right, rows)
        return Pairs(recording.operand(part, rows, self.structure.most_places), one, other)

    def _slope(self, batch: tuple[Any, ...]) -> list[tf.Tensor]:
        """The gradient of the log likelihood of a batch."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        variables = [variable.value for variable in self._variables]
        with tf.GradientTape() as tape:
            log_prob = self._log_prob(y, self.model(x, training=False), sample_weight)
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(log_prob, variables, unconnected_gradients=zero)
        return [tf.convert_to_tensor(one) for one in gradients]

    def _log_prob(self, y: Any, outputs: Any, sample_weight: Any) -> tf.Tensor:
        weights = loss_weights(self.model)
        by_output = log_probs(self.likelihoods, y, outputs, sample_weight)
        return tf.add_n([w * tf.reduce_sum(one) for w, one in zip(weights, by_output, strict=True)])
