"""Drawn steps: training steps at a draw of the weights, for optimizers that keep a law of them.

Most optimizers know one value of each variable, which the model computes with. A variational one
knows a law, of which the variables hold the mean: each pass of a step goes through a draw, and the
update is told what the draw was. The model's training step does not ask which of the two it has.
"""

import abc
import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import call_without_noise, inner_of, variables_as
from tfbnn.layers.variational import variational_layers
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.training import distribution
from tfbnn.training.recipes import Plan
from tfbnn.training.updates import apply_gradients
from tfbnn.weights import noise
from tfbnn.weights.abstract_prior import AbstractPrior


class AbstractVariationalOptimizer(keras.optimizers.Optimizer):
    """An optimizer of the normal law of each weight, whose mean the variable holds."""

    @property
    @abc.abstractmethod
    def prior(self) -> AbstractPrior:
        """The prior of every weight."""

    @abc.abstractmethod
    def follow(self, model: Any) -> None:
        """Take on the objective of the model that is compiled with it."""

    @abc.abstractmethod
    def seed_of_step(self) -> tf.Tensor:
        """A seed that no other step has."""

    @abc.abstractmethod
    def scales(self, variables: list[keras.Variable]) -> list[tf.Tensor]:
        """The standard deviation of each weight."""

    @abc.abstractmethod
    def apply_drawn(
        self, gradients: list[tf.Tensor], products: list[tf.Tensor], variables: list[Any]
    ) -> None:
        """Update the law.

        Args:
            gradients: The gradients at the draws, summed.
            products: Each gradient times the standard normals of its draw, summed.
            variables: The variables.
        """


class PlainStep:
    """A step at the values of the variables."""

    def __init__(self, model: Any):
        self._model = model

    @property
    def _variables(self) -> list[keras.Variable]:
        # Asked when they are needed: a subclassed model makes them in its first pass.
        return self._model.trainable_weights

    @contextlib.contextmanager
    def pass_of(self, tape: tf.GradientTape) -> Iterator[None]:
        """The context in which the model is called."""
        del tape
        yield

    def gradients(self, tape: tf.GradientTape, loss: tf.Tensor) -> list[Any]:
        """The gradients of a loss in the variables."""
        return tape.gradient(loss, self._variables)

    def by_variable(self, gradients: list[Any]) -> dict[int, Any]:
        """Gradients by the `id` of their variable."""
        return dict(zip(map(id, self._variables), gradients, strict=True))

    def apply(self, gradients: list[Any]) -> None:
        """Update the variables."""
        apply_gradients(self._model.optimizer, gradients, self._variables)


class DrawnStep(PlainStep):
    """A step at draws from the law that the optimizer keeps, one for each pass."""

    def __init__(self, model: Any, x: Any):
        super().__init__(model)
        optimizer = model.optimizer
        if not model.built:
            # There is nothing to draw before the first pass.
            call_without_noise(model, x)
            _check_plain(model, type(optimizer).__name__)
        if not optimizer.built:
            optimizer.build(self._variables)
        self._scales = optimizer.scales(self._variables)
        self._seed = noise.fold_in(optimizer.seed_of_step(), distribution.replica_number())
        self._normals: list[list[tf.Tensor]] = []
        self._drawn: list[list[tf.Tensor]] = []
        self._products: list[tf.Tensor] = []

    @contextlib.contextmanager
    def pass_of(self, tape: tf.GradientTape) -> Iterator[None]:
        seeds = noise.split(noise.fold_in(self._seed, len(self._drawn)), len(self._variables))
        normals = [
            noise.standard_normal(v.shape, s) for v, s in zip(self._variables, seeds, strict=True)
        ]
        laws = zip(self._variables, self._scales, normals, strict=True)
        drawn = [tf.convert_to_tensor(v.value) + scale * one for v, scale, one in laws]
        tape.watch(drawn)
        self._normals.append(normals)
        self._drawn.append(drawn)
        with variables_as(list(zip(self._variables, drawn, strict=True))) as scope:
            yield
        # Moving statistics and seeds, which the scope has kept to itself.
        for variable in self._model.non_trainable_variables:
            value = scope.get_current_value(variable)
            if value is not None:
                variable.assign(value)

    def gradients(self, tape: tf.GradientTape, loss: tf.Tensor) -> list[Any]:
        zero = tf.UnconnectedGradients.ZERO
        found = tape.gradient(loss, self._drawn, unconnected_gradients=zero)
        found = [[tf.convert_to_tensor(one) for one in of_pass] for of_pass in found]
        self._products = [
            tf.add_n([g * n for g, n in zip(of_variable, normals, strict=True)])
            for of_variable, normals in zip(
                zip(*found, strict=True), zip(*self._normals, strict=True), strict=True
            )
        ]
        return [tf.add_n(of_variable) for of_variable in zip(*found, strict=True)]

    def apply(self, gradients: list[Any]) -> None:
        self._model.optimizer.apply_drawn(gradients, self._products, self._variables)


