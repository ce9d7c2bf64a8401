"""Space: what is searched over, as data. A range or a tuple of choices for each hyperparameter."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras_tuner
import numpy as np

from tfbnn import arguments
from tfbnn.layers.estimators import ESTIMATORS
from tfbnn.training.recipes import RECIPES
from tfbnn.weights.priors import PRIORS, AbstractPrior


@dataclasses.dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`.

    Args:
        low: Smallest number.
        high: Largest number.
        log: Whether each factor, not each difference, is equally likely.

    Raises:
        ValueError: If the range is empty or not finite, or `log` is asked for at or below 0.
    """

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        ends = {"low": arguments.real_number, "high": arguments.real_number}
        arguments.check_fields(self, **ends, log=arguments.boolean)
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(
                "A range goes from a smaller to a larger finite number, both above 0 if it is "
                f"logarithmic. Received: low={self.low}, high={self.high}, log={self.log}"
            )

    @property
    def middle(self) -> float:
        """The number that half of the range lies below."""
        return math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2


Values = Range | tuple

# Standard deviations around 1 / sqrt(inputs of a unit), which is what a layer without prior starts
# with; for the mixture the grid of Blundell et al. 2015, sec. 5.1, with room around it.
DEFAULT_PRIORS: Mapping[str, Mapping[str, Values]] = {
    "automatic_relevance": {},
    "fan_in": {},
    "normal": {"scale": Range(0.03, 1.0)},
    "scale_mixture": {
        "pi": (0.25, 0.5, 0.75),
        "sigma1": Range(0.3, 3.0),
        "sigma2": Range(5e-4, 0.05),
    },
    "laplace": {"scale": Range(0.02, 0.7)},
}


@dataclasses.dataclass(frozen=True)
class Space:
    """The space of a search. A tuple with one value is not searched over.

    Args:
        estimators: Endings of the names of layers, such as `"Flipout"`.
        priors: For each prior, a name in `tfbnn.priors`, the values of its arguments; those that
            are left out keep their default. They exist only in trials with this prior.
        recipes: Names in `tfbnn.recipes`: how training goes, but for `beta`, `warm_up` and
            `learning_rate`.
        initial_scale: Posterior standard deviation at the start, in the unit of the weights, or
            `"fan_in"`.
        beta: Factor of the KL; None for that of the recipe. Only 1 is the ELBO. Less often has a
            better validation NLL and overstates what the data say about the weights, so anything
            else must be asked for, here or by `recipes`.
        warm_up: Share of the steps over which the KL is warmed up, from 0 to 1; None for that of
            the recipe.
        depths: Numbers of hidden layers of `perceptron`.
        widths: Units of each of them.
        learning_rate: Of the recipe, in the place of its own.

    Raises:
        ValueError: If a name is unknown, or a hyperparameter has no values.

    Example:

    >>> from tfbnn import search
    >>> space = search.Space(estimators=("Flipout",), recipes=("calibrated", "sparse"))
    >>> space.learning_rate
    Range(low=0.0005, high=0.02, log=True)
    """

    estimators: tuple[str, ...] = ("Flipout", "LocalReparameterization", "Reparameterization")
    priors: Mapping[str, Mapping[str, Values]] = dataclasses.field(
        default_factory=lambda: DEFAULT_PRIORS
    )
    recipes: tuple[str, ...] = ("elbo",)
    initial_scale: Values = ("fan_in",)
    beta: Values | None = None
    warm_up: Values | None = None
    depths: tuple[int, ...] = (1, 2)
    widths: tuple[int, ...] = (32, 64, 128)
    learning_rate: Values = Range(5e-4, 0.02)

    def __post_init__(self) -> None:
        _check_known("estimators", self.estimators, _estimators())
        _check_known("recipes", self.recipes, RECIPES)
        for name, check in _CHECKS.items():
            given = getattr(self, name)
            if given is not None or name not in _OF_THE_RECIPE:
                object.__setattr__(self, name, _checked_values(name, given, check))
        _check_known("priors", self.priors, PRIORS)
        object.__setattr__(
            self, "priors", {n: _checked_prior(n, v) for n, v in self.priors.items()}
        )


