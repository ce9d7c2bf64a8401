"""Counts: whole numbers with Poisson noise, of which the network says the logarithm of the rate."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.likelihoods.real_numbers import AbstractRealNumbers, NumberPrediction
from tfbnn.likelihoods.targets import matched, value_range
from tfbnn.requirements import require

# Above 2**24 float32 does not tell a count from the next.
_LARGEST_LOG_RATE = math.log(2**24)


@keras.saving.register_keras_serializable("tfbnn.losses")
class PoissonNLL(keras.losses.Loss):
    """Negative log likelihood of counts, summed over the last axis.

    The outputs of the network are logarithms of rates, `(batch, ..., targets)`:

    `-log(Poisson(y; exp(o))) = exp(o) - y * o + log(y!)`

    From `o = log(2**24) = 16.6` on the rate grows along the tangent of `exp(o)`, so that a network
    that starts far off neither overflows nor loses its gradient; the law is a Poisson law there
    too. Let a network for large counts start near their logarithm, by the bias of its last layer.

    Args:
        name: Name of the loss.

    Raises:
        ValueError: If `name` is no text.

    Example:

    >>> import numpy as np, tfbnn
    >>> loss = tfbnn.losses.PoissonNLL()
    >>> round(float(loss(np.array([[2.0]]), np.array([[0.0]]))), 4)  # 1 + log(2)
    1.6931
    """

    def __init__(self, name: str = "poisson_nll"):
        super().__init__(name=arguments.text("name", name))

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        return -tf.reduce_sum(log_prob(y_true, y_pred), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


@dataclasses.dataclass(frozen=True)
class PoissonPrediction(NumberPrediction):
    """Prediction of counts: their mean rate, and standard deviations; see `NumberPrediction`."""

    def quantile(self, q: float) -> np.ndarray:
        """Quantile of the predictive distribution: the least count with `P(y <= count) >= q`."""
        q = arguments.probability("q", q)
        return mixture_quantile(self._kept_samples()[0], q)


class Poisson(AbstractRealNumbers):
    """Counts with Poisson noise. `parameters`: the rate, `(..., targets)`."""

    name = "poisson"
    usage = "for counts `tfbnn.losses.PoissonNLL()` (in place of 'poisson')"
    prediction_type = PoissonPrediction

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        return log_prob(targets, outputs)

    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return (tf.exp(log_rate(outputs)),)

    def curvature(self, outputs: tf.Tensor) -> tf.Tensor:
        # Of the outputs, which above the largest rate move its logarithm by less.
        outputs = tf.cast(outputs, tf.float32)
        slope = 1.0 / (1.0 + tf.nn.relu(outputs - _LARGEST_LOG_RATE))
        return tf.linalg.diag(tf.exp(log_rate(outputs)) * tf.square(slope))

    def sample(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        (rate,) = self.parameters(outputs)
        return tf.random.stateless_poisson(tf.shape(rate), seed, rate)

    def mean_and_deviation(self, rate: Any) -> tuple[Any, Any]:
        return rate, tf.sqrt(rate)

    def require_possible(
        self, targets: tf.Tensor, outputs_shape: Any, counts: tf.Tensor | None = None
    ) -> list[tf.Operation]:
        del outputs_shape, counts
        targets = tf.cast(targets, tf.float64)
        return require(
            (targets >= 0) & tf.equal(targets, tf.round(targets)) & tf.math.is_finite(targets),
            "Targets of `PoissonNLL` are counts: they must be whole numbers from 0 on; for others "
            "use `tfbnn.losses.NormalNLL`. Received: targets from",
            *value_range(targets),
        )


def log_rate(outputs: Any) -> tf.Tensor:
    """Logarithm of the rate: the outputs, above `log(2**24)` less, see `PoissonNLL`."""
    outputs = tf.cast(outputs, tf.float32)
    above = tf.nn.relu(outputs - _LARGEST_LOG_RATE)
    return tf.minimum(outputs, _LARGEST_LOG_RATE) + tf.math.log(1.0 + above)


def log_prob(targets: Any, outputs: Any) -> tf.Tensor:
    """`log(p(y | outputs))` of each count, in nats."""
    # In float64: large terms cancel, `y * log(y)` against `log(y!)`.
    logs = tf.cast(log_rate(outputs), tf.float64)
    targets = tf.cast(matched(targets, logs.shape), tf.float64)
    return tf.cast(targets * logs - tf.exp(logs) - tf.math.lgamma(targets + 1.0), tf.float32)


def mixture_quantile(rate: np.ndarray, q: float) -> np.ndarray:
    """The least count `k` with `mean(P(y <= k), axis=draws) >= q`, of rates `(num_samples,
    ...)`."""
    rate = np.asarray(rate, np.float64)

    def reaches(count: np.ndarray) -> np.ndarray:
        return tf.reduce_mean(tf.math.igammac(count + 1, rate), axis=0).numpy() >= q

    low, high = np.full(rate.shape[1:], -1.0), np.ceil(rate.max(axis=0)) + 1
    while not (enough := reaches(high)).all():
        high = np.where(enough, high, 2 * high)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = reaches(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high
