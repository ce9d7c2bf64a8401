"""`BayesianHyperModel`: from hyperparameters to a model, its training and its score."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner
from keras_tuner.errors import FailedTrialError, FatalValueError

import tfbnn.layers
from tfbnn import arguments
from tfbnn.likelihoods.table import likelihood_of
from tfbnn.search.objectives import MonteCarloNLL
from tfbnn.search.space import Space, choose, choose_prior
from tfbnn.training.models import Sequential
from tfbnn.training.recipes import RECIPES, Recipe
from tfbnn.weights.families import Normal

Network = Callable[[keras_tuner.HyperParameters, Callable, Callable | None], Sequence[keras.Layer]]


def perceptron(outputs: int, space: Space | None = None) -> Network:
    """The network searched by default: dense layers, whose number and widths are searched.

    Args:
        outputs: Number of outputs.
        space: Its `depths` and `widths` are used.

    Returns:
        A function for `BayesianHyperModel(network=...)`. Hyperparameters: `depth`, `width_1`, ...
    """
    outputs, space = arguments.count("outputs", outputs), _checked_space(space)

    def network(hp: keras_tuner.HyperParameters, dense: Callable, convolution: Any) -> list:
        del convolution
        depth = choose(hp, "depth", space.depths)
        layers = [keras.layers.Flatten()]
        for position in range(1, max(space.depths) + 1):
            with hp.conditional_scope("depth", [d for d in space.depths if d >= position]):
                width = choose(hp, f"width_{position}", space.widths)
            if position <= depth:
                layers.append(dense(width, activation="relu"))
        return [*layers, dense(outputs)]

    return network


class BayesianHyperModel(keras_tuner.HyperModel):
    """A Bayesian network whose hyperparameters are searched.

    Hyperparameters: `estimator`, `prior`, `<prior>_<argument>`, `initial_scale`, `recipe`, `beta`
    and `warm_up` if the space has them, `learning_rate`, and those of the network. A trial is
    trained as its recipe says, with the `learning_rate` of the trial, and is a function of its
    hyperparameters: weights, noise and the order of the rows start from `seed`, so a trial that is
    run again gives the same score.

    Args:
        input_shape: Shape of one row of inputs.
        outputs: Number of outputs of the perceptron; for `network` leave it out.
        space: What is searched over.
        network: A function `(hp, dense, convolution)` that returns the layers between input and
            output. `dense(units, ...)` and `convolution(filters, kernel_size, ...)` make layers
            with the estimator, prior and initial scale of the trial; the rank of the convolution is
            that of the inputs, and it is None where they have none. It may ask `hp` for
            hyperparameters of its own.
        loss: A loss that is a likelihood. Each trial gets a copy.
        objective: What a trial is scored by, see `tfbnn.search.objectives`.
        optimizer: Makes an optimizer from a learning rate, in the place of the recipe's; it has the
            schedule of the rate that it is made with, as in `compile`.
        seed: A whole number, or None for another one in each trial.

    Raises:
        TypeError: If an argument is an object of another kind.
        ValueError: If neither or both of `outputs` and `network` are given, the loss is no
            likelihood, or an argument is out of its range.

    Example:

    >>> import keras_tuner
    >>> from tfbnn import search
    >>> hypermodel = search.BayesianHyperModel((8, 8, 1), outputs=10)
    >>> hp = keras_tuner.HyperParameters()
    >>> hypermodel.build(hp).output_shape
    (None, 10)
    >>> hp["prior"], hp["recipe"], round(hp["learning_rate"], 4)
    ('automatic_relevance', 'elbo', 0.0032)
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None = None,
        space: Space | None = None,
        network: Network | None = None,
        loss: keras.losses.Loss | None = None,
        objective: Any = None,
        optimizer: Callable[[float], keras.optimizers.Optimizer] | None = None,
        seed: int | None = 0,
    ):
        super().__init__()
        if (outputs is None) == (network is None):
            raise ValueError(
                "Give either `outputs`, for a perceptron, or `network`. "
                f"Received: outputs={outputs}, network={network}"
            )
        self.input_shape = tuple(arguments.listed("input_shape", input_shape, arguments.count))
        self.space = _checked_space(space)
        self.network = (
            perceptron(outputs, self.space) if network is None else _called("network", network)
        )
        self.loss = _checked_loss(loss)
        self.objective = MonteCarloNLL() if objective is None else _called("objective", objective)
        arguments.text("objective.name", getattr(self.objective, "name", None))
        self.optimizer = None if optimizer is None else _called("optimizer", optimizer)
        self.seed = None if seed is None else arguments.seed("seed", seed, 0, 2**32 - 1)

    @property
    def tuner_objective(self) -> keras_tuner.Objective:
        """The objective as keras-tuner's tuners take it."""
        return keras_tuner.Objective(self.objective.name, "min")

    def build(self, hp: keras_tuner.HyperParameters) -> Sequential:
        """A compiled model with the hyperparameters of one trial."""
        self._start_seed()
        dense, convolution = self._layer_makers(hp)
        layers = self.network(hp, dense, convolution)
        model = Sequential([keras.Input(self.input_shape), *layers])
        recipe = _recipe(hp, self.space)
        optimizer = self.optimizer(recipe.learning_rate) if self.optimizer else "adam"
        model.compile(optimizer, loss=_copy(self.loss), recipe=recipe)
        # Hyperband trains a checkpoint further: the momentum and the step it had reached are
        # restored only where there are variables for them.
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: Sequential,
        x: Any = None,
        y: Any = None,
        *,
        validation_data: Any = None,
        epochs: int = 1,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **options: Any,
    ) -> dict[str, float]:
        """Train and score one trial; the arguments are those of the tuner's `search`.

        The trial is scored on `validation_data`, `(x, y)` or `(x, y, sample_weight)`; Hyperband
        sets `epochs`, of training in all, and `initial_epoch`, those trained before.

        Returns:
            The scores of the objective, and `seconds`.

        Raises:
            FailedTrialError: If the loss or a score is NaN or infinite, or the model cannot be
                exported. The tuner notes the trial as failed, and goes on.
            FatalValueError: If there are no validation data. The search ends.
        """
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise FatalValueError(
                "Trials are scored on validation data: pass `validation_data=(x, y)`, or "
                "`(x, y, sample_weight)`, to `search`. "
                f"Received: validation_data of type {type(validation_data).__name__}"
            )
        self._start_seed()
        start = time.perf_counter()
        options = {"verbose": 0, **options}
        schedule = {"epochs": epochs, "initial_epoch": initial_epoch}
        model.fit(x, y, callbacks=[_StopAtNaN(), *callbacks], **schedule, **options)
        scores = self._scores(model, *validation_data)
        return {**scores, "seconds": time.perf_counter() - start}

    def _layer_makers(self, hp: keras_tuner.HyperParameters) -> tuple[Callable, Callable | None]:
        estimator = choose(hp, "estimator", self.space.estimators)
        initial_scale = choose(hp, "initial_scale", self.space.initial_scale)
        options = {
            "kernel_prior": choose_prior(hp, self.space.priors),
            "kernel_posterior": Normal(initial_scale=initial_scale),
        }
        dense = functools.partial(getattr(tfbnn.layers, f"Dense{estimator}"), **options)
        convolution = getattr(
            tfbnn.layers, f"Convolution{len(self.input_shape) - 1}D{estimator}", None
        )
        return dense, convolution and functools.partial(convolution, **options)

    def _scores(self, model: Sequential, *data: Any) -> dict[str, float]:
        try:
            scores = self.objective(model, *data)
        except RuntimeError as error:
            # An exported file that disagrees with Keras is this trial's fault, not the search's.
            raise FailedTrialError(f"The trial could not be scored: {error}") from error
        if not all(map(math.isfinite, scores.values())):
            raise FailedTrialError(f"A score is not finite. Received: {scores}")
        return scores

    def _start_seed(self) -> None:
        if self.seed is not None:
            keras.utils.set_random_seed(self.seed)