def choose(hp: keras_tuner.HyperParameters, name: str, values: Values) -> Any:
    """The value of a hyperparameter in this trial; None where its scope is not active.

    Args:
        hp: Hyperparameters of the trial.
        name: Name of the hyperparameter.
        values: Its range, or its choices; a single one is fixed.

    Raises:
        TypeError: If `hp` is none.
        ValueError: If there are no values.
    """
    arguments.instance("hp", hp, keras_tuner.HyperParameters, "the hyperparameters of a trial")
    name, values = arguments.text("name", name), _checked_values("values", values, _choice)
    if isinstance(values, tuple) and len({type(value) for value in values}) > 1:
        raise ValueError(f"`values` must be of one type. Received: values={values}")
    if isinstance(values, Range):
        sampling = "log" if values.log else "linear"
        return hp.Float(name, values.low, values.high, sampling=sampling, default=values.middle)
    if len(values) == 1:
        return hp.Fixed(name, values[0])
    return hp.Choice(name, list(values))


def choose_prior(
    hp: keras_tuner.HyperParameters, priors: Mapping[str, Mapping[str, Values]]
) -> AbstractPrior:
    """The prior of this trial. Its arguments are hyperparameters `<prior>_<argument>`."""
    chosen = choose(hp, "prior", tuple(priors))
    options = {}
    for name, given in priors.items():
        # keras-tuner must see the arguments of every prior, also of those that are not chosen.
        with hp.conditional_scope("prior", [name]):
            values = {key: choose(hp, f"{name}_{key}", value) for key, value in given.items()}
        if name == chosen:
            options = values
    return PRIORS[chosen](**options)


def _estimators() -> list[str]:
    return [estimator.title().replace("_", "") for estimator in ESTIMATORS]


def _check_known(name: str, values: tuple[str, ...], known: Collection[str]) -> None:
    named = isinstance(values, tuple | Mapping) and all(isinstance(v, str) for v in values)
    if not named or not values or not set(values) <= set(known):
        raise ValueError(f"`{name}` must be some of {sorted(known)}. Received: {name}={values!r}")


def _checked_values(name: str, values: Any, check: Callable[[str, Any], Any]) -> Values:
    """A range, or a tuple of values, each of which passes the check of a single one."""
    if isinstance(values, Range):
        for end in (values.low, values.high):
            check(name, end)
        return values
    if not isinstance(values, tuple) or not values:
        raise ValueError(
            f"`{name}` must be a `Range` or a tuple of at least one value. "
            f"Received: {name}={values!r}"
        )
    return tuple(arguments.listed(name, values, check))


def _choice(name: str, value: Any) -> Any:
    """What keras-tuner can choose from and keep in JSON."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    try:
        return arguments.whole_number(name, value)
    except ValueError:
        return arguments.real_number(name, value)


def _checked_prior(name: str, given: Any) -> dict[str, Values]:
    """The values of a prior's arguments, each of which makes a prior."""
    known = PRIORS[name]().get_config()
    if not isinstance(given, Mapping) or not set(given) <= set(known):
        raise ValueError(
            f"`priors[{name!r}]` must hold values of the arguments {sorted(known)}. "
            f"Received: priors[{name!r}]={given!r}"
        )

    def check(argument: str) -> Callable[[str, Any], float]:
        return lambda _, value: PRIORS[name](**{argument: value}).get_config()[argument]

    where = f"priors[{name!r}]"
    return {a: _checked_values(f"{where}[{a!r}]", v, check(a)) for a, v in given.items()}


# None leaves them to it.
_OF_THE_RECIPE = ("beta", "warm_up")
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "initial_scale": arguments.standard_deviation_or_fan_in,
    "beta": arguments.not_negative,
    "warm_up": arguments.share,
    "depths": arguments.count,
    "widths": arguments.count,
    "learning_rate": arguments.positive,
}
