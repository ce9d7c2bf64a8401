"""Realisation: what one training step needs of a random weight, and its gradient.

An estimator needs the mean and one more tensor (a draw, a perturbation or a variance), and the
objective needs the KL divergence. All are functions of `loc` and `rho`, element by element. Left to
TensorFlow they and their gradients would be dozens of passes through memory. Here each is one
compiled pass; the gradient computes the intermediate values anew, which is cheaper than keeping
them, and adds up what comes back from the estimator and from the KL.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.arguments import SMALLEST_SCALE
from tfbnn.weights.compilation import LARGE, compiled, inside_xla, traced
from tfbnn.weights.divergences import kl_divergence
from tfbnn.weights.priors import PRIORS, AbstractPrior
from tfbnn.weights.softplus import softplus
from tfbnn.weights.sums import total

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

_ZERO = {"unconnected_gradients": tf.UnconnectedGradients.ZERO}


class Realisation:
    """`(loc, rho) -> ([mean,] operand, KL)` for one weight tensor, differentiable in both.

    With a mask, pruned elements are zero in the mean and the operand, and have no KL.

    What is traced here belongs to no model: `realisation` gives all weights of one kind the same
    object, and TensorFlow keeps the graph of a custom gradient for as long as the process lives.

    Args:
        operand: A name in `OPERANDS`.
        prior: The prior of each element.
        shape: Shape of the weight.
    """

    def __init__(self, operand: str, prior: AbstractPrior, shape: tuple[int, ...]):
        self._operand_kind = OPERANDS[operand]
        self._prior = prior
        self._shape = shape
        fast = math.prod(shape) >= LARGE and _can_be_compiled(prior)
        wrap = compiled if fast else (lambda function: function)
        self._operand, self._kl = wrap(self._plain_operand), wrap(self._plain_kl)
        self._gradients = wrap(self._plain_gradients)
        self._traced: dict[Any, Any] = {}

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
        return self._traced_apart(loc, rho, noise, mask)

    def operand(
        self, loc: tf.Tensor, rho: tf.Tensor, noise: tf.Tensor | None, mask: tf.Tensor | None
    ) -> tf.Tensor:
        """The operand alone, for those who need no KL."""
        return masked(self._operand(loc, rho, noise), mask)

    def _traced_apart(self, *tensors: tf.Tensor | None) -> tuple[tf.Tensor, ...]:
        """`_realise(*tensors)`, traced outside the model that calls it."""
        given = tuple(tensor is not None for tensor in tensors)
        # The gradient is traced where it is first taken, and is another inside XLA.
        key = given, inside_xla()
        if key not in self._traced:

            def of_given(*present: tf.Tensor) -> tuple[tf.Tensor, ...]:
                rest = iter(present)
                return self._realise(*(next(rest) if one else None for one in given))

            with tf.init_scope():
                specifications = [tf.TensorSpec(self._shape)] * sum(given)
                self._traced[key] = traced(of_given).get_concrete_function(*specifications)
        return self._traced[key](*(tensor for tensor in tensors if tensor is not None))

    def _realise(
        self, loc: tf.Tensor, rho: tf.Tensor, noise: tf.Tensor | None, mask: tf.Tensor | None
    ) -> tuple[tf.Tensor, ...]:
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

    def _plain_operand(self, loc: Any, rho: Any, noise: Any) -> tf.Tensor:
        return self._operand_kind.make(loc, scale_of(rho), noise)

    def _plain_kl(self, loc: Any, rho: Any, noise: Any, operand: Any, mask: Any) -> tf.Tensor:
        return _sum(masked(self._kl_terms(loc, scale_of(rho), noise, operand), mask))

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
        scale = scale_of(rho)
        with tf.GradientTape() as tape:
            tape.watch((loc, scale, operand))
            terms = self._kl_terms(loc, scale, noise, operand)
        # Of a sum each term has the same gradient.
        each = masked(tf.fill(tf.shape(loc), kl_upstream), mask)
        of_kl = tape.gradient(terms, (loc, scale, operand), each, **_ZERO)
        with tf.GradientTape() as tape:
            tape.watch((loc, scale))
            again = self._operand_kind.make(loc, scale, noise)
        of_operand = tape.gradient(again, (loc, scale), upstream[-1] + of_kl[2], **_ZERO)
        # A layer that is called twice, or for two draws, has its gradients added to this.
        of_loc = total([*upstream[:-1], of_operand[0], of_kl[0]])
        # The derivative of softplus, in fewer operations than that of its polynomial.
        return of_loc, (of_operand[1] + of_kl[1]) * tf.sigmoid(rho)

    def _kl_terms(self, loc: Any, scale: Any, noise: Any, operand: Any) -> tf.Tensor:
        # Pruned elements keep their law here, which has a finite KL; the mask comes after.
        draw = None if noise is None else self._operand_kind.draw(loc, scale, noise, operand)
        return kl_divergence(tfd.Normal(loc, scale), self._prior, draw)


@functools.lru_cache(maxsize=1024)
def realisation(operand: str, prior: AbstractPrior, shape: tuple[int, ...]) -> Realisation:
    """The one `Realisation` for all weights of this prior and shape, in whatever model.

    Layers of one shape are traced and compiled once, and so is a second model of the same
    architecture.
    """
    return Realisation(operand, prior, shape)


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
    return tf.maximum(softplus(rho), SMALLEST_SCALE)


def masked(value: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """`value`, zero where the mask is."""
    return value if mask is None else value * mask


def _sum(terms: tf.Tensor) -> tf.Tensor:
    """The sum of all elements, as a product with ones.

    XLA makes the terms inside a product, but writes them to memory first for a reduction.
    """
    rows = tf.reshape(terms, [-1, terms.shape[-1]])
    return tf.reduce_sum(tf.linalg.matvec(rows, tf.ones(rows.shape[-1:])))
