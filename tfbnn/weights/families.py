"""Families: the law `q(w)` of one weight tensor after the data, and its variables.

| family | law of each weight | variables |
|---|---|---|
| `Normal` | `N(loc, scale**2)`, independent (mean field) | `<name>_loc`, `<name>_rho` |
| `Point` | a single value, no KL | `<name>` |

A family is configuration. `family.build(...)` makes the variables and gives the weight: an object
with `loc`, `scale`, `sample(seed)` and `kl(...)`, which is all that estimators, priors, callbacks,
pruning and export know of it.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.weights import noise
from tfbnn.weights.divergences import has_closed_form
from tfbnn.weights.priors import AbstractPrior, AutomaticRelevance
from tfbnn.weights.realisation import masked, realisation, scale_of
from tfbnn.weights.softplus import inverse_softplus

# Of a unit whose inputs are of order 1.
_SCALE_TIMES_ROOT = 0.3


AddWeight = Callable[..., keras.Variable]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a weight is: its shape, how many inputs a unit sums over, and whether it has a mask."""

    shape: tuple[int, ...]
    fan_in: int
    masked: bool = False


class Weight:
    """One weight tensor with a law: fixed (`Point`).

    Tensors come out in float32 whatever the policy of the layer is: variances and KL sums overflow
    in float16.
    """

    is_random = False

    def __init__(self, name: str, loc: keras.Variable):
        self.name = name
        self.shape = tuple(loc.shape)
        self.loc_variable = loc

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that the law is made of."""
        return [self.loc_variable]

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def loc(self) -> tf.Tensor:
        """Mean of each weight."""
        return tf.convert_to_tensor(self.loc_variable.value)

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """One draw of the weights."""
        del seed
        return self.loc


class NormalWeight(Weight):
    """One weight tensor, each element `N(loc, scale**2)`, `scale = softplus(rho)`.

    With a mask, pruned elements are exactly zero: their `loc`, `scale`, draw and KL are multiplied
    by it here, so that no optimizer state can bring them back.
    """

    is_random = True

    def __init__(
        self,
        name: str,
        loc: keras.Variable,
        rho: keras.Variable,
        mask: keras.Variable | None,
        prior: AbstractPrior,
        fan_in: int,
        initial_scale: float,
        prior_variables: Sequence[keras.Variable] = (),
    ):
        super().__init__(name, loc)
        self.rho_variable = rho
        self.mask_variable = mask
        self.prior = prior.at_fan_in(fan_in)
        self.prior_variables = list(prior_variables)
        if self.prior_variables:
            self.prior = self.prior.with_values(self.prior_variables)
        self.fan_in = fan_in
        self.initial_scale = initial_scale

    @property
    def variables(self) -> list[keras.Variable]:
        found = (self.loc_variable, self.rho_variable, self.mask_variable)
        return [variable for variable in found if variable is not None]

    @property
    def mask(self) -> tf.Tensor | None:
        """1 where the weight is kept, 0 where it was pruned; None if the layer has no mask."""
        variable = self.mask_variable
        return None if variable is None else tf.convert_to_tensor(variable.value)

    @property
    def loc(self) -> tf.Tensor:
        """Posterior mean of each weight."""
        return masked(super().loc, self.mask)

    @property
    def scale(self) -> tf.Tensor:
        """Posterior standard deviation of each weight."""
        return masked(scale_of(self._rho), self.mask)

    def assign(self, loc: Any, scale: Any) -> None:
        """Let the weights have these means and standard deviations, where they are not pruned."""
        self.loc_variable.assign(loc)
        # A scale of 0, of a pruned weight, has no `rho`.
        self.rho_variable.assign(tf.where(scale > 0, inverse_softplus(scale), self._rho))

    @property
    def kl_is_exact(self) -> bool:
        """Whether the KL has a closed form, or is a Monte Carlo estimate."""
        return has_closed_form(self.prior)

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """One draw of the weights, `loc + scale * N(0, 1)`, differentiable in both."""
        normals = noise.standard_normal(self.shape, seed)
        return realisation("draw", self.prior, self.shape).operand(
            super().loc, self._rho, normals, self.mask
        )

    def draw(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One draw of the weights, `loc + scale * N(0, 1)`, and `KL(q || p)`, a scalar in nats.

        The KL is exact where there is a closed form, else estimated at this draw.
        """
        return self._realise("draw", seed)

    def perturbation(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The mean, one draw of `scale * N(0, 1)`, and the KL as in `draw`."""
        return self._realise("perturbation", seed)

    def moments(self, seed: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The mean, the variance, and the KL: a Monte Carlo one at a draw of its own."""
        return self._realise("variance", None if self.kl_is_exact else seed)

    def kl(self, seed: tf.Tensor | None = None) -> tf.Tensor:
        """`KL(q || p)` summed over the weights that are not pruned, in nats.

        A Monte Carlo KL needs a seed for its draw.
        """
        return self.moments(seed)[-1]

    @property
    def _rho(self) -> tf.Tensor:
        return tf.convert_to_tensor(self.rho_variable.value)

    def _realise(self, operand: str, seed: tf.Tensor | None) -> tuple[tf.Tensor, ...]:
        normals = None if seed is None else noise.standard_normal(self.shape, seed)
        realise = realisation(operand, self.prior, self.shape)
        return realise(super().loc, self._rho, normals, self.mask, self.prior.values())


@keras.saving.register_keras_serializable("tfbnn.families")
class Normal:
    """Mean-field normal family: `q(w) = N(w; loc, scale**2)`, `scale = softplus(rho)`.

    Args:
        initial_scale: Standard deviation of every weight before training, from 1e-12 to 1e12, or
            `"fan_in"`: `0.3 / sqrt(fan_in)`, so that the noise of a unit, which sums over `fan_in`
            inputs, starts at about 0.3 of theirs.

    Raises:
        ValueError: If `initial_scale` is neither.

    Example:

    >>> from tfbnn.weights import families
    >>> families.Normal(initial_scale=0.05).get_config()
    {'initial_scale': 0.05}

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 3.2.
    """

    def __init__(self, initial_scale: float | str = "fan_in"):
        self.initial_scale = arguments.standard_deviation_or_fan_in("initial_scale", initial_scale)

    def build(
        self, add_weight: AddWeight, name: str, law: "WeightLaw", place: Place
    ) -> NormalWeight:
        """Make the variables of one weight with the layer's `add_weight`."""
        if law.regularizer is not None:
            raise ValueError(
                "A regularizer on a weight that has a prior would be a second prior: choose the "
                f"prior instead. Received: {name}_regularizer={law.regularizer}"
            )

        def make(part: str, initializer: Any, **options: Any) -> keras.Variable:
            return _variable(add_weight, f"{name}_{part}", place.shape, initializer, **options)

        loc = make("loc", law.initializer, constraint=law.constraint)
        # softplus^-1(s) = log(exp(s) - 1), in the form that neither overflows nor cancels.
        scale = self.initial_scale
        if scale == "fan_in":
            scale = _SCALE_TIMES_ROOT / math.sqrt(place.fan_in)
        rho = make("rho", keras.initializers.Constant(scale + math.log(-math.expm1(-scale))))
        mask = make("mask", "ones", trainable=False) if place.masked else None
        of_prior = [
            make(f"prior_{part}", keras.initializers.Constant(value), trainable=False)
            for part, value in zip(law.prior.of_each_weight, law.prior.values(), strict=False)
        ]
        return NormalWeight(name, loc, rho, mask, law.prior, place.fan_in, scale, of_prior)

    def get_config(self) -> dict[str, Any]:
        return {"initial_scale": self.initial_scale}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Normal":
        return cls(**config)


@keras.saving.register_keras_serializable("tfbnn.families")
class Point:
    """A single trained value: an ordinary Keras weight, without a prior and without KL.

    Example:

    >>> from tfbnn.weights import families
    >>> families.Point().get_config()
    {}
    """

    def build(self, add_weight: AddWeight, name: str, law: "WeightLaw", place: Place) -> Weight:
        """Make the variable of one weight with the layer's `add_weight`."""
        options = {"constraint": law.constraint, "regularizer": law.regularizer}
        return Weight(name, _variable(add_weight, name, place.shape, law.initializer, **options))

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Point":
        return cls(**config)


FAMILIES = {"normal": Normal, "point": Point}
"""The families `get` knows by name; each can be made without arguments."""


def get(identifier: "Normal | Point | str | dict") -> "Normal | Point":
    """The family that an object, a name in `FAMILIES` or a configuration stands for.

    Raises:
        ValueError: If the name is unknown, or `identifier` is none of the above.

    Example:

    >>> from tfbnn.weights import families
    >>> type(families.get("point")).__name__
    'Point'
    """
    expected = f"one of the names {sorted(FAMILIES)} or an object of `tfbnn.families`"
    family = identifier
    if isinstance(identifier, dict):
        deserialize = keras.saving.deserialize_keras_object
        family = arguments.interpreted("identifier", identifier, deserialize, expected)
    if isinstance(family, tuple(FAMILIES.values())):
        return family
    if isinstance(identifier, str) and identifier in FAMILIES:
        return FAMILIES[identifier]()
    raise ValueError(f"A posterior family must be {expected}. Received: identifier={identifier!r}")


@dataclasses.dataclass(frozen=True)
class WeightLaw:
    """What is said of one weight tensor before its shape is known.

    Attributes:
        prior: `p(w)`.
        posterior: The family of `q(w)`.
        initializer: Of the mean: a name, or an object that no other weight has.
        constraint: Of the mean, or None.
        regularizer: Of a point weight, or None.
    """

    prior: AbstractPrior = AutomaticRelevance()
    posterior: Normal | Point = Normal()
    initializer: Any = "glorot_uniform"
    constraint: Any = None
    regularizer: Any = None


def _variable(
    add_weight: AddWeight, name: str, shape: tuple[int, ...], initializer: Any, **options: Any
) -> keras.Variable:
    options = {"dtype": "float32", "autocast": False, **options}
    return add_weight(name=name, shape=shape, initializer=initializer, **options)
