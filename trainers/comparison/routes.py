"""Routes: each from an untrained network and data to a posterior, with the same budget of steps.

To add one: a function `(build, task, settings) -> posterior`, and a row in `ROUTES`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

import tfbnn
from tfbnn.posterior.routes import posterior_of
from trainers.comparison.networks import Build
from trainers.comparison.tasks import Task

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Posterior = tfbnn.posteriors.AbstractPosterior


def deterministic(build: Build, task: Task, settings: Any) -> Posterior:
    """One network, trained with weight decay."""
    return tfbnn.posteriors.MAP(_trained(build(), task, settings))


def mean_field(build: Build, task: Task, settings: Any) -> Posterior:
    """Variational inference, by the recipe for predictions."""
    model = tfbnn.to_bayesian(build(), scale=None, fresh=True, verbose=0)
    model.compile(loss=LOSS, recipe="calibrated")
    return posterior_of(_without_optimizer(_fitted(model, task, settings)))


def mc_dropout(build: Build, task: Task, settings: Any) -> Posterior:
    """The networks that dropout leaves."""
    return tfbnn.posteriors.MCDropout(_trained(build(settings.mc_dropout_rate), task, settings))


def ensemble(build: Build, task: Task, settings: Any) -> Posterior:
    """Several networks, one after the other from the random state where the last one ended."""
    return tfbnn.posteriors.Ensemble(
        [_trained(build(), task, settings) for _ in range(settings.ensemble_members)]
    )


def swag(build: Build, task: Task, settings: Any) -> Posterior:
    """The weights that the second half of a training passes by, at a constant rate."""
    half = settings.epochs // 2
    steps = half * _steps_per_epoch(task, settings)
    # Down a cosine to the constant rate, which is there for the rest.
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, steps, alpha=settings.swag_learning_rate / settings.learning_rate
    )
    collected = tfbnn.callbacks.SWAG(start=half)
    _trained(build(), task, settings, rate, [collected])
    return collected.posterior()


def laplace(structure: str, build: Build, task: Task, settings: Any) -> Posterior:
    """A normal law of a structure around the weights of the deterministic network."""
    model = _trained(build(), task, settings)
    return tfbnn.posteriors.Laplace(model, *task.train, structure=structure, verbose=0)


def ivon(build: Build, task: Task, settings: Any) -> Posterior:
    """Variational inference by an optimizer, of plain layers."""
    model = tfbnn.Sequential([keras.Input(task.train[0].shape[1:]), *build().layers])
    steps = settings.epochs * _steps_per_epoch(task, settings)
    rate = keras.optimizers.schedules.CosineDecay(settings.ivon_learning_rate, steps)
    model.compile(tfbnn.optimizers.IVON(rate), loss=LOSS)
    return posterior_of(_fitted(model, task, settings))


def _trained(
    model: keras.Model,
    task: Task,
    settings: Any,
    rate: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """A plain network, trained by AdamW."""
    steps = settings.epochs * _steps_per_epoch(task, settings)
    rate = rate or keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    model.compile(optimizer, loss=LOSS)
    return _without_optimizer(_fitted(model, task, settings, callbacks))


def _fitted(
    model: keras.Model,
    task: Task,
    settings: Any,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    options = {"batch_size": settings.batch_size, "epochs": settings.epochs, "verbose": 0}
    model.fit(*task.train, callbacks=list(callbacks), **options)
    return model


def _without_optimizer(model: keras.Model) -> keras.Model:
    """The model without a state that in files would take more room than what was learnt."""
    model.compile(loss=LOSS)
    return model


def _steps_per_epoch(task: Task, settings: Any) -> int:
    return -(-len(task.train[0]) // settings.batch_size)


ROUTES: dict[str, Callable[[Build, Task, Any], Posterior]] = {
    "deterministic": deterministic,
    "mean_field": mean_field,
    "mc_dropout": mc_dropout,
    "ensemble": ensemble,
    "swag": swag,
    "laplace_last_layer": functools.partial(laplace, "last_layer"),
    "laplace_kronecker": functools.partial(laplace, "kronecker"),
    "laplace_diagonal": functools.partial(laplace, "diagonal"),
    "ivon": ivon,
}
