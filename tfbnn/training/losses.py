"""Losses that are likelihoods and that Keras does not have."""

import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.training.requirements import require

# Keeps a predicted scale away from 0, where the density has no maximum.
SMALLEST_SCALE = 1e-6


def matched(targets: Any, shape: Any, sizes: tf.Tensor | None = None) -> tf.Tensor:
    """`targets` in `shape`, from which a last axis of size 1 may be missing or be too many.

    Args:
        targets: An array or a tensor.
        shape: The shape that they should have, as far as it is known: `None` fits any size.
        sizes: The whole shape, a tensor, where a step knows no more than `shape` when it is traced.

    Raises:
        ValueError: If they have another shape; broadcasting would make up observations. Inside a
            graph see `requirements.clear_errors`.
    """
    targets, shape = tf.convert_to_tensor(targets), tf.TensorShape(shape)
    if not (targets.dtype.is_floating or targets.dtype.is_integer or targets.dtype.is_bool):
        raise ValueError(f"Targets must be numbers. Received: targets of type {targets.dtype.name}")
    if targets.shape.rank is None:
        return _reshaped(targets, shape, sizes)
    if len(targets.shape) == len(shape) + 1 and targets.shape[-1] == 1:
        targets = targets[..., 0]
    if len(targets.shape) == len(shape) - 1 and shape[-1] == 1:
        targets = targets[..., tf.newaxis]
    if not targets.shape.is_compatible_with(shape):
        received = tuple(targets.shape)
        raise ValueError(f"{_ASKED} {tuple(shape)}. {_GOT} {received}")
    if sizes is not None:
        require(tf.equal(tf.shape(targets), sizes), _ASKED, sizes, _GOT, tf.shape(targets))
    return targets


def _reshaped(targets: tf.Tensor, shape: tf.TensorShape, sizes: tf.Tensor) -> tf.Tensor:
    """`matched` where a step knows nothing of the targets: it has met some of either shape."""
    given = tf.shape(targets)
    axes = tf.minimum(tf.rank(targets), len(shape))
    same = tf.reduce_all(tf.equal(given[:axes], sizes[:axes]))
    fits = same & tf.equal(tf.size(targets), tf.reduce_prod(sizes))
    with tf.control_dependencies(require(fits, _ASKED, sizes, _GOT, given)):
        return tf.ensure_shape(tf.reshape(targets, sizes), shape)


_ASKED = "The outputs of the network ask for targets of shape"
_GOT = "Received: targets of shape"


@keras.saving.register_keras_serializable("tfbnn.losses")
class NormalNLL(keras.losses.Loss):
    """Negative log likelihood of targets with normal noise, summed over the last axis.

    `-log(N(y; loc, scale**2)) = ((y - loc) / scale)**2 / 2 + log(scale) + log(2 * pi) / 2`

    Args:
        scale: Standard deviation of the noise, in the unit of the targets. A number from 1e-12 to
            1e12: fixed. `"learned"`: one number, trained with the network (needs `tfbnn.Model` or
            `tfbnn.Sequential`). `"head"`: predicted for each input: the network has twice as many
            outputs as there are targets, first `loc`, then `rho` with `scale = softplus(rho)`.
        initial_scale: Where a learned scale starts, between 1e-6 and 1e12.
        name: Name of the loss.

    Raises:
        ValueError: If `scale` is none of these, or `initial_scale` out of its range.

    Example:

    >>> import numpy as np, tfbnn
    >>> loss = tfbnn.losses.NormalNLL(scale=1.0)
    >>> round(float(loss(np.zeros((2, 1)), np.zeros((2, 1)))), 4)
    0.9189
    """

    def __init__(
        self, scale: float | str = "learned", initial_scale: float = 1.0, name: str = "normal_nll"
    ):
        super().__init__(name=arguments.text("name", name))
        self.scale = _checked_scale(scale)
        # Below the smallest scale it would not be the start.
        self.initial_scale = arguments.real_number(
            "initial_scale", initial_scale, SMALLEST_SCALE, arguments.LARGEST_SCALE, exclusive=True
        )
        self.rho_variable: keras.Variable | None = None

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        loc, scale = self.loc_and_scale(y_pred)
        return tf.reduce_sum(self.elementwise(y_true, loc, scale), axis=-1)

    def elementwise(self, targets: Any, loc: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """The negative log density of each target, in nats, in the shape of `loc`."""
        targets = tf.cast(matched(targets, loc.shape), loc.dtype)
        error = (targets - loc) / scale
        return 0.5 * tf.square(error) + tf.math.log(scale) + 0.5 * math.log(2 * math.pi)

    def loc_and_scale(self, outputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and standard deviation of the targets for the network's `outputs`.

        Args:
            outputs: `(..., targets)`, or `(..., 2 * targets)` for `scale="head"`.

        Returns:
            Two float32 tensors `(..., targets)`.
        """
        outputs = tf.cast(outputs, tf.float32)
        if self.scale == "head":
            if outputs.shape[-1] % 2:
                raise ValueError(
                    "With `scale='head'` the network needs two outputs for each target, `loc` and "
                    f"`rho`. Received: outputs of shape {tuple(outputs.shape)}"
                )
            loc, rho = tf.split(outputs, 2, axis=-1)
            return loc, tf.math.softplus(rho) + SMALLEST_SCALE
        return outputs, tf.broadcast_to(self._constant_scale(), tf.shape(outputs))

    def initial_rho(self) -> float:
        """`softplus^-1(initial_scale)`: where the variable of a learned scale starts."""
        above = self.initial_scale - SMALLEST_SCALE
        return above + math.log(-math.expm1(-above))

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "initial_scale": self.initial_scale, "name": self.name}

    def _constant_scale(self) -> tf.Tensor:
        if self.scale != "learned":
            return tf.constant(self.scale, tf.float32)
        if self.rho_variable is None:
            raise ValueError(
                "A learned scale is a variable of the model: compile a `tfbnn.Model` or "
                "`tfbnn.Sequential` with this loss and use `model.likelihood.loss`, or choose "
                "`scale='head'` or a number. "
                "Received: scale='learned'"
            )
        return tf.math.softplus(tf.convert_to_tensor(self.rho_variable.value)) + SMALLEST_SCALE


def _checked_scale(scale: Any) -> float | str:
    if isinstance(scale, str) and scale in ("learned", "head"):
        return str(scale)
    try:
        return arguments.standard_deviation("scale", scale)
    except ValueError as error:
        raise ValueError(f"'learned', 'head' or a number: {error}") from None
