"""What every prior is: the law of one scalar weight, as data.

`tfbnn.weights.priors` has the named ones and says which to take when.
"""

import abc
import copy
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

PACKAGE = "tfbnn.priors"
"""The package that priors are registered under with `keras.saving`."""


class AbstractPrior(abc.ABC):
    """The law of one scalar weight.

    A subclass gives `distribution()` and `get_config()`; it may give a cheaper `log_prob()`. If it
    names attributes as `numbers`, its formulas must take scalar tensors in their places: then laws
    that differ by these alone are compiled once, and the KL has gradients in them.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.Normal(scale=0.1) == priors.get({"class_name": "Normal", "config": {"scale": 0.1}})
    True
    """

    numbers: tuple[str, ...] = ()
    """Attributes that are numbers, and may be tensors where a KL is computed."""

    of_each_weight: tuple[str, ...] = ()
    """Those of `numbers` that are another for each weight: a layer keeps them as variables."""

    learns = True
    """Whether numbers that are tensors are learnt, so that the KL has gradients in them."""

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

    @property
    def kind(self) -> "Kind":
        """All of the law but its numbers."""
        names = self._own_numbers()
        return Kind.of(self, {k: v for k, v in self.get_config().items() if k not in names})

    def values(self) -> list[Any]:
        """The numbers of the law, which with its kind are the whole law."""
        return [getattr(self, name) for name in self._own_numbers()]

    def with_values(self, values: Sequence[Any]) -> "AbstractPrior":
        """The same kind of law with other numbers, or scalar tensors; they are not checked."""
        other = copy.copy(self)
        vars(other).update(zip(self._own_numbers(), values, strict=True))
        return other

    def _own_numbers(self) -> tuple[str, ...]:
        # A subclass may compute in another way than its base.
        return vars(type(self)).get("numbers", ())

    def at_fan_in(self, fan_in: int) -> "AbstractPrior":
        """The law of the weights of a layer in which each unit sums over `fan_in` inputs."""
        del fan_in
        return self

    def log_prob(self, value: Any) -> tf.Tensor:
        """Log density of each weight, `log(p(value))`, in nats: float32, and nothing is summed."""
        return self.distribution().log_prob(float32(value))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(self.get_config(), sort_keys=True)))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@dataclasses.dataclass(frozen=True)
class Kind:
    """What laws have in common that differ by their numbers alone, and one of them."""

    prior_class: type[AbstractPrior]
    rest: str
    example: AbstractPrior = dataclasses.field(compare=False)

    @classmethod
    def of(cls, prior: AbstractPrior, rest: Any) -> "Kind":
        """The kind of a prior; `rest` is all of its configuration but the numbers."""
        # An example that is kept must not keep a graph.
        values = [1.0 if tf.is_tensor(value) else value for value in prior.values()]
        return cls(type(prior), json.dumps(rest, sort_keys=True), prior.with_values(values))


def float32(value: Any) -> tf.Tensor:
    """`value` as a float32 tensor: log densities are computed in float32 under every policy."""
    return tf.cast(tf.convert_to_tensor(value), tf.float32)