def _recipe(hp: keras_tuner.HyperParameters, space: Space) -> Recipe:
    recipe = RECIPES[choose(hp, "recipe", space.recipes)]
    names = ("beta", "warm_up", "learning_rate")
    searched = {name: getattr(space, name) for name in names}
    chosen = {name: choose(hp, name, v) for name, v in searched.items() if v is not None}
    return dataclasses.replace(recipe, **chosen)


def _checked_space(space: Space | None) -> Space:
    return Space() if space is None else arguments.instance("space", space, Space, "a `Space`")


def _called(name: str, value: Any) -> Any:
    if not callable(value):
        raise TypeError(
            f"`{name}` must be a function. Received: {name} of type {type(value).__name__}"
        )
    return value


def _checked_loss(loss: Any) -> keras.losses.Loss:
    if loss is None:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    arguments.instance("loss", loss, keras.losses.Loss, "a loss object")
    likelihood_of(loss)
    return loss


class _StopAtNaN(keras.callbacks.Callback):
    """Ends a trial whose loss is NaN or infinite, in the epoch in which it becomes so."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise FailedTrialError(
                f"The loss is {loss} after epoch {epoch + 1}: a smaller learning rate, or a "
                "smaller initial scale, may help."
            )


def _copy(loss: keras.losses.Loss) -> keras.losses.Loss:
    """A loss without the state of other trials: that of `NormalNLL` learns its scale."""
    return keras.losses.deserialize(keras.losses.serialize(loss))
