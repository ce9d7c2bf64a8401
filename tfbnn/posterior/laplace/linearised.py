"""The network that a draw of Laplace's approximation is: linear in the weights, around the mode.

    f(x; w) = f(x; w*) + J(x) (w - w*)

The curvature is that of this network, not of the one with weights `w`, so its draws are the ones
that fit it.

Reference:
    Immer et al. 2021, "Improving predictions of Bayesian neural nets via local linearization",
    sec. 3.
"""

from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import mask_of, put_mask, variables_as


def linearised(
    model: keras.Model, variables: list[keras.Variable], values: list[tf.Tensor], inputs: Any
) -> Any:
    """Outputs of a network that is linear in its weights, by one pass of forward-mode derivatives.

    Args:
        model: The network at the mode.
        variables: Those that have other values.
        values: The values.
        inputs: A batch.
    """
    modes = [tf.convert_to_tensor(variable) for variable in variables]
    steps = [value - mode for value, mode in zip(values, modes, strict=True)]
    with (
        variables_as(list(zip(variables, modes, strict=True))),
        tf.autodiff.ForwardAccumulator(modes, steps) as accumulator,
    ):
        outputs = model(inputs, training=False)

    def moved(output: tf.Tensor) -> tf.Tensor:
        slope = accumulator.jvp(output, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        changed = output + slope
        put_mask(changed, mask_of(output))
        return changed

    return tf.nest.map_structure(moved, outputs)
