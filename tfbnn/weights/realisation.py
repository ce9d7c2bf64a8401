"""Realisation: what one training step needs of a random weight, and its gradient.

An estimator needs the mean and one more tensor (a draw, a perturbation or a variance), and the
objective needs the KL divergence. All are functions of `loc` and `rho`, element by element. Left to
TensorFlow they and their gradients would be dozens of passes through memory. Here each is one
compiled pass; the gradient computes the intermediate values anew, which is cheaper than keeping
them, and adds up what comes back from the estimator and from the KL.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.weights.compilation import LARGE, compiled
from tfbnn.weights.divergences import kl_divergence
from tfbnn.weights.priors import PRIORS, AbstractPrior
from tfbnn.weights.softplus import softplus

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class Operand:
    """What an estimator asks for, and the weights drawn with it.

    `make(loc, scale, noise)` gives the operand, `draw(loc, scale, noise, operand)` the weights;
    `with_mean` says whether the estimator uses the mean as well.
    """

    with_mean: bool
    make: Callable[[tf.Tensor, tf.Tensor, Any], tf.Tensor]
    draw: Callable[[tf.Tensor, tf.Tensor, Any, tf.Tensor], tf.Tensor]


OPERANDS = {
    "draw": Operand(
        False,
        lambda loc, scale, noise: loc + scale * noise,
        lambda loc, scale, noise, operand: operand,
    ),
    "perturbation": Operand(
        True,
        lambda loc, scale, noise: scale * noise,
        lambda loc, scale, noise, operand: loc + operand,
    ),
    "variance": Operand(
        True,
        lambda loc, scale, noise: tf.square(scale),
        lambda loc, scale, noise, operand: loc + scale * noise,
    ),
}

# Far below any useful scale, far above where 1 / scale**2 overflows float32.
_SMALLEST_SCALE = 1e-12

_ZERO = {"unconnected_gradients": tf.UnconnectedGradients.ZERO}


class Realisation:
    """`(loc, rho) -> ([mean,] operand, KL)` for one weight tensor, differentiable in both.

    With a mask, pruned elements are zero in the mean and the operand, and have no KL.

    Args:
        operand: A name in `OPERANDS`.
        prior: The prior of each element.
        size: Number of elements.
    """

    def __init__(self, operand: str, prior: AbstractPrior, size: int):
        self._operand_kind = OPERANDS[operand]
        self._prior = prior
        fast = size >= LARGE and _can_be_compiled(prior)
        wrap = compiled if fast else (lambda function: function)
        self._operand, self._kl = wrap(self._plain_operand), wrap(self._plain_kl)
        self._gradients = wrap(self._plain_gradients)

    def __call__(
        self, loc: tf.Tensor, rho: tf.Tensor, noise: tf.Tensor | None, mask: tf.Tensor | None
    ) -> tuple[tf.Tensor, ...]:
        """The mean if the estimator uses it, the operand, and the summed KL, in nats.

        Args:
            loc: Posterior means.
            rho: Their standard deviations before softplus.
            noise: Standard normals, which the operand or a Monte Carlo KL is made with, or None.
            mask: 1 where an element is kept, or None.
        """

        @tf.custom_gradient
        def realise(loc, rho):
            operand = self._operand(loc, rho, noise)
            kl = self._kl(loc, rho, noise, operand, mask)

            def gradients(*upstream):
                *tensors, kl_upstream = upstream
                tensors = [masked(tensor, mask) for tensor in tensors]
                return self._gradients(loc, rho, noise, operand, mask, kl_upstream, *tensors)

            outputs = masked(operand, mask), kl
            if self._operand_kind.with_mean:
                outputs = masked(loc, mask), *outputs
            return outputs, gradients

        return realise(loc, rho)

    def operand(
        self, loc: tf.Tensor, rho: tf.Tensor, noise: tf.Tensor | None, mask: tf.Tensor | None
    ) -> tf.Tensor:
        """The operand alone, for those who need no KL."""
        return masked(self._operand(loc, rho, noise), mask)

    def _plain_operand(self, loc: Any, rho: Any, noise: Any) -> tf.Tensor:
        return self._operand_kind.make(loc, scale_of(rho), noise)

    def _plain_kl(self, loc: Any, rho: Any, noise: Any, operand: Any, mask: Any) -> tf.Tensor:
        return _sum(masked(self._kl_terms(loc, rho, noise, operand), mask))

    def _plain_gradients(
        self,
        loc: Any,
        rho: Any,
        noise: Any,
        operand: Any,
        mask: Any,
        kl_upstream: tf.Tensor,
        *upstream: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """By way of the operand, so that both results share what they have in common."""
        with tf.GradientTape() as tape:
            tape.watch((loc, rho, operand))
            terms = self._kl_terms(loc, rho, noise, operand)
        # Of a sum each term has the same gradient.
        each = masked(tf.fill(tf.shape(loc), kl_upstream), mask)
        of_kl = tape.gradient(terms, (loc, rho, operand), each, **_ZERO)
        with tf.GradientTape() as tape:
            tape.watch((loc, rho))
            again = self._plain_operand(loc, rho, noise)
        of_operand = tape.gradient(again, (loc, rho), upstream[-1] + of_kl[2], **_ZERO)
        of_loc = tf.add_n([*upstream[:-1], of_operand[0], of_kl[0]])
        return of_loc, of_operand[1] + of_kl[1]

    def _kl_terms(self, loc: Any, rho: Any, noise: Any, operand: Any) -> tf.Tensor:
        # Pruned elements keep their law here, which has a finite KL; the mask comes after.
        scale = scale_of(rho)
        draw = None if noise is None else self._operand_kind.draw(loc, scale, noise, operand)
        return kl_divergence(tfd.Normal(loc, scale), self._prior, draw)


def _can_be_compiled(prior: AbstractPrior) -> bool:
    """Whether XLA takes the KL and its gradient: a user's prior may call what XLA has not."""
    if type(prior) in PRIORS.values():
        return True

    def kl_and_gradient(loc, scale):
        with tf.GradientTape() as tape:
            tape.watch((loc, scale))
            kl = kl_divergence(tfd.Normal(loc, scale), prior, loc + scale)
        return kl, tape.gradient(kl, (loc, scale), **_ZERO)

    with tf.init_scope():
        try:
            compiled(kl_and_gradient)(tf.zeros([2]), tf.ones([2]))
        except tf.errors.OpError:
            return False
    return True


def scale_of(rho: tf.Tensor) -> tf.Tensor:
    """`softplus(rho)`, kept away from zero."""
    return tf.maximum(softplus(rho), _SMALLEST_SCALE)


def masked(value: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """`value`, zero where the mask is."""
    return value if mask is None else value * mask


def _sum(terms: tf.Tensor) -> tf.Tensor:
    """The sum of all elements, as a product with ones.

    XLA makes the terms inside a product, but writes them to memory first for a reduction.
    """
    rows = tf.reshape(terms, [-1, terms.shape[-1]])
    return tf.reduce_sum(tf.linalg.matvec(rows, tf.ones(rows.shape[-1:])))
