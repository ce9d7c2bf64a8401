"""Priors: the law `p(w)` of one weight before any data are seen.

Which prior when:

| prior | log density in the tails | take it when |
|---|---|---|
| `Normal` | `-w**2` | a scale that you know; closed-form KL, no Monte Carlo noise |
| `ScaleMixture` | `-w**2`, spike at zero | that of the paper: most weights shrink into the spike |
| `Laplace` | `-abs(w)` | a mild pull to zero with a closed-form KL |
| `StudentT` | `-(df + 1) * log(abs(w))` | a few weights must be free to grow; `df` sets how many |
| `Cauchy` | `-2 * log(abs(w))` | the same, as far as it goes (`StudentT` with `df=1`) |
| `FanIn` | `-w**2` | a normal prior that suits layers of every width |
| `AutomaticRelevance` | `-log(abs(w))`, then `-w**2` | the default: uncertain, and free to prune |
| `Informative` | `-w**2` | each weight has a law of its own, from training before |
| `Distribution` | any | TFP has the law you want and this table has not |

Every prior is one law for one scalar weight; a layer applies it to each weight independently.
`loc` and `scale` are in the unit of the weight; `scale` is a standard deviation where the law has
one. `loc` may be up to 1e6 and `scale` from 1e-12 to 1e12: in these ranges the log density and its
gradient are finite in float32 for every weight up to 1e6. Log densities are in nats. Prefer a named
prior to the same law in `Distribution`: the named ones know their closed-form KL (see
`tfbnn.weights.divergences`).

A prior is data: numbers and names, never functions. It is immutable, equal to any prior with the
same configuration, and goes through `keras.saving`. What is not offered: priors with trained
parameters (empirical Bayes) other than `AutomaticRelevance`, priors that tie weights together
(vector events), and priors that forbid some weights (`Gamma`, `Uniform`), for which the KL from a
normal posterior is infinite.
"""

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import arguments
from tfbnn.weights.abstract_prior import PACKAGE, float32
from tfbnn.weights.abstract_prior import AbstractPrior as AbstractPrior
from tfbnn.weights.informative_prior import Informative as Informative
from tfbnn.weights.softplus import softplus
from tfbnn.weights.tfp_distributions import Distribution as Distribution

tfd = tfp.distributions

LARGEST_WEIGHT = 1e6
"""How far out a prior may lie: over the smallest scale, float32 still holds the square of it."""


class AbstractLocScale(AbstractPrior):
    """A law with a place and a width: `loc` in the unit of the weight, `scale` positive."""

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = arguments.real_number("loc", loc, -LARGEST_WEIGHT, LARGEST_WEIGHT)
        self.scale = arguments.standard_deviation("scale", scale)

    def get_config(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale}


@keras.saving.register_keras_serializable(PACKAGE)
class Normal(AbstractLocScale):
    """Normal prior.

    `p(w) = exp(-((w - loc) / scale)**2 / 2) / (scale * sqrt(2 * pi))`

    Args:
        loc: Mean.
        scale: Standard deviation, positive.

    Raises:
        ValueError: If `loc` is beyond +-1e6 or `scale` is not between 1e-12 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Normal(scale=2.0).log_prob(0.0)), 4)
    -1.6121
    """

    numbers = ("loc", "scale")

    def distribution(self) -> tfd.Distribution:
        return tfd.Normal(self.loc, self.scale)


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
        logs = tf.math.log(shares / sigmas) - 0.5 * math.log(2 * math.pi)
        parts = tf.stack([logs, 0.5 / tf.square(sigmas)], axis=1)
        return tuple(tf.unstack(tf.reshape(tf.where(first_is_wider, parts, parts[::-1]), [4])))

    def get_config(self) -> dict[str, Any]:
        return {"pi": self.pi, "sigma1": self.sigma1, "sigma2": self.sigma2}


@keras.saving.register_keras_serializable(PACKAGE)
class Laplace(AbstractLocScale):
    """Laplace (double exponential) prior.

    `p(w) = exp(-abs(w - loc) / scale) / (2 * scale)`

    Args:
        loc: Mean and median.
        scale: Mean absolute deviation, positive; the standard deviation is `sqrt(2) * scale`.

    Raises:
        ValueError: If `loc` is beyond +-1e6 or `scale` is not between 1e-12 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Laplace(scale=0.5).log_prob(1.0)), 4)
    -2.0
    """

    numbers = ("loc", "scale")

    def distribution(self) -> tfd.Distribution:
        return tfd.Laplace(self.loc, self.scale)


