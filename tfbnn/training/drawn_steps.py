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

from tfbnn.layers.keras_internals import call_without_noise, variables_as
from tfbnn.layers.variational import variational_layers
from tfbnn.training import distribution
from tfbnn.training.updates import apply_gradients
from tfbnn.weights import noise


class AbstractVariationalOptimizer(keras.optimizers.Optimizer):
    """An optimizer of the normal law of each weight, whose mean the variable holds."""

    @abc.abstractmethod
    def follow(self, model: Any) -> None:
        """Take on the objective of the model that is compiled with it, or refuse the model."""

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
            optimizer.follow(model)
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
    if isinstance(model.optimizer, AbstractVariationalOptimizer):
        model.optimizer.follow(model)


def check_plain(model: keras.Model, name: str) -> None:
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
