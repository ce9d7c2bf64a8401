"""The objective: the only place that knows the number of training examples.

Per example, in nats:

`loss = mean over the batch of (NLL summed over event axes) + kl_weight * sum of KL(q || p)`

with `kl_weight = beta * schedule * warm_up / num_examples`. The KL is summed over all weights,
never averaged. With `beta = 1` and no schedule this is the negative ELBO divided by `num_examples`
(Blundell et al. 2015, eq. 2).
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import batches_seen
from tfbnn.layers.scopes import DrawCollector, active_collector
from tfbnn.layers.variational import random_maps, variational_layers
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.training import distribution, noise_variables, outputs, step_factors
from tfbnn.training.data import TrainingSize
from tfbnn.training.data_term import DataTerm, global_batch_size
from tfbnn.training.last_steps import LastSteps
from tfbnn.training.progress import FitProgress
from tfbnn.training.recipes import Plan, Recipe
from tfbnn.training.terms import TERMS, Term, record
from tfbnn.weights.sums import total


class Objective:
    """The two terms of the loss of a model, their weights, and what `compile` said of them.

    `num_examples`, `beta` and `num_batches` are variables: Keras caches its train function, in
    which a Python number would be frozen.
    """

    def __init__(self, num_examples: int | None = None):
        self.data_term = DataTerm()
        self.terms = [Term(name=name) for name in TERMS]
        self.num_examples: int | None = None
        # What the user said, as opposed to what a `fit` counted in its own data.
        self.given_num_examples: int | None = None
        self.beta = 1.0
        # Whether the next `fit` chooses it by validation.
        self.beta_is_open = False
        self.kl_schedule: Callable[[Any, Any], tf.Tensor] | None = None
        self.recipe: Recipe | None = None
        # Whether the user has named it.
        self.recipe_is_given = False
        self.progress = FitProgress()
        self.last_steps: LastSteps | None = None
        self.num_batches = 0
        self._variables = {
            name: keras.Variable(value, dtype="float32", trainable=False, name=name)
            for name, value in (("num_examples", 0.0), ("beta", 1.0), ("num_batches", 0.0))
        }
        if num_examples is not None:
            self.set_num_examples(num_examples)

    @property
    def likelihoods(self) -> list[AbstractLikelihood]:
        """One for each output of a compiled model."""
        return self.data_term.likelihoods

    def likelihood(self) -> AbstractLikelihood:
        """That of the only output."""
        if len(self.likelihoods) != 1:
            raise ValueError(
                "The model has no likelihood yet, or several: call `compile(loss=...)`, or use "
                f"`likelihoods`. Received: {len(self.likelihoods)} likelihoods"
            )
        return self.likelihoods[0]

    def interpreted(self, model: keras.Model, loss: Any) -> tuple[list[AbstractLikelihood], Any]:
        """The likelihoods that `compile(loss=...)` asks for, and the losses for Keras."""
        if loss is None:
            return self.likelihoods, None
        found = outputs.likelihoods_of(model, loss)
        noise_variables.settle_numbers(model, found)
        return found, outputs.like(model, loss, [likelihood.loss for likelihood in found])

    def follow(self, model: keras.Model, plan: Plan, new: list[AbstractLikelihood]) -> None:
        """Take on what a model was compiled with."""
        self.set_likelihoods(model, new)
        self.data_term.weights = outputs.loss_weights(model)
        self.set_beta(plan.beta, plan.beta_is_open)
        self.set_recipe(model, plan.recipe, plan.recipe_is_given)
        self.kl_schedule = plan.kl_schedule

    def set_likelihoods(self, model: keras.Model, new: list[AbstractLikelihood]) -> None:
        """Take on the likelihoods, with variables of the model for their noise."""
        noise_variables.hand_over(model, self.likelihoods, new)
        self.data_term.likelihoods = new

    def set_num_examples(self, num_examples: int, is_given: bool = True) -> None:
        """Set the number of training examples in the whole data set, over all workers.

        If it `is_given` by the user, it holds for data that cannot be counted.
        """
        self.num_examples = arguments.count("num_examples", num_examples, most=2**63 - 1)
        if is_given:
            self.given_num_examples = self.num_examples
        self._variables["num_examples"].assign(float(self.num_examples))

    def set_beta(self, beta: float, is_open: bool = False) -> None:
        """Set the factor of the KL; if it `is_open`, the next `fit` chooses it by validation."""
        self.beta, self.beta_is_open = arguments.not_negative("beta", beta), is_open
        self._variables["beta"].assign(self.beta)

    def set_recipe(self, model: keras.Model, recipe: Recipe | None, is_given: bool) -> None:
        """Train by a recipe, with the optimizer that the model has."""
        self.recipe, self.recipe_is_given = recipe, is_given
        step_factors.install(recipe, self.progress, model)

    def set_size(self, size: TrainingSize, epochs: int) -> None:
        """Set the numbers of examples, of batches in an epoch, and of epochs."""
        self.set_num_examples(size.num_examples, is_given=False)
        self.num_batches = size.num_batches
        self.progress.num_steps = epochs * size.num_batches
        self._check_num_batches()
        scheduled = self.recipe and (self.recipe.warm_up or self.recipe.learning_rate)
        if scheduled and self.recipe_is_given and not size.num_batches:
            raise ValueError(f"A recipe {_NEEDS_BATCHES}")
        self._variables["num_batches"].assign(float(size.num_batches))

    def begin_schedules(self, optimizer: Any, epoch: int, batch: int = 0) -> None:
        """Tell the schedules of the recipe that training goes on at a batch of an epoch.

        Both are counted from 0, the epoch over all that `fit` was asked for.
        """
        if optimizer is not None:
            done = epoch * self.num_batches + batch
            self.progress.begin(int(batches_seen(optimizer)) - done)

    def loss(
        self,
        model: keras.Model,
        y: Any,
        y_pred: Any,
        sample_weight: Any,
        others: list[Any],
        training: bool,
    ) -> tf.Tensor:
        """This replica's share of the loss of a batch, per example and in nats; see `terms`.

        `others` are losses of the model beside the KL, which is added in training.
        """
        rows, replicas = global_batch_size(y_pred), distribution.num_replicas()
        y, sample_weight = (outputs.in_order(model, one) for one in (y, sample_weight))
        nll = self.data_term.nll(y, y_pred, sample_weight, rows)
        # Every replica counts the same, however few rows it has: its share knows.
        record(self.terms, rows / replicas, nll=nll * replicas)
        if training:
            _check_noise(model)
            kl, kl_weight = self.kl_and_weight(model)
            record(self.terms, kl=kl, kl_weight=kl_weight, weighted_kl=kl_weight * kl)
            others = [kl_weight * kl, *others]
        others = [tf.reduce_sum(tf.cast(other, tf.float32)) for other in others]
        return total([nll, *(other / replicas for other in others)])

    def kl_weight(self, step: Any) -> tf.Tensor:
        """`beta * schedule(step) * warm_up(step) / num_examples` after so many steps, a scalar."""
        self._check_num_batches()
        values = {name: tf.convert_to_tensor(v.value) for name, v in self._variables.items()}
        factor = 1.0
        if self.kl_schedule is not None:
            factor = self.kl_schedule(step, values["num_batches"])
        if self.recipe is not None:
            factor *= self.recipe.kl_factor(self.progress, step)
        return values["beta"] * factor / values["num_examples"]

    def tempered_num_examples(self, least: float = 0.0) -> tf.Tensor:
        """`max(num_examples, least) / beta`, a scalar: as how many examples the rows count."""
        values = {name: tf.convert_to_tensor(v.value) for name, v in self._variables.items()}
        return tf.maximum(values["num_examples"], least) / values["beta"]

    def weighted_kl(self, model: keras.Model) -> list[tf.Tensor]:
        """The KL of a model times its weight; none where there is nothing random, or to train."""
        is_trained = any(one.called_with_noise for one in random_maps(model))
        if not any(variational_layers(model)) or (self.num_examples is None and not is_trained):
            return []
        kl, kl_weight = self.kl_and_weight(model)
        return [kl_weight * kl]

    def kl_and_weight(self, model: keras.Model) -> tuple[tf.Tensor, tf.Tensor]:
        """The KL of a forward pass, as far as it was collected, and its weight in this step."""
        if self.num_examples is None:
            raise ValueError(
                "The ELBO needs the number of training examples: use `fit`, or set it with "
                "`model.num_examples = ...`. Received: num_examples=None"
            )
        step = 0 if model.optimizer is None else batches_seen(model.optimizer)
        return total_kl(model, active_collector()), self.kl_weight(step)

    def _check_num_batches(self) -> None:
        if self.kl_schedule is not None and self.num_batches == 0:
            raise ValueError(f"A KL schedule {_NEEDS_BATCHES}")


_NEEDS_BATCHES = (
    "needs the number of batches in an epoch: use `fit`, with `steps_per_epoch=` where the data do "
    "not tell. Received: num_batches=0"
)


def _check_noise(model: keras.Model) -> None:
    collector = active_collector()
    # A step of the user's own need not collect: its KL is computed here, at a draw of its own.
    noisy = {one for one in random_maps(model) if one.called_with_noise}
    if collector is not None:
        noisy = collector.maps.intersection(random_maps(model))
    if not noisy and any(variational_layers(model)):
        raise ValueError(
            "No variational layer was called with noise, so the model would be trained at the "
            "posterior mean. Pass `training` on to the layers in the model's `call`. "
            f"Received: model={model.name!r}"
        )


def total_kl(model: keras.Layer, collector: DrawCollector | None) -> tf.Tensor:
    """Sum of `KL(q || p)` over all random weights of a model, in nats, each weight once.

    The KL of weights that the forward pass did not meet, whose collector is given, is computed
    here, a Monte Carlo one at a draw of its own.
    """
    known = {} if collector is None else collector.divergences
    terms = [tf.zeros([])]
    for one in random_maps(model):
        for weight in one.variational_weights:
            if weight in known:
                terms.append(known[weight])
            else:
                terms.append(weight.kl(None if weight.kl_is_exact else one.next_seed()))
    return total(terms)