@keras.saving.register_keras_serializable(PACKAGE)
class StudentT(AbstractLocScale):
    """Student t prior.

    `p(w)` is proportional to `(1 + ((w - loc) / scale)**2 / df)**(-(df + 1) / 2)`

    Args:
        df: Degrees of freedom, positive. The default, 3, is the smallest whole number with a
            finite variance.
        loc: Median.
        scale: Width, positive; the standard deviation is `scale * sqrt(df / (df - 2))`, `df > 2`.

    Raises:
        ValueError: If `loc` is beyond +-1e6, `scale` is not between 1e-12 and 1e12, or `df` is not
            between 1e-6 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.StudentT(df=3.0).log_prob(0.0)), 4)
    -1.0009
    """

    numbers = ("loc", "scale")

    def __init__(self, df: float = 3.0, loc: float = 0.0, scale: float = 1.0):
        self.df = arguments.real_number("df", df, 1e-6, 1e12)
        super().__init__(loc, scale)

    def distribution(self) -> tfd.Distribution:
        return tfd.StudentT(self.df, self.loc, self.scale)

    def get_config(self) -> dict[str, Any]:
        return {"df": self.df, **super().get_config()}


@keras.saving.register_keras_serializable(PACKAGE)
class Cauchy(AbstractLocScale):
    """Cauchy prior.

    `p(w) = 1 / (pi * scale * (1 + ((w - loc) / scale)**2))`

    Args:
        loc: Median; the mean does not exist.
        scale: Half width at half maximum, positive; the standard deviation does not exist.

    Raises:
        ValueError: If `loc` is beyond +-1e6 or `scale` is not between 1e-12 and 1e12.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Cauchy().log_prob(0.0)), 4)
    -1.1447
    """

    numbers = ("loc", "scale")

    def distribution(self) -> tfd.Distribution:
        return tfd.Cauchy(self.loc, self.scale)


@keras.saving.register_keras_serializable(PACKAGE)
class FanIn(AbstractPrior):
    """Normal prior whose variance is shared by the inputs of a unit.

    `p(w) = N(w; 0, max(variance / fan_in, smallest_scale**2))`

    With it the functions that the prior calls likely do not depend on the width of the network. The
    scale is known when a layer is built, and `layer.kernel.prior` is then a `Normal`.

    Args:
        variance: Variance of a sum over all inputs of a unit, each of which is 1 or -1. From 1 to
            10 is usual; a small one keeps the network from bending.
        smallest_scale: Standard deviation below which it does not go.

    Raises:
        ValueError: If `variance` is not between 1e-24 and 1e24, or `smallest_scale` is neither 0
            nor a standard deviation.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.FanIn(variance=10.0).at_fan_in(1000)
    Normal(loc=0.0, scale=0.1)

    Reference:
        Neal 1996, "Bayesian Learning for Neural Networks", sec. 2.1.
    """

    def __init__(self, variance: float = 10.0, smallest_scale: float = 0.0):
        self.variance = arguments.real_number("variance", variance, 1e-24, 1e24)
        self.smallest_scale = arguments.real_number(
            "smallest_scale", smallest_scale, 0, arguments.LARGEST_SCALE
        )

    def at_fan_in(self, fan_in: int) -> AbstractPrior:
        smallest = max(self.smallest_scale, arguments.SMALLEST_SCALE)
        return Normal(scale=max(math.sqrt(self.variance / fan_in), smallest))

    def distribution(self) -> tfd.Distribution:
        raise ValueError(
            "The scale of this prior is known when a layer is built: see `layer.kernel.prior`, or "
            f"call `at_fan_in`. Received: {self}"
        )

    def get_config(self) -> dict[str, Any]:
        return {"variance": self.variance, "smallest_scale": self.smallest_scale}


OF_BIASES = FanIn(smallest_scale=0.3)
"""The prior of biases if none is given: without room a network cannot bend where it likes."""


