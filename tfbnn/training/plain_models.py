"""Plain Keras models with variational layers: what a model of tfbnn knows, and they do not say.

`tfbnn.predict`, `tfbnn.evaluate`, `tfbnn.calibrate` and `tfbnn.check_elbo` need the likelihood of
each output, and the last one the number of training examples. A plain model tells them by the
losses that it is compiled with, and by the `kl_weight` of its layers.
"""

from typing import Any, NamedTuple

import keras

from tfbnn import arguments
from tfbnn.layers.keras_internals import batches_seen
from tfbnn.layers.variational import variational_layers
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.training import outputs
from tfbnn.training.bayesian_model import BayesianModel


class KnownObjective(NamedTuple):
    """The terms of the loss of a model: `sum(loss_weights * nll) + kl_weight * KL`, per example."""

    likelihoods: list[AbstractLikelihood]
    loss_weights: list[float]
    num_examples: int
    beta: float
    kl_weight: float


def likelihoods_of(model: keras.Model) -> list[AbstractLikelihood]:
    """The likelihood of each output of a compiled model; none if it is not compiled.

    Those of a plain model are made anew at each call; one that learns a scale is a `ValueError`.
    """
    arguments.instance("model", model, keras.Model, "a Keras model")
    if isinstance(model, BayesianModel):
        return model.likelihoods
    if model.loss is None:
        return []
    found = outputs.likelihoods_of(model, model.loss)
    if any(one.noise_is_learned for one in found):
        raise ValueError(
            "The scale that `NormalNLL(scale='learned')` learns is a variable that a plain Keras "
            "model does not have: choose `scale='head'` or a number, or use `tfbnn.Sequential` or "
            f"`tfbnn.Model`. Received: model of type {type(model).__name__}"
        )
    return found


def objective_of(model: keras.Model) -> KnownObjective:
    """What the loss of a compiled model with variational layers consists of.

    `num_examples` of a plain model is `1 / kl_weight`, and `beta` 1. It is a `ValueError` if the
    number of training examples is not known.
    """
    found, weights = likelihoods_of(model), outputs.loss_weights(model)
    if not isinstance(model, BayesianModel):
        kl_weight = _common_kl_weight(model)
        return KnownObjective(found, weights, max(1, round(1 / kl_weight)), 1.0, kl_weight)
    if model.num_examples is None:
        raise ValueError(
            "The ELBO needs the number of training examples: set `model.num_examples = ...`, pass "
            "`num_examples=` to the model's constructor, or train the model first. "
            f"Received: model={model.name!r}"
        )
    step = 0 if model.optimizer is None else batches_seen(model.optimizer)
    kl_weight = float(model.objective.kl_weight(step))
    return KnownObjective(found, weights, model.num_examples, model.objective.beta, kl_weight)


def check_built(model: keras.Model) -> None:
    """Raise a `ValueError` if a model has no weights yet."""
    if not model.built:
        raise ValueError(
            "The model has no weights yet: train it, or build it by calling it on a batch. "
            f"Received: model={model.name!r}, built=False"
        )


def check_bayesian(model: Any, what: str) -> None:
    """Raise a `TypeError` if a model is none of tfbnn; of a plain one it says how to make one.

    `what` is a sentence for the message: what needs a model of tfbnn.
    """
    if isinstance(model, BayesianModel):
        return
    remedy = _remedy(model) if isinstance(model, keras.Model) else ""
    raise TypeError(f"{what} {remedy}Received: model of type {type(model).__name__}")


def _remedy(model: keras.Model) -> str:
    if not list(variational_layers(model)):
        return ""
    if isinstance(model, keras.Sequential):
        made = "tfbnn.Sequential([keras.Input(model.input_shape[1:]), *model.layers])"
    elif getattr(model, "inputs", None):
        made = "tfbnn.Model(model.input, model.output)"
    else:
        return "Derive the class from `tfbnn.Model` in place of `keras.Model`. "
    return (
        f"Make one of the same layers, `bayesian = {made}`, and compile it: "
        "`bayesian.compile(loss=...)`. "
    )


def _common_kl_weight(model: keras.Model) -> float:
    weights = [layer.kl_weight for layer in variational_layers(model)]
    if len(set(weights)) != 1 or not weights[0]:
        raise ValueError(
            "The ELBO needs the number of training examples: give every variational layer of a "
            "plain Keras model the same `kl_weight=1 / num_examples`. "
            f"Received: kl_weight={', '.join(map(str, dict.fromkeys(weights)))}"
        )
    return weights[0]
