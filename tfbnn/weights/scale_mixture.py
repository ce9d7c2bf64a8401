"""The prior of a wide and a narrow normal."""

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import arguments
from tfbnn.weights.abstract_prior import PACKAGE, AbstractPrior, float32
from tfbnn.weights.softplus import softplus

tfd = tfp.distributions


@keras.saving.register_keras_serializable(PACKAGE)
class ScaleMixture(AbstractPrior):
    """Mixture of two zero-mean normals, one wide and one narrow.

    `p(w) = pi * N(w; 0, sigma1**2) + (1 - pi) * N(w; 0, sigma2**2)`

    The narrow component gathers the weights that are not needed, the wide one leaves the others
    alone: the prior to take before pruning.

    Args:
        pi: Share of the first component, strictly between 0 and 1.
        sigma1: Standard deviation of the first component (the wide one in the paper), positive.
        sigma2: Standard deviation of the second component, positive. The default is about
            `exp(-6)`, one of the values searched over in the paper's experiments.

    Raises:
        ValueError: If `pi` is not in (0, 1), or a standard deviation is not between 1e-12 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> prior = priors.ScaleMixture(pi=0.5, sigma1=1.0, sigma2=0.0025)
    >>> [round(float(value), 3) for value in prior.log_prob([0.0, 1.0])]
    [4.382, -2.112]

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", eq. 7.
    """

    numbers = ("pi", "complement", "sigma1", "sigma2")

    def __init__(self, pi: float = 0.5, sigma1: float = 1.0, sigma2: float = 0.0025):
        self.pi = arguments.real_number("pi", pi, 0, 1, exclusive=True)
        # In float32 the difference would be 0 for some.
        self.complement = 1.0 - self.pi
        self.sigma1 = arguments.standard_deviation("sigma1", sigma1)
        self.sigma2 = arguments.standard_deviation("sigma2", sigma2)

    def distribution(self) -> tfd.Distribution:
        return tfd.MixtureSameFamily(
            tfd.Categorical(probs=[self.pi, self.complement]),
            tfd.Normal([0.0, 0.0], [self.sigma1, self.sigma2]),
        )

    def log_prob(self, value: Any) -> tf.Tensor:
        """Log density of each weight, in nats.

        With `wide` and `narrow` the log of each weighted component,
        `log(p(w)) = wide + log(1 + exp(narrow - wide))`. Both are linear in `w**2`, and
        `narrow - wide` never grows with it, so nothing overflows.
        """

        # By hand: differentiating `softplus` would take longer than all the rest.
        @tf.custom_gradient
        def log_prob(value, wide, wide_rate, narrow, narrow_rate):
            square = tf.square(value)
            log_odds = (narrow - wide) - (narrow_rate - wide_rate) * square

            def gradient(upstream):
                share_of_narrow = tf.sigmoid(log_odds)
                rate = wide_rate + (narrow_rate - wide_rate) * share_of_narrow
                of_narrow = upstream * share_of_narrow
                of_wide = upstream - of_narrow
                of_numbers = of_wide, -of_wide * square, of_narrow, -of_narrow * square
                return -2.0 * upstream * rate * value, *map(tf.reduce_sum, of_numbers)

            return (wide - wide_rate * square) + softplus(log_odds), gradient

        return log_prob(float32(value), *self._log_components())

    def _log_components(self) -> tuple[tf.Tensor, ...]:
        """`a, b` with `a - b * w**2` the log of a weighted component, first those of the wider."""
        first_is_wider = tf.convert_to_tensor(self.sigma1) >= self.sigma2
        sigmas = tf.cast(tf.stack([self.sigma1, self.sigma2]), tf.float32)
        shares = tf.cast(tf.stack([self.pi, self.complement]), tf.float32)
        logs = tf.math.log(shares) - tf.math.log(sigmas) - 0.5 * math.log(2 * math.pi)
        parts = tf.stack([logs, 0.5 / tf.square(sigmas)], axis=1)
        return tuple(tf.unstack(tf.reshape(tf.where(first_is_wider, parts, parts[::-1]), [4])))

    def get_config(self) -> dict[str, Any]:
        return {"pi": self.pi, "sigma1": self.sigma1, "sigma2": self.sigma2}
