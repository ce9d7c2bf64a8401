"""The log joint density of networks, many at once, as a function of flat vectors."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import variables_as
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior.log_density import log_prior
from tfbnn.posterior.mcmc.sampled_weights import SampledWeight
from tfbnn.training.data_term import log_probs
from tfbnn.training.outputs import loss_weights


class Joint(NamedTuple):
    """`log p(y, w | x) = log p(y | x, w) + log p(w)` of all rows, in nats.

    Attributes:
        model: The Keras model.
        likelihoods: One for each output.
        weights: What is random of it.
        batch: All rows, `(x, y, sample_weight)`, the last may be None.
    """

    model: keras.Model
    likelihoods: list[AbstractLikelihood]
    weights: list[SampledWeight]
    batch: tuple[Any, Any, Any]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the weights."""
        return [tuple(one.variable.shape) for one in self.weights]

    @property
    def size(self) -> int:
        """Number of random numbers of a network."""
        return sum(map(math.prod, self.shapes))

    def values(self, flat: Any) -> list[Any]:
        """A network `(..., size)`, or several, as the values of its weights."""
        return unflattened(flat, self.shapes)

    def of_one(self, flat: tf.Tensor) -> tf.Tensor:
        """The log density of one network `(size,)`, a float32 scalar."""
        values, (x, y, sample_weight) = self.values(flat), self.batch
        variables, laws = zip(*self.weights, strict=True)
        with variables_as(list(zip(variables, values, strict=True))):
            outputs = self.model(x, training=False)
        by_output = log_probs(self.likelihoods, y, outputs, sample_weight)
        pairs = zip(loss_weights(self.model), by_output, strict=True)
        return tf.add_n([log_prior(laws, values), *(w * tf.reduce_sum(one) for w, one in pairs)])

    def of_all(self, scale: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """The log densities `(count,)` of networks `(count, size)` in the unit `scale`.

        The gradient of each is computed with it: through a vectorised function XLA loses the
        shapes, and compiles anew in each call.
        """

        @tf.custom_gradient
        def densities(positions: tf.Tensor) -> Any:
            found, slopes = tf.vectorized_map(self._with_slope, positions * scale, warn=False)
            return found, lambda upstream: upstream[:, tf.newaxis] * slopes * scale

        return densities

    def _with_slope(self, flat: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(flat)
            density = self.of_one(flat)
        return density, tape.gradient(density, flat)


def unflattened(flat: Any, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Parts of the last axis of `flat`, in these shapes."""
    parts, first = [], 0
    for shape in shapes:
        part = flat[..., first : first + math.prod(shape)]
        parts.append(tf.reshape(part, [*flat.shape[:-1], *shape]))
        first += math.prod(shape)
    return parts
