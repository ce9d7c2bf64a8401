"""What every prior is: the law of one scalar weight, as data.

`tfbnn.weights.priors` has the named ones and says which to take when.
"""

import abc
import json
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

PACKAGE = "tfbnn.priors"
"""The package that priors are registered under with `keras.saving`."""


class AbstractPrior(abc.ABC):
    """The law of one scalar weight.

    A subclass gives `distribution()` and `get_config()`; it may give a cheaper `log_prob()`.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.Normal(scale=0.1) == priors.get({"class_name": "Normal", "config": {"scale": 0.1}})
    True
    """

    @abc.abstractmethod
    def distribution(self) -> tfd.Distribution:
        """The law as a float32 TFP distribution with scalar events.

        It is made anew at each call, so that it belongs to the graph it is called in.
        """

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as numbers, strings, lists and dicts."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AbstractPrior":
        """The prior with the configuration `config`."""
        return cls(**config)

    def at_fan_in(self, fan_in: int) -> "AbstractPrior":
        """The law of the weights of a layer in which each unit sums over `fan_in` inputs."""
        del fan_in
        return self

    def log_prob(self, value: Any) -> tf.Tensor:
        """Log density of each weight, `log(p(value))`, in nats.

        Args:
            value: Weights, a tensor of any shape.

        Returns:
            A float32 tensor of the shape of `value`; nothing is summed.
        """
        return self.distribution().log_prob(float32(value))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(self.get_config(), sort_keys=True)))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def float32(value: Any) -> tf.Tensor:
    """`value` as a float32 tensor: log densities are computed in float32 under every policy."""
    return tf.cast(tf.convert_to_tensor(value), tf.float32)