def step_of(model: Any, x: Any) -> PlainStep:
    """The step that the optimizer of a model takes on a batch of inputs."""
    drawn = isinstance(model.optimizer, AbstractVariationalOptimizer)
    return DrawnStep(model, x) if drawn else PlainStep(model)


def follow(model: Any) -> None:
    """Let a variational optimizer know the model that was compiled with it."""
    if isinstance(inner_of(model.optimizer), AbstractVariationalOptimizer):
        inner_of(model.optimizer).follow(model)
        _check_not_scaled(model.optimizer)


def checked_optimizer(model: Any, plan: Plan, likelihoods: list[AbstractLikelihood]) -> Any:
    """The optimizer of a plan, if a model can be trained with it as the plan says.

    Raises:
        ValueError: If it keeps a law of the weights, and something has another law, or none.
    """
    optimizer = plan.optimizer
    if isinstance(optimizer, dict):
        optimizer = keras.optimizers.get(optimizer)
    if isinstance(inner_of(optimizer), AbstractVariationalOptimizer):
        name = type(inner_of(optimizer)).__name__
        _check_not_scaled(optimizer)
        _check_plain(model, name)
        _check_objective(plan, likelihoods, name)
    return optimizer


def _check_not_scaled(optimizer: Any) -> None:
    inner = inner_of(optimizer)
    if inner is not optimizer:
        raise ValueError(
            f"{type(inner).__name__} takes no scaled losses: compile with `auto_scale_loss=False`, "
            f"or compute in bfloat16. Received: optimizer of type {type(optimizer).__name__}"
        )


def _check_objective(plan: Plan, likelihoods: list[AbstractLikelihood], name: str) -> None:
    if plan.kl_schedule is not None:
        raise ValueError(
            f"{name} has no KL in its loss that a schedule could weigh; `beta` tempers it. "
            f"Received: kl_schedule={plan.kl_schedule!r}"
        )
    if not plan.beta:
        raise ValueError(
            f"{name} draws from a law that `beta` makes narrow, and 0 leaves nothing of: take a "
            f"positive one, or another optimizer. Received: beta={plan.beta}"
        )
    if any(one.noise_is_learned for one in likelihoods):
        raise ValueError(
            f"{name} learns a law of all that is trained, which the noise has not: give it, "
            "`NormalNLL(scale=0.1)`, or let the network say it, `NormalNLL(scale='head')`. "
            "Received: scale='learned'"
        )


def _check_plain(model: keras.Model, name: str) -> None:
    """Raise a `ValueError` if a model has random weights of its own, or penalties on weights."""
    random = [layer.name for layer in variational_layers(model)]
    if random:
        raise ValueError(
            f"{name} makes plain Keras layers random, and these have a law of their own: take the "
            f"layers of Keras, or another optimizer. Received: layers {random}"
        )
    penalised = [v.path for v in model.trainable_variables if v.regularizer is not None]
    if penalised:
        raise ValueError(
            f"{name} has a prior of its own, `prior_scale`: a regularizer would be a second one. "
            f"Received: regularizers of {penalised}"
        )