@keras.saving.register_keras_serializable(PACKAGE)
class AutomaticRelevance(AbstractPrior):
    """Normal prior whose scale is each weight's own, and the one under which the ELBO is largest.

    `p(w) = N(w; 0, s**2)`, `s**2 = loc**2 + scale**2` or the nearest number to it from
    `smallest_scale**2` to `largest_scale**2`

    so that `KL = (log(s**2 / scale**2) + (loc**2 + scale**2) / s**2 - 1) / 2`: between the two
    scales `log(1 + loc**2 / scale**2) / 2`, whatever the size of the weight. Those that the data do
    not need fall back to `N(0, smallest_scale**2)`. They can be pruned, and are uncertain, which
    inputs that the data never had are answered with. Larger weights are held back by a normal prior
    of the largest scale. Without one, all could grow together with their standard deviations at no
    cost: a long training with little of the KL would be sure of everything. Where rows are many it
    may be larger than the default.

    Because its scales are learnt, it is no density, and the ELBO is that of empirical Bayes: do not
    compare models by it.

    Args:
        smallest_scale: Standard deviation, or `"fan_in"`: `sqrt(0.3 / fan_in)`, known when a layer
            is built.
        largest_scale: The same; `"fan_in"` is `sqrt(30 / fan_in)`.

    Raises:
        ValueError: If one of them is neither, or the smallest is larger than the largest.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.AutomaticRelevance().at_fan_in(30).largest_scale
    1.0

    References:
        Neal 1996, "Bayesian Learning for Neural Networks", sec. 4.3, for the idea and its name;
        Kharitonov et al. 2018, "Variational Dropout via Empirical Bayes", eq. 14, for the KL
        without bounds.
    """

    numbers = ("smallest_scale", "largest_scale")

    def __init__(
        self, smallest_scale: float | str = "fan_in", largest_scale: float | str = "fan_in"
    ):
        check = arguments.standard_deviation_or_fan_in
        self.smallest_scale = check("smallest_scale", smallest_scale)
        self.largest_scale = check("largest_scale", largest_scale)
        scales = [self.smallest_scale, self.largest_scale]
        if "fan_in" not in scales and scales[0] > scales[1]:
            raise ValueError(
                "`smallest_scale` must not be above `largest_scale`. Received: "
                f"smallest_scale={smallest_scale}, largest_scale={largest_scale}"
            )

    def at_fan_in(self, fan_in: int) -> AbstractPrior:
        smallest, largest = self.smallest_scale, self.largest_scale
        if smallest == "fan_in":
            smallest = math.sqrt(_SMALLEST_VARIANCE_TIMES_FAN_IN / fan_in)
            # A number for the other one is what was asked for.
            smallest = smallest if largest == "fan_in" else min(smallest, largest)
        if largest == "fan_in":
            largest = max(smallest, math.sqrt(_LARGEST_VARIANCE_TIMES_FAN_IN / fan_in))
        return AutomaticRelevance(smallest, largest)

    def distribution(self) -> tfd.Distribution:
        raise ValueError(
            "The scale of this prior follows the posterior, so that it is no law by itself; take "
            f"`tfbnn.priors.FanIn()` where one is needed. Received: {self}"
        )

    def get_config(self) -> dict[str, Any]:
        return {"smallest_scale": self.smallest_scale, "largest_scale": self.largest_scale}


_SMALLEST_VARIANCE_TIMES_FAN_IN = 0.3
_LARGEST_VARIANCE_TIMES_FAN_IN = 30

PRIORS: dict[str, type[AbstractPrior]] = {
    "normal": Normal,
    "scale_mixture": ScaleMixture,
    "laplace": Laplace,
    "student_t": StudentT,
    "cauchy": Cauchy,
    "fan_in": FanIn,
    "automatic_relevance": AutomaticRelevance,
    "informative": Informative,
}
"""The priors `get` knows by name; each can be made without arguments."""


def get(identifier: "AbstractPrior | str | dict | tfd.Distribution") -> AbstractPrior:
    """The prior that `identifier` stands for.

    Args:
        identifier: A prior, a name in `PRIORS` (the prior with its default arguments), a
            configuration made by `serialize`, or a TFP distribution.

    Returns:
        A prior; `identifier` itself if it is one.

    Raises:
        ValueError: If the name is unknown, or `identifier` is none of the above.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.get("laplace")
    Laplace(loc=0.0, scale=1.0)
    """
    if isinstance(identifier, AbstractPrior):
        return identifier
    if isinstance(identifier, str) and identifier in PRIORS:
        return PRIORS[identifier]()
    if isinstance(identifier, tfd.Distribution):
        return Distribution(identifier)
    if isinstance(identifier, dict):
        return arguments.interpreted("identifier", identifier, _deserialize, "a configuration")
    raise ValueError(
        f"A prior must be a prior object, one of the names {sorted(PRIORS)}, a configuration or a "
        f"`tfp.distributions.Distribution`. Received: identifier={identifier!r}"
    )


def serialize(prior: AbstractPrior) -> dict[str, Any]:
    """The configuration, which JSON can hold, from which `get` makes an equal prior."""
    return keras.saving.serialize_keras_object(prior)


def _deserialize(config: dict[str, Any]) -> AbstractPrior:
    classes = {cls.__name__: cls for cls in (*PRIORS.values(), Distribution)}
    prior = keras.saving.deserialize_keras_object(config, custom_objects=classes)
    if not isinstance(prior, AbstractPrior):
        raise TypeError("it is not a prior's")
    return prior
