"""Checked calls: what is looked at before Keras sees it, and errors that say what is wrong."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import is_validation_of_fit
from tfbnn.layers.variational import variational_layers
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.requirements import clear_errors, require_finite
from tfbnn.training import outputs
from tfbnn.training.data import check_arrays
from tfbnn.training.data_term import require_observations
from tfbnn.training.feeding import fed


class CheckedCalls:
    """What a model of tfbnn does with data beside `fit`."""

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The loss, which here is the NLL, and the metrics at the posterior mean, as in Keras."""
        # Keras' `fit` has checked and wrapped the validation data before.
        if not is_validation_of_fit(kwargs):
            check_batch(self, x, y, sample_weight)
            x = fed_to(self, x, y, sample_weight, batch_size, steps)
            y = sample_weight = None
        with clear_errors():
            return super().evaluate(
                x, y, batch_size, verbose, sample_weight, steps, *args, **kwargs
            )

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs at the posterior mean, as in Keras."""
        check_arrays("x", x, outputs.input_type(self))
        x = fed(x, batch_size=batch_size, steps=steps)
        return super().predict(x, batch_size, verbose, steps, callbacks)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """One training step, as in Keras. `num_examples` must have been set."""
        check_layers(self)
        with clear_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """The loss and the metrics on one batch, as in Keras."""
        with clear_errors():
            return super().test_on_batch(*args, **kwargs)


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

    The data are as in `fit`; `names` stands before their names in a message.
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
