"""Step factors: how long an optimizer's steps of each variable are, as the recipe says."""

import weakref
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import batches_seen, inner_of, key_in
from tfbnn.layers.variational import variational_weights
from tfbnn.training.progress import FitProgress
from tfbnn.training.recipes import Recipe
from tfbnn.weights.families import NormalWeight


class StepFactors:
    """Factors of the learning rate, one for each variable, whoever calls the optimizer.

    They work in `update_step`, where Keras' optimizers, and those that users derive from them, are
    told the rate. What a user reads and sets as `learning_rate` stays what it was. Keras calls
    `update_step` for all replicas of a variable, and in places of its own, so it is replaced on the
    object, once, and not around a call. `factor_of` is asked with the optimizer's own key of a
    variable.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, factor_of: Callable[[Any], Any]):
        self._optimizer = inner_of(optimizer)
        self._factor_of = factor_of

    def __call__(self, gradient: Any, variable: Any, learning_rate: Any) -> Any:
        """`update_step` of Keras, at another rate."""
        rate = tf.cast(learning_rate, tf.float32) * self.of(variable)
        return type(self._optimizer).update_step(self._optimizer, gradient, variable, rate)

    def of(self, variable: Any) -> Any:
        """The factor of a variable."""
        return self._factor_of(key_in(self._optimizer, variable))

    def install(self) -> None:
        """Let the optimizer work with these factors, and no others."""
        # Not by way of `setattr`, which Keras has made to track what it sets.
        self._optimizer.__dict__["update_step"] = self


def step_factors(optimizer: keras.optimizers.Optimizer) -> StepFactors | None:
    """The factors that are installed on an optimizer, if any are."""
    # A user may have put a function of their own in its place.
    found = vars(inner_of(optimizer)).get("update_step")
    return found if isinstance(found, StepFactors) else None


def without_step_factors(optimizer: keras.optimizers.Optimizer) -> None:
    """Let the optimizer work without factors, such as those of another model."""
    if step_factors(optimizer) is not None:
        del inner_of(optimizer).__dict__["update_step"]


def install(recipe: Recipe | None, progress: FitProgress, model: keras.Model) -> None:
    """Let the optimizer of a model take steps as long as a recipe says, if there is one."""
    optimizer = model.optimizer
    if optimizer is None:
        return
    without_step_factors(optimizer)
    if recipe is None:
        return
    # Not one for each variable of a step: all are functions of the same two numbers.
    known: Any = weakref.WeakKeyDictionary()

    def factor_of(key: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        if tf.executing_eagerly() or graph not in known:
            factor = recipe.step_factor(progress, batches_seen(optimizer))
            known[graph] = factor, _shares_of_step(recipe, variational_weights(model), optimizer)
        factor, shares = known[graph]
        return factor * shares.get(key, 1.0)

    StepFactors(optimizer, factor_of).install()


def _shares_of_step(
    recipe: Recipe, weights: list[NormalWeight], optimizer: Any
) -> dict[Any, float]:
    """For the variables of random weights what a recipe multiplies their steps with."""
    shares = {}
    for weight in weights:
        share = recipe.share_of_step(weight.fan_in) if len(weight.shape) > 1 else 1.0
        shares[key_in(optimizer, weight.loc_variable)] = share
        shares[key_in(optimizer, weight.rho_variable)] = share * recipe.rho_factor
    return shares
