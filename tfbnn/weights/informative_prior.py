"""The informative prior: a normal law of its own for each weight, from what was learnt before."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import arguments
from tfbnn.weights.abstract_prior import PACKAGE, AbstractPrior

tfd = tfp.distributions


@keras.saving.register_keras_serializable(PACKAGE)
class Informative(AbstractPrior):
    """Normal prior with a mean and a standard deviation for each weight.

    `p(w) = N(w; loc, scale**2)`, with `loc` and `scale` in the shape of the weight.

    A layer keeps both as variables that are not trained, beside the weight, so they are in its
    files; the configuration has the scale at the start only. `loc` starts at zero, until
    `tfbnn.to_bayesian` puts the trained weights there; `tfbnn.continue_from` sets both to the law
    that a posterior has.

    Args:
        scale: Standard deviation of every weight at the start, positive.

    Raises:
        ValueError: If `scale` is not between 1e-12 and 1e12.

    Example:

    >>> import tfbnn
    >>> layer = tfbnn.layers.Dense(2, kernel_prior=tfbnn.priors.Informative(scale=0.5))
    >>> layer.build((None, 3))
    >>> layer.kernel.prior.loc.shape, layer.kernel.prior.scale.shape
    (TensorShape([3, 2]), TensorShape([3, 2]))

    Reference:
        Krishnan et al. 2020, "Specifying Weight Priors in Bayesian Deep Neural Networks with
        Empirical Bayes", sec. 3.
    """

    numbers = ("loc", "scale")
    of_each_weight = ("loc", "scale")
    learns = False

    def __init__(self, scale: float = 1.0):
        self._initial_scale = arguments.standard_deviation("scale", scale)
        self._numbers: tuple[Any, Any] = (0.0, self._initial_scale)

    @property
    def loc(self) -> tf.Tensor:
        """Mean of each weight."""
        return tf.convert_to_tensor(self._numbers[0])

    @property
    def scale(self) -> tf.Tensor:
        """Standard deviation of each weight."""
        return tf.convert_to_tensor(self._numbers[1])

    def values(self) -> list[Any]:
        return [tf.convert_to_tensor(number) for number in self._numbers]

    def with_values(self, values: Sequence[Any]) -> "Informative":
        other = Informative(self._initial_scale)
        other._numbers = tuple(values)
        return other

    def distribution(self) -> tfd.Distribution:
        return tfd.Normal(self.loc, self.scale)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self._initial_scale}
