"""The network that a draw of Laplace's approximation is: linear in the weights, around the mode.

    f(x; w) = f(x; w*) + J(x) (w - w*)

The curvature is that of this network, not of the one with weights `w`, so its draws are the ones
that fit it.

Reference:
    Immer et al. 2021, "Improving predictions of Bayesian neural nets via local linearization".
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import all_layers, mask_of, put_mask, variables_as
from tfbnn.layers.overriding import overridden


def linearised(
    model: keras.Model,
    variables: list[keras.Variable],
    values: list[tf.Tensor],
    computation: Callable[[], Any],
) -> Any:
    """What a network that is linear in its weights computes, by one pass of forward-mode
    derivatives.

    Args:
        model: The network at the mode.
        variables: Those that have other values.
        values: The values.
        computation: Calls the model, and gives what is wanted of it.
    """
    modes = [tf.convert_to_tensor(variable) for variable in variables]
    steps = [value - mode for value, mode in zip(values, modes, strict=True)]
    with (
        _with_plain_slopes(model),
        variables_as(list(zip(variables, modes, strict=True))),
        tf.autodiff.ForwardAccumulator(modes, steps) as accumulator,
    ):
        outputs = computation()

    def moved(output: tf.Tensor) -> tf.Tensor:
        slope = accumulator.jvp(output, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        changed = output + slope
        put_mask(changed, mask_of(output))
        return changed

    return tf.nest.map_structure(moved, outputs)


@contextlib.contextmanager
def _with_plain_slopes(model: keras.Model) -> Iterator[None]:
    """The ReLU as the larger of two numbers, whose slope is made of operations that files have."""
    with contextlib.ExitStack() as stack:
        for layer in all_layers(model):
            if getattr(layer, "activation", None) is keras.activations.relu:
                stack.enter_context(overridden(layer, activation=_larger))
            elif type(layer) is keras.layers.ReLU and _PLAIN.items() <= layer.get_config().items():
                stack.enter_context(overridden(layer, call=_larger))
        yield


# What a layer has that is nothing but a ReLU.
_PLAIN = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}


def _larger(inputs: tf.Tensor) -> tf.Tensor:
    # In this order the slope at zero is 0, as that of a ReLU is.
    return tf.maximum(tf.zeros([], inputs.dtype), inputs)
