"""Convergence: has sigma gone where the objective wants it, or did training end on the way?

The derivative of the loss by the logarithm of a standard deviation is that of the NLL and that of
the weighted KL, which is `kl_weight * (sigma**2 / p**2 - 1)` under a normal prior of scale `p`.
While sigma is small only the KL is felt, and at a stationary point the two cancel. So

`pull = -mean(d loss / d log sigma) / (kl_weight * max(1, K, L))`

with the means over weights and the last steps, and `K` and `L` the sizes of both parts over
`kl_weight`, is 1 where nothing but the KL acts, 0 where sigma has arrived, and negative where it is
too large. It says nothing of posteriors that fell back to the prior, nor of noise that overfits.
"""

import math
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.training import distribution
from tfbnn.weights import noise
from tfbnn.weights.families import NormalWeight
from tfbnn.weights.realisation import masked, scale_of

# Means over this many steps at the end of each epoch, or of about as many before.
_STEPS = 50
_FEWEST_STEPS = 10
_KL_DRAWS = 8
# Of what the KL alone pulls: a first choice, not yet measured on runs of this package.
LARGEST_PULL = 0.15


class ConvergenceWarning(UserWarning):
    """Training ended before the posterior was what the objective asks for."""


class SigmaGradients(keras.metrics.Metric):
    """Means of `d loss / d log sigma` over the last steps of an epoch, one for each random weight.

    Args:
        weights: The random weights of a built model.
    """

    def __init__(self, weights: list[NormalWeight]):
        super().__init__(name="sigma_gradients")
        self.weights = weights
        self._replicas = distribution.num_replicas()
        # Sums and sums of squares of each weight's, the sum of the KL's weights, and of steps.
        self._sums = self.add_variable((2 * len(weights) + 2,), "zeros", name="sums")

    def observe(
        self,
        gradients: dict[Any, Any],
        kl_weight: tf.Tensor,
        done: tf.Tensor,
        num_batches: tf.Tensor,
    ) -> None:
        """Note what a training step found.

        Args:
            gradients: By `id` of a variable, of the loss.
            kl_weight: Weight of the KL in this step.
            done: Number of steps of this `fit` before this one.
            num_batches: Of an epoch, or 0 if it is not known.
        """
        position = tf.math.floormod(done, tf.maximum(num_batches, 1))
        first = tf.maximum(num_batches - _STEPS, 0)
        # Where epochs are shorter, earlier ones fade away.
        kept = tf.where(position > first, 1.0, 0.0)
        kept = tf.where(num_batches >= _STEPS, kept, 1.0 - 1.0 / _STEPS)

        def note() -> tf.Tensor:
            found = tf.stack([_slope(weight, gradients) for weight in self.weights])
            # Each replica has its share of the gradient.
            steps = tf.stack([kl_weight, 1.0]) / self._replicas
            new = tf.concat([found, tf.square(found), steps], 0)
            # A step that overflows is no step: the optimizer passes over it.
            is_finite = tf.reduce_all(tf.math.is_finite(new))
            old = tf.convert_to_tensor(self._sums.value)
            self._sums.assign(tf.where(is_finite, kept * old + new, old))
            return tf.zeros([])

        tf.cond((num_batches > 0) & (position >= first), note, lambda: tf.zeros([]))

    def pulls(self) -> dict[NormalWeight, tuple[float, float]]:
        """The `pull` of each weight and its standard error; none if too little was observed."""
        *sums, kl_weight, steps = tf.convert_to_tensor(self._sums.value).numpy().astype(float)
        if steps < _FEWEST_STEPS or not kl_weight:
            return {}
        slopes, squares = np.reshape(sums, [2, -1]) / steps
        # Of the sum over replicas, which are independent.
        variances = np.maximum(squares - slopes**2 / self._replicas, 0.0)
        errors = np.sqrt(variances / (steps - 1))
        ratio = steps / kl_weight
        triples = zip(self.weights, ratio * slopes, ratio * errors, strict=True)
        return {weight: _pull(weight, slope, error) for weight, slope, error in triples}

    def mean_pull(self) -> tuple[float, float]:
        """The mean over all weights that are trained, and its standard error; NaN if not known."""
        pulls = {w: p for w, p in self.pulls().items() if w.rho_variable.trainable}
        if not pulls:
            return math.nan, math.nan
        size = sum(weight.size for weight in pulls)
        shares = [weight.size / size for weight in pulls]
        means, errors = np.reshape(list(pulls.values()), [-1, 2]).T
        return float(np.dot(shares, means)), float(np.linalg.norm(shares * errors))

    def warn(self) -> None:
        """Say so if sigma is not where the objective wants it."""
        mean, error = self.mean_pull()
        if has_not_trained(mean, error):
            warnings.warn(
                f"Sigma has not trained: {in_words(mean)} where training ended, so the uncertainty "
                f"is that of the start more than that of the data. {REMEDY} Received: a pull of "
                f"{mean:.2f}, where 1 is that of the KL alone and 0 is converged",
                ConvergenceWarning,
                stacklevel=3,
            )


def gradients_of(model: keras.Model) -> SigmaGradients | None:
    """What the last `fit` of a model saw of sigma, if it is one of tfbnn's and has been fitted."""
    return getattr(getattr(model, "objective", None), "sigma_gradients", None)


def has_not_trained(pull: float, error: float) -> bool:
    """Whether a pull with this standard error is too large; not so if it is not known."""
    return abs(pull) > LARGEST_PULL + 2 * error


def in_words(pull: float) -> str:
    """What sigma does under a pull."""
    return "it still grows" if pull > 0 else "it is still too large and shrinks"


REMEDY = (
    "Train for more steps, or with `compile(recipe=...)`, whose learning rate and steps of rho are "
    "made for it."
)


def _slope(weight: NormalWeight, gradients: dict[Any, Any]) -> tf.Tensor:
    """Mean over the weights that are not pruned of `d loss / d log sigma`."""
    gradient = gradients.get(id(weight.rho_variable))
    if gradient is None:
        return tf.zeros([])
    return _mean(weight, gradient)


def _mean(weight: NormalWeight, gradient: tf.Tensor) -> tf.Tensor:
    rho = tf.convert_to_tensor(weight.rho_variable.value)
    by_log = masked(gradient * scale_of(rho) / tf.sigmoid(rho), weight.mask)
    kept = weight.size if weight.mask is None else tf.maximum(tf.reduce_sum(weight.mask), 1.0)
    return tf.reduce_sum(by_log) / kept


def _pull(weight: NormalWeight, slope: float, error: float) -> tuple[float, float]:
    """The pull, and its error, for a mean `d loss / d log sigma` over the weight of the KL."""
    slopes = []
    for draw in range(1 if weight.kl_is_exact else _KL_DRAWS):
        with tf.GradientTape() as tape:
            kl = weight.kl(noise.as_seed(draw))
        slopes.append(float(_mean(weight, tape.gradient(kl, weight.rho_variable.value))))
    of_kl = sum(slopes) / len(slopes)
    size = max(1.0, abs(of_kl), abs(slope - of_kl))
    return -slope / size, error / size
