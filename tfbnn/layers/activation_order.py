"""Activation order: activations that had better come after the max pooling behind them."""

import keras

from tfbnn.layers.steps import Step, Steps

_LAYERS = keras.layers
_MAXIMA = (
    _LAYERS.MaxPooling1D,
    _LAYERS.MaxPooling2D,
    _LAYERS.MaxPooling3D,
    _LAYERS.GlobalMaxPooling1D,
    _LAYERS.GlobalMaxPooling2D,
    _LAYERS.GlobalMaxPooling3D,
)
_INCREASING = (
    keras.activations.relu,
    keras.activations.relu6,
    keras.activations.leaky_relu,
    keras.activations.tanh,
    keras.activations.sigmoid,
    keras.activations.elu,
    keras.activations.selu,
    keras.activations.softplus,
    keras.activations.exponential,
)


def delayed_activations(steps: Steps) -> dict[Step, Step]:
    """Steps whose activation may wait for the max pooling that alone reads them.

    A function `f` that never falls has `max(f(x)) = f(max(x))`. After the pooling, fewer numbers go
    through it; and the rule for the maximum of normals is less wrong, because what an activation
    gives is far from normal.

    Args:
        steps: The network.

    Returns:
        The step of the pooling, by that of the activation.

    Example:

    >>> import keras, tfbnn
    >>> from tfbnn.layers.steps import steps_of
    >>> first = tfbnn.layers.Convolution2DFlipout(4, 3, activation="relu", name="first")
    >>> model = tfbnn.Sequential([keras.Input((8, 8, 1)), first, keras.layers.MaxPooling2D()])
    >>> [step.layer.name for step in delayed_activations(steps_of(model))]
    ['first']
    """
    readers = {step.output: [s for s in steps if step.output in s.inputs] for step in steps}
    return {
        step: readers[step.output][0]
        for step in steps
        if _never_falls(step.layer)
        and [type(reader.layer) in _MAXIMA for reader in readers[step.output]] == [True]
        and step.output is not steps.output
    }


def _never_falls(layer: object) -> bool:
    """Whether a layer ends in an activation, or is one, that never falls."""
    if type(layer) in (_LAYERS.ReLU, _LAYERS.LeakyReLU):
        has_threshold = getattr(layer, "threshold", 0.0)
        return (layer.negative_slope or 0.0) >= 0 and not has_threshold
    if type(layer) is _LAYERS.ELU:
        return layer.alpha >= 0
    return getattr(layer, "activation", None) in _INCREASING
