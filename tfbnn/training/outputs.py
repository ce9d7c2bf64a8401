"""Outputs: what is given for each output of a model, in the order of the outputs.

Losses, their weights, targets and their weights are given as lists, or as dicts by the names of the
outputs. The order is that in which `tf.nest` flattens what the model returns.
"""

from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import all_layers, compile_arguments, outputs_structure
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.table import likelihood_of


def in_order(model: keras.Model, given: Any) -> Any:
    """A list in the order of the outputs if `given` is a dict, else `given` as it is."""
    if isinstance(given, dict):
        return [given[name] for name in _names(model, given)]
    return given


def flat_losses(model: keras.Model, loss: Any) -> list[Any]:
    """The losses of all outputs, given as `compile` takes them."""
    losses = in_order(model, loss)
    return list(losses) if isinstance(losses, list | tuple) else [losses]


def likelihoods_of(model: keras.Model, loss: Any) -> list[AbstractLikelihood]:
    """The likelihoods that losses stand for, one for each output of a model, or a `ValueError`."""
    found = [likelihood_of(one) for one in flat_losses(model, loss)]
    known = shapes(model)
    if known is not None and len(known) != len(found):
        raise ValueError(
            "The model must be compiled with one loss for each of its outputs, in a list or a "
            f"dict. Received: {len(found)} losses for {len(known)} outputs"
        )
    return found


def like(model: keras.Model, given: Any, values: list[Any]) -> Any:
    """The values, in the order of the outputs, in the structure of `given`."""
    if isinstance(given, dict):
        return dict(zip(_names(model, given), values, strict=True))
    return values if isinstance(given, list | tuple) else values[0]


def checked_loss_weights(loss: Any, given: Any) -> Any:
    """The weights of losses, plain numbers in the structure of `loss`, or a `ValueError`.

    `given` is None; a number for one loss, a list of as many as there are, or a dict with names of
    a dict of losses.
    """
    several = len(loss) if isinstance(loss, list | tuple | dict) else 1
    if isinstance(given, dict) and isinstance(loss, dict) and set(given) <= set(loss):
        return {name: _weight(weight) for name, weight in given.items()}
    if isinstance(given, list | tuple) and not isinstance(loss, dict) and len(given) == several:
        return [_weight(weight) for weight in given]
    if given is None or not (isinstance(given, list | tuple | dict) or several > 1):
        return None if given is None else [_weight(given)]
    raise ValueError(
        "`loss_weights` must be a number for each loss, in a list as long as that of the losses or "
        f"a dict with the same names. Received: loss_weights={given!r} for {several} losses"
    )


def _weight(value: Any) -> float:
    return arguments.real_number("loss_weights", value, minimum=0.0)


def loss_weights(model: keras.Model) -> list[float]:
    """The weights of the losses of a compiled model, 1 where none is given."""
    given = compile_arguments(model).get("loss_weights")
    if given is None:
        return [1.0] * len(flat_losses(model, model.loss))
    if isinstance(given, dict):
        return [float(given.get(name, 1.0)) for name in _names(model, model.loss)]
    return [float(weight) for weight in tf.nest.flatten(given)]


def shapes(model: keras.Model) -> list[tuple[int | None, ...]] | None:
    """Shapes of the outputs, or None if the model has no fixed ones (yet)."""
    outputs = getattr(model, "outputs", None)
    # A model that its first batch has built has the rows of that batch.
    return None if not outputs else [(None, *o.shape[1:]) for o in tf.nest.flatten(outputs)]


def input_type(model: keras.Model) -> str:
    """The type with the smallest range in which all layers of a model compute."""
    types = {layer.compute_dtype for layer in all_layers(model, include_self=False)}
    return "float16" if types == {"float16"} else "float32"


def _names(model: keras.Model, by_name: dict[str, Any]) -> list[str]:
    """The keys of a dict in the order of the outputs."""
    structure = outputs_structure(model)
    if isinstance(structure, dict) or structure is None:
        return sorted(by_name)
    return [name for name in model.output_names if name in by_name]
