"""Checks of batches: what a model needs of its data, before anything is done with them."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.variational import variational_layers
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.requirements import require_finite
from tfbnn.training import outputs
from tfbnn.training.counts import require_observations
from tfbnn.training.data import check_arrays
from tfbnn.training.feeding import fed


def check_layers(model: keras.Model) -> None:
    """Raise a `ValueError` if a layer of a model of tfbnn has a weight of the KL of its own."""
    for layer in variational_layers(model):
        if layer.kl_weight is not None:
            raise ValueError(
                "The model collects the KL of its layers; with a `kl_weight` of its own the "
                f"KL of {layer.name!r} would count twice: leave it out, or set "
                f"`layer.kl_weight = None`. Received: kl_weight={layer.kl_weight}"
            )


def check_class_weight(class_weight: Any) -> None:
    """Raise a `ValueError` if a weight of a class is no number of observations."""
    for name, weight in (class_weight or {}).items():
        arguments.real_number(f"class_weight[{name!r}]", weight, minimum=0.0)


def check_batch(
    model: keras.Model, x: Any, y: Any, sample_weight: Any = None, names: str = ""
) -> None:
    """Raise a `ValueError` if something that is an array cannot be learnt from, or judged.

    Args:
        model: A compiled model.
        x: As in `fit`, and so are the others.
        y: Targets.
        sample_weight: Weights of the examples.
        names: What stands before the names of these in a message.
    """
    check_arrays(f"{names}x", x, outputs.input_type(model))
    check_arrays(f"{names}y", y)
    check_arrays(f"{names}sample_weight", sample_weight)
    for likelihood, target, shape in _targets(model, y):
        if hasattr(target, "__array__"):
            likelihood.check_targets(np.asarray(target), shape)


def fed_to(model: keras.Model, *args: Any, **kwargs: Any) -> Any:
    """`feeding.fed`, with checks where the step of the model has none."""
    # XLA, which Keras takes on a GPU, leaves out the assertions of a step.
    check = (lambda *element: _required(model, element)) if model.jit_compile else None
    return fed(*args, **kwargs, check=check)


def _required(model: keras.Model, element: Any) -> list[tf.Operation]:
    """What an element of a data set must meet, as far as it can be seen outside of a step."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
    required = require_finite("x", x)
    for weights in tf.nest.flatten(sample_weight):
        required += require_observations(weights)
    for likelihood, target, shape in () if y is None else _targets(model, y):
        required += likelihood.check_targets(target, shape)
    return required


def _targets(model: keras.Model, y: Any) -> Iterator[tuple[AbstractLikelihood, Any, Any]]:
    """Each likelihood, its targets and the shape of the output; nothing if these do not fit."""
    shapes = outputs.shapes(model)
    targets = tf.nest.flatten(outputs.in_order(model, y))
    if shapes is not None and len(targets) == len(model.likelihoods):
        yield from zip(model.likelihoods, targets, shapes, strict=True)
