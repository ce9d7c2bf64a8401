"""Contenders: how a network of 2 x 50 units is trained, and what it then answers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from benchmarks.recipes_parts import scores
from benchmarks.recipes_parts.scores import Answers
from benchmarks.recipes_parts.tasks import Task
from tfbnn.training import held_out_noise

UNITS = (50, 50)
BATCH = 32
_SAMPLES = 64
_MEMBERS = 5
_SPARSITIES = (0.9, 0.95)
# Of an execution: Keras' loop costs more than a step of such a network.
_STEPS_AT_ONCE = 25
_EPOCHS = 20

Answer = Callable[[Any], Answers]


@dataclasses.dataclass(frozen=True)
class Bayesian:
    """A network of `tfbnn.layers`.

    Attributes:
        compiled: Arguments of `compile`.
        layer: Arguments of each layer.
    """

    compiled: dict[str, Any]
    layer: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, task: Task, seed: int) -> tuple[Answer, dict[str, float]]:
        make = functools.partial(tfbnn.layers.DenseFlipout, **self.layer)
        compiled = {key: one() if callable(one) else one for key, one in self.compiled.items()}
        model = trained(task, seed, make, held_out=True, **compiled)
        facts = facts_of(model)
        for sparsity in _SPARSITIES if task.name != "gap" else ():
            pruned = sampled(tfbnn.prune(model, sparsity), task)
            error = scores.error(task, pruned(task.test[0]), task.test[1])
            facts[f"error at {100 * sparsity:g} %"] = error
        return sampled(model, task), facts


@dataclasses.dataclass(frozen=True)
class Plain:
    """Ordinary networks, of settings of which the validation rows choose one.

    Attributes:
        settings: Each a dict: `learning_rate`, `weight_decay`, `dropout`, `patience`.
        members: How many networks, each from its own start, answer together.
    """

    settings: tuple[dict[str, Any], ...]
    members: int = 1

    def __call__(self, task: Task, seed: int) -> tuple[Answer, dict[str, float]]:
        answers = [_plain(task, seed, **one) for one in self.settings]
        x, y = task.validation
        best = min(range(len(answers)), key=lambda i: scores.nll(task, answers[i](x), y))
        chosen, setting = answers[best], self.settings[best]
        if self.members == 1:
            return chosen, {"setting": best}
        others = [
            _plain(task, 1000 * number + seed, **setting) for number in range(1, self.members)
        ]
        return functools.partial(_together, [chosen, *others]), {"setting": best}


def trained(
    task: Task,
    seed: int,
    make: Callable[..., Any],
    dropout: float = 0.0,
    held_out: bool = False,
    callbacks: Any = None,
    **compiled: Any,
) -> tfbnn.Sequential:
    """A trained network with layers that `make` makes; `fit` has the validation rows or not."""
    keras.utils.set_random_seed(seed)
    x, y = task.train
    model = tfbnn.Sequential([keras.Input(x.shape[1:])])
    for units in UNITS:
        model.add(make(units, activation="relu"))
        if dropout:
            model.add(keras.layers.Dropout(dropout))
    model.add(make(task.num_classes or 1))
    loss = tfbnn.losses.NormalNLL(scale="learned")
    if task.num_classes:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, steps_per_execution=_STEPS_AT_ONCE, **compiled)
    rows = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed)
    # Not by epochs of the rows: some tasks have four batches, and an epoch has costs of its own.
    batches = rows.batch(BATCH, drop_remainder=True).repeat()
    model.fit(
        batches,
        epochs=_EPOCHS,
        steps_per_epoch=task.steps // _EPOCHS,
        num_examples=len(x),
        callbacks=callbacks,
        validation_data=task.validation if held_out else None,
        verbose=0,
    )
    return model


def sampled(model: tfbnn.Sequential, task: Task) -> Answer:
    """Answers of networks drawn from the posterior."""

    def answer(x: Any) -> Answers:
        samples = tfbnn.predict(model, x, _SAMPLES, seed=0, keep_samples=True, verbose=0).samples
        return Answers(samples[0]) if task.num_classes else Answers(*samples)

    return answer


def facts_of(model: tfbnn.Sequential) -> dict[str, float]:
    """Median of sigma in each kernel, and whether it has trained."""
    kernels = [layer.kernel for layer in tfbnn.layers.variational_layers(model)]
    facts = {f"sigma {i}": float(np.median(kernel.scale)) for i, kernel in enumerate(kernels)}
    facts["pull"], facts["pull error"] = model.objective.last_steps.mean_pull()
    return facts


def _plain(
    task: Task,
    seed: int,
    learning_rate: float,
    weight_decay: float | None = None,
    dropout: float = 0.0,
    patience: int | None = None,
) -> Answer:
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, task.steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=weight_decay or 0.0)
    callbacks = None
    if patience:
        callbacks = [
            keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
        ]
    make = keras.layers.Dense
    model = trained(
        task,
        seed,
        make,
        dropout,
        held_out=bool(callbacks),
        callbacks=callbacks,
        optimizer=optimizer,
    )

    def outputs(x: Any) -> Any:
        draws = _SAMPLES if dropout else 1
        return np.stack([np.asarray(model(x, training=bool(dropout))) for _ in range(draws)])

    if task.num_classes:
        return lambda x: Answers(keras.ops.convert_to_numpy(keras.ops.softmax(outputs(x))))
    # As the Bayesian networks: the noise is that of the validation rows.
    x, y = task.validation
    scale = held_out_noise.best_scale(np.square(y - outputs(x)).astype(float), np.ones(y.shape))
    return lambda x: Answers(outputs(x), scale)


def _together(answers: list[Answer], x: Any) -> Answers:
    parts = [answer(x) for answer in answers]
    values = np.concatenate([part.values for part in parts])
    if parts[0].scale is None:
        return Answers(values)
    scale = [np.broadcast_to(part.scale, part.values.shape) for part in parts]
    return Answers(values, np.concatenate(scale))


_RATES = tuple({"learning_rate": rate} for rate in (1e-3, 3e-3, 1e-2))
# What a layer was before its defaults were chosen here.
FORMER = {
    "kernel_prior": "normal",
    "kernel_posterior": tfbnn.families.Normal(0.0067),
    "bias_posterior": "point",
}

CONTENDERS: dict[str, Any] = {
    "plain": Plain(_RATES),
    "early stopping": Plain(tuple({**one, "patience": 3} for one in _RATES)),
    "weight decay": Plain(
        tuple({"learning_rate": 1e-2, "weight_decay": decay} for decay in (0.01, 0.1, 0.5))
    ),
    "MC dropout": Plain(
        tuple({"learning_rate": 1e-2, "dropout": rate} for rate in (0.05, 0.1, 0.3))
    ),
    "ensemble of 5": Plain(_RATES, _MEMBERS),
    "Adam 1e-3, N(0, 1)": Bayesian({"optimizer": keras.optimizers.Adam}, FORMER),
    "calibrated": Bayesian({"recipe": "calibrated"}),
    "elbo": Bayesian({"recipe": "elbo"}),
    "sparse": Bayesian({"recipe": "sparse"}),
    "calibrated, beta 0.1": Bayesian({"recipe": "calibrated", "beta": 0.1}),
    "calibrated, normal prior": Bayesian({"recipe": "calibrated"}, {"kernel_prior": "fan_in"}),
}
