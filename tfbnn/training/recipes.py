"""Recipes: how the settings of training fit together, so that the posterior is worth its price.

| recipe | beta | take it when |
|---|---|---|
| `"calibrated"` | 0.3 | predictions and their uncertainty are what you want |
| `"elbo"` | 1 | the ELBO itself is: an exact posterior, comparing models (prior `FanIn`) |
| `"sparse"` | 1 | you will remove 90 % of the weights, or more |

A recipe sets what the user did not. Only a recipe, or `beta=`, makes the objective something else
than the ELBO.
"""

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.training import schedules
from tfbnn.training.named_objects import named_object
from tfbnn.training.progress import FitProgress

# Inputs of a unit up to which the learning rates here were chosen.
_WIDEST = 128


@keras.saving.register_keras_serializable("tfbnn.recipes")
@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of training that were tried together.

    `step = learning_rate * (1 + cos(pi * t)) / 2` and `kl_weight = beta * min(1, t / warm_up) / N`,
    where `t` goes from 0 to 1 over the steps of one `fit`. Steps of random kernels whose units sum
    over more than 128 inputs are `128 / fan_in` times as long, those of `rho` `rho_factor` times. A
    later `fit` starts at `t = 0` again; `initial_epoch` and `ResumeTraining` go on.

    Args:
        beta: Factor of the KL; 1 is the ELBO, less a cold posterior.
        learning_rate: Of Adam, at the start; None for 0.01 without a schedule. Where the user gives
            the optimizer, that one is left alone, and its rate is constant if it is a number.
            With it goes the factor of wide layers, whose units each step moves the further the more
            inputs they have.
        rho_factor: Factor of the steps of `rho`, of which the standard deviations are made, under
            any optimizer: they have further to go than the means.
        warm_up: Share of the steps over which the weight of the KL rises, from 0 (none) to 1.
            Without it narrow data make the posterior fall back to the prior.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> import tfbnn
    >>> tfbnn.recipes.get("elbo").beta
    1.0

    References:
        Wenzel et al. 2020, "How Good is the Bayes Posterior in Deep Neural Networks Really?", for
        `beta`; Sonderby et al. 2016, "Ladder Variational Autoencoders", sec. 2.3, for the warm-up;
        Yang et al. 2022, "Tensor Programs V", tab. 3, for the steps of wide layers.
    """

    beta: float = 1.0
    learning_rate: float | None = 1e-2
    rho_factor: float = 3.0
    warm_up: float = 0.8

    def __post_init__(self) -> None:
        checks = {"beta": arguments.not_negative, "rho_factor": arguments.positive}
        if self.learning_rate is not None:
            checks["learning_rate"] = arguments.positive
        arguments.check_fields(self, **checks, warm_up=arguments.share)

    def describe(self, num_steps: int, widest: int = 0) -> str:
        """What the recipe does over the steps of a `fit`, in words.

        `num_steps` is 0 if it is not known, `widest` the largest fan-in of a kernel.
        """
        parts = []
        if self.learning_rate is not None:
            falls = f" falling to 0 over {num_steps} steps" if num_steps else ", constant"
            parts.append(f"learning rate {self.learning_rate:g}{falls}{_of_wide(widest)}")
        if self.rho_factor != 1:
            parts.append(f"steps of rho x {self.rho_factor:g}")
        if self.warm_up and num_steps:
            parts.append(f"KL warm-up over {math.ceil(self.warm_up * num_steps)} steps")
        return ", ".join(parts)

    def kl_factor(self, progress: FitProgress, step: Any) -> tf.Tensor:
        """What the weight of the KL is multiplied with, after `step` steps of the optimizer."""
        if not self.warm_up:
            return tf.ones([])
        return tf.minimum(1.0, progress.share_after(step) / self.warm_up)

    def step_factor(self, progress: FitProgress, step: Any) -> tf.Tensor:
        """What the learning rate is multiplied with."""
        if self.learning_rate is None:
            return tf.ones([])
        return 0.5 * (1.0 + tf.cos(progress.share_before(step) * math.pi))

    def share_of_step(self, fan_in: int) -> float:
        """What the steps of a kernel are multiplied with, whose units sum over `fan_in` inputs."""
        return 1.0 if self.learning_rate is None else min(1.0, _WIDEST / fan_in)

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Recipe":
        return cls(**config)


RECIPES = {
    "calibrated": Recipe(beta=0.3),
    "elbo": Recipe(),
    "sparse": Recipe(warm_up=0.5),
}
"""The recipes `get` knows by name."""


def _of_wide(widest: int) -> str:
    return f" (x {_WIDEST} / fan-in of kernels above {_WIDEST})" if widest > _WIDEST else ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `compile` makes of the user's settings and a recipe.

    The recipe is without what the user decided, None if nothing is left; `recipe_is_given` says
    whether the user has named it, `beta_is_open` whether the next `fit` chooses `beta`. The
    schedule is in the place of the recipe's warm-up.
    """

    optimizer: Any
    recipe: Recipe | None
    recipe_is_given: bool
    beta: float
    beta_is_open: bool
    kl_schedule: Any


def plan(optimizer: Any, recipe: Any, beta: float | str | None, kl_schedule: Any) -> Plan:
    """The user's settings, those of `compile`, and of the recipe what they leave open.

    Without a recipe, `"adam"` by name is trained as `"elbo"` says. Settings that contradict the
    recipe are a `ValueError`.
    """
    by_name = isinstance(optimizer, str) and optimizer.lower() == "adam"
    given = get(recipe)
    factor = beta
    if beta is not None:
        factor = arguments.number_or("validation", arguments.not_negative, "beta", beta)
    is_open = factor == "validation"
    factor = None if is_open else factor
    if given == RECIPES["elbo"] and (is_open or factor not in (None, 1)):
        raise ValueError(
            "With this `beta` the objective is not the ELBO: leave one of them out, or take "
            f"another recipe. Received: recipe={recipe!r}, beta={beta!r}"
        )
    kl_schedule = arguments.interpreted(
        "kl_schedule", kl_schedule, schedules.get, "a schedule of the KL"
    )
    used = (given or RECIPES["elbo"]) if given or by_name else None
    if factor is None:
        factor = used.beta if used else 1.0
    if by_name:
        optimizer = keras.optimizers.Adam(used.learning_rate or RECIPES["elbo"].learning_rate)
    elif used:
        used = dataclasses.replace(used, learning_rate=None)
    if used and kl_schedule is not None:
        used = dataclasses.replace(used, warm_up=0.0)
    return Plan(optimizer, used, given is not None, factor, is_open, kl_schedule)


def get(identifier: Any) -> Recipe | None:
    """The recipe that an object, a name in `RECIPES` or a configuration stands for; None for None.

    Raises:
        ValueError: If it stands for none.
    """

    def check(found: Any) -> Recipe:
        if not isinstance(found, Recipe):
            raise TypeError("it is no such object")
        return found

    return named_object("recipe", identifier, RECIPES, check, "tfbnn.recipes")
