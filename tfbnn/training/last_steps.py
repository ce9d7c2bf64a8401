"""The last steps of a `fit`: means that tell whether training has come to its end.

They are taken from what the steps compute anyway, without a pass over the data.

*Sigma.* The derivative of the loss by the logarithm of a standard deviation is that of the NLL and
that of the weighted KL, which is `kl_weight * (sigma**2 / p**2 - 1)` under a normal prior of scale
`p`. While sigma is small only the KL is felt, and at a stationary point the two cancel. So

`pull = -mean(d loss / d log sigma) / (kl_weight * max(1, K, L))`

with the means over weights and the last steps, and `K` and `L` the sizes of both parts over
`kl_weight`, is 1 where nothing but the KL acts, 0 where sigma has arrived, and negative where it is
too large.

*Noise.* For a learned scale `1 - d loss / d log scale` is the mean square of the errors over that
of the scale: 1 where the noise has arrived.

*Means.* A posterior that fell back to the prior is stationary, and means that do not move may be.
Of both,

`gain = mean_n (log p(y_n | f(x_n)) - log p(y_n | f(x_m)))`,  `m` another row of the batch,

is 0: what the network answers has nothing to do with what it is asked.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.normal import SMALLEST_SCALE
from tfbnn.training import distribution
from tfbnn.weights import noise
from tfbnn.weights.families import NormalWeight
from tfbnn.weights.realisation import masked, scale_of

# One step of so many is observed, or more of them where a `fit` has few.
_EVERY = 8
_FEWEST_STEPS = 100
# Earlier observations fade away: means are over about twice as many as this.
_MEMORY = 20
_FEWEST = 10
# Of each tensor. All would cost a quarter of a step.
_MOST_WEIGHTS = 4096
_KL_DRAWS = 8
_SMALLEST_RATIO = 1e-6


@dataclasses.dataclass(frozen=True)
class Observation:
    """What a training step found.

    Attributes:
        gradients: By `id` of a variable, of the loss times `loss_scale`.
        numbers_per_scale: For each variable of the noise, how much a row counts in the loss by
            which each of its scales is learned: the number of targets, times their weights.
        gain: As above, in nats per row; 0 if it is not known.
    """

    gradients: dict[Any, Any]
    loss_scale: Any
    numbers_per_scale: list[tf.Tensor]
    gain: tf.Tensor


class LastSteps(keras.metrics.Metric):
    """Means over the last steps of a `fit` of what tells whether it has converged.

    They are about the random weights of a built model, and the variables that learned scales of the
    noise are made of.
    """

    def __init__(self, weights: list[NormalWeight], noise_rhos: list[keras.Variable]):
        super().__init__(name="last_steps")
        self.weights = weights
        # Keras would take variables for those of the metric, and reset them.
        self._watched_noise = lambda: noise_rhos
        self._replicas = distribution.num_replicas()
        # Sums of the slope of each tensor's sigma, of those of each scale of the noise, and of the
        # gain; of their squares; of the KL's weights; of the weights of the observations, and of
        # the squares of those.
        self._num_noise = sum(math.prod(rho.shape) for rho in noise_rhos)
        size = len(weights) + self._num_noise + 1
        self._sums = self.add_variable((2 * size + 3,), "zeros", name="sums")

    @property
    def noise_rhos(self) -> list[keras.Variable]:
        """Variables that learned scales of the noise are made of."""
        return self._watched_noise()

    def watches(self, weights: list[NormalWeight], noise_rhos: list[keras.Variable]) -> bool:
        """Whether it was made for these."""
        # Variables compare by value.
        known, given = ([id(rho) for rho in rhos] for rhos in (self.noise_rhos, noise_rhos))
        return self.weights == weights and known == given

    def observe(
        self,
        found: Callable[[], Observation],
        kl_weight: Callable[[], tf.Tensor],
        done: tf.Tensor,
        num_steps: tf.Tensor,
    ) -> None:
        """Note what a training step found, if it is one of those that are observed.

        `done` of the `num_steps` of this `fit`, 0 if that is not known, came before it. What it
        found, and the weight of the KL in it, are only asked for then.
        """
        every = tf.clip_by_value(num_steps // _FEWEST_STEPS, 1, _EVERY)
        every = tf.where(num_steps > 0, every, _EVERY)
        kept = 1.0 - 1.0 / _MEMORY

        def note() -> tf.Tensor:
            values = self._values(found())
            # Each replica has its share of the loss.
            steps = tf.stack([kl_weight(), 1.0, 1.0]) / self._replicas
            new = tf.concat([values, tf.square(values), steps], 0)
            fading = tf.concat([tf.fill([new.shape[0] - 1], kept), [kept**2]], 0)
            # A step that overflows is no step: the optimizer passes over it.
            is_finite = tf.reduce_all(tf.math.is_finite(new))
            old = tf.convert_to_tensor(self._sums.value)
            self._sums.assign(tf.where(is_finite, fading * old + new, old))
            return tf.zeros([])

        # Also a `fit` that ends after a few of its steps, by `EarlyStopping`, was observed.
        # Faded, so many of them count as a little less than `_FEWEST`.
        is_first = done <= _FEWEST
        tf.cond(is_first | (tf.math.floormod(done, every) == 0), note, lambda: tf.zeros([]))

    def pulls(self) -> dict[NormalWeight, tuple[float, float]]:
        """The `pull` of each weight and its standard error; none if too little was observed."""
        known = self._means()
        if known is None or not known[2]:
            return {}
        slopes, errors, kl_weight = known
        triples = zip(self.weights, slopes / kl_weight, errors / kl_weight, strict=False)
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

    def noise_ratio(self) -> tuple[float, float]:
        """Of the learned scale that is farthest off the mean square of errors over its own, and
        the standard error of that; NaN if there is none."""
        known = self._means()
        if known is None or not self._num_noise:
            return math.nan, math.nan
        slopes, errors = (part[len(self.weights) : -1] for part in known[:2])
        # Ratios from 0; 2 is as far as 1 / 2.
        ratios = np.maximum(1.0 - slopes, _SMALLEST_RATIO)
        farthest = np.argmax(np.abs(np.log(ratios)))
        return float(ratios[farthest]), float(errors[farthest])

    def gain(self) -> tuple[float, float]:
        """The `gain` in nats per example, and its standard error; NaN if it is not known."""
        known = self._means()
        if known is None or not known[1][-1]:
            return math.nan, math.nan
        return float(known[0][-1]), float(known[1][-1])

    def _values(self, found: Observation) -> tf.Tensor:
        slopes = [_slope(weight, found) for weight in self.weights]
        pairs = zip(self.noise_rhos, found.numbers_per_scale, strict=True)
        of_noise = [_noise_slopes(rho, number, found) for rho, number in pairs]
        return tf.concat([tf.stack(slopes), *of_noise, [found.gain]], 0)

    def _means(self) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Means of what was observed, their standard errors, and the mean weight of the KL."""
        sums = tf.convert_to_tensor(self._sums.value).numpy().astype(float)
        *sums, kl_weight, steps, squared_steps = sums
        independent = steps**2 / squared_steps if squared_steps else 0
        if independent < _FEWEST:
            return None
        means, squares = np.reshape(sums, [2, -1]) / steps
        # Of the sum over replicas, which are independent.
        variances = np.maximum(squares - means**2 / self._replicas, 0.0)
        return means, np.sqrt(variances / (independent - 1)), kl_weight / steps


