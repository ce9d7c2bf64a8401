"""Realisation: what one training step needs of a random weight, and its gradient.

An estimator needs the mean and one more tensor (a draw, a perturbation or a variance), and the
objective needs the KL divergence. All are functions of `loc` and `rho`, element by element. Left to
TensorFlow they and their gradients would be dozens of passes through memory. Here each is one
compiled pass; the gradient computes the intermediate values anew, which is cheaper than keeping
them, and adds up what comes back from the estimator and from the KL.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.weights.compilation import LARGE, compiled
from tfbnn.weights.divergences import kl_divergence
from tfbnn.weights.priors import AbstractPrior
from tfbnn.weights.softplus import softplus

tfd = tfp.distributions

# What estimators ask for, given `loc`, `scale` and the noise.
OPERANDS: dict[str, Callable[[tf.Tensor, tf.Tensor, Any], tf.Tensor]] = {
    "draw": lambda loc, scale, noise: loc + scale * noise,
    "perturbation": lambda loc, scale, noise: scale * noise,
    "variance": lambda loc, scale, noise: tf.square(scale),
}

# Far below any useful scale, far above where 1 / scale**2 overflows float32.
_SMALLEST_SCALE = 1e-12


class Realisation:
    """`(loc, rho) -> (mean, operand, KL)` for one weight tensor, differentiable in both.

    With a mask, the values at pruned elements are zero in all three.

    Args:
        operand: A name in `OPERANDS`.
        prior: The prior of each element.
        size: Number of elements.
    """

    def __init__(self, operand: str, prior: AbstractPrior, size: int):
        self._operand_of = OPERANDS[operand]
        self._prior = prior
        wrap = compiled if size >= LARGE else (lambda function: function)
        self._operand, self._kl = wrap(self._plain_operand), wrap(self._plain_kl)
        self._gradients = wrap(self._plain_gradients)

    def __call__(
        self, loc: tf.Tensor, rho: tf.Tensor, noise: tf.Tensor | None, mask: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The mean, the operand and the KL summed over the elements, in nats.

        Args:
            loc: Posterior means.
            rho: Their standard deviations before softplus.
            noise: Standard normals, which the operand or a Monte Carlo KL is made with, or None.
            mask: 1 where an element is kept, or None.
        """

        @tf.custom_gradient
        def realise(loc, rho):
            inputs = loc, rho, noise, mask
            outputs = masked(loc, mask), self._operand(*inputs), self._kl(*inputs)
            return outputs, lambda *upstream: self._gradients(*inputs, *upstream)

        return realise(loc, rho)

    def _plain_operand(self, loc: Any, rho: Any, noise: Any, mask: Any) -> tf.Tensor:
        return masked(self._operand_of(loc, scale_of(rho), noise), mask)

    def _plain_kl(self, loc: Any, rho: Any, noise: Any, mask: Any) -> tf.Tensor:
        return _summed_kl(loc, scale_of(rho), self._prior, noise, mask)

    def _plain_gradients(
        self, loc: Any, rho: Any, noise: Any, mask: Any, *upstream: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = loc, rho, noise, mask
        with tf.GradientTape() as tape:
            tape.watch((loc, rho))
            outputs = masked(loc, mask), self._plain_operand(*inputs), self._plain_kl(*inputs)
        return tape.gradient(outputs, (loc, rho), output_gradients=upstream)


def scale_of(rho: tf.Tensor) -> tf.Tensor:
    """`softplus(rho)`, kept away from zero."""
    return tf.maximum(softplus(rho), _SMALLEST_SCALE)


def masked(value: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """`value`, zero where the mask is."""
    return value if mask is None else value * mask


def _summed_kl(
    loc: tf.Tensor,
    scale: tf.Tensor,
    prior: AbstractPrior,
    noise: tf.Tensor | None,
    mask: tf.Tensor | None,
) -> tf.Tensor:
    """`KL(q || p)` summed over the elements that are not pruned, in nats.

    Pruned elements keep their law here, which has a finite KL, and are left out of the sum.
    """
    draw = None if noise is None else loc + scale * noise
    terms = masked(kl_divergence(tfd.Normal(loc, scale), prior, draw), mask)
    # A sum written as a product with ones: XLA makes the terms inside it, but writes them to memory
    # first for a reduction.
    rows = tf.reshape(terms, [-1, terms.shape[-1]])
    return tf.reduce_sum(tf.linalg.matvec(rows, tf.ones(rows.shape[-1:])))