def _slope(weight: NormalWeight, found: Observation) -> tf.Tensor:
    """Mean over the weights that are not pruned of `d loss / d log sigma`."""
    gradient = found.gradients.get(id(weight.rho_variable))
    if gradient is None:
        return tf.zeros([])
    return _mean(weight, gradient) / found.loss_scale


def _noise_slopes(rho: keras.Variable, number: tf.Tensor, found: Observation) -> tf.Tensor:
    """`d loss / d log scale` of each scale, as a mean over the numbers that share it."""
    gradient = found.gradients.get(id(rho))
    if gradient is None:
        return tf.zeros([math.prod(rho.shape)])
    rho = tf.convert_to_tensor(rho.value)
    by_log = gradient * (tf.math.softplus(rho) + SMALLEST_SCALE) / tf.sigmoid(rho)
    slopes = tf.reshape(by_log, [-1]) / found.loss_scale
    # Where nothing counts nothing is known.
    return tf.math.divide_no_nan(slopes, tf.reshape(number, [-1]))


def _mean(weight: NormalWeight, gradient: tf.Tensor) -> tf.Tensor:
    gradient, rho, *mask = _some(gradient, weight.rho_variable, weight.mask)
    by_log = gradient * scale_of(rho) / tf.sigmoid(rho)
    if not mask:
        return tf.reduce_mean(by_log)
    return tf.reduce_sum(masked(by_log, *mask)) / tf.maximum(tf.reduce_sum(mask), 1.0)


def _some(*tensors: Any) -> list[tf.Tensor]:
    """The same elements of each, spread evenly over the whole; None is left out."""
    flat = [tf.reshape(tf.convert_to_tensor(one), [-1]) for one in tensors if one is not None]
    stride = math.ceil(max(1, flat[0].shape[0]) / _MOST_WEIGHTS)
    return [one[::stride] for one in flat]


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
