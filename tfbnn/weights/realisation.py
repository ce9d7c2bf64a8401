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
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.arguments import SMALLEST_SCALE
from tfbnn.weights.abstract_prior import Kind
from tfbnn.weights.divergences import kl_divergence
from tfbnn.weights.priors import PRIORS, AbstractPrior
from tfbnn.weights.softplus import softplus
from tfbnn.weights.sums import total
from tfbnn.weights.tracing import LARGE, compiled, inside_xla, traced

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

    With a mask, pruned elements are zero in the mean and the operand, and have no KL. Each formula
    is a method, and has beside it the pass that large weights go through.

    What is traced here belongs to no model: `realisation` gives all weights of one kind the same
    object, and TensorFlow keeps the graph of a custom gradient for as long as the process lives.
    The numbers of a prior are inputs, so that weights may differ in them, and in one over time.
    """

    def __init__(self, operand: str, prior: AbstractPrior, shape: tuple[int, ...]):
        self._operand_kind = OPERANDS[operand]
        self._prior = prior
        self._shape = shape
        fast = math.prod(shape) >= LARGE and _can_be_compiled(prior)
        pass_of = compiled if fast else (lambda formula: formula)
        self._operand_pass = pass_of(self._operand)
        self._kl_pass = pass_of(self._kl)
        self._gradients_pass = pass_of(self._gradients)
        self._traced: dict[Any, Any] = {}

    def __call__(
        self,
        loc: tf.Tensor,
        rho: tf.Tensor,
        noise: tf.Tensor | None,
        mask: tf.Tensor | None,
        numbers: Sequence[Any],
    ) -> tuple[tf.Tensor, ...]:
        """The mean if the estimator uses it, the operand, and the summed KL, in nats.

        `noise` are standard normals, which the operand or a Monte Carlo KL is made with. `numbers`
        are the `values()` of the prior; the KL has gradients in them if one is a tensor.
        """
        learnt = self._prior.learns and any(tf.is_tensor(number) for number in numbers)
        numbers = [tf.convert_to_tensor(number, tf.float32) for number in numbers]
        tensors = [loc, rho, noise, mask, *numbers]
        # The gradient is traced where it is first taken, and is another inside XLA.
        shapes = tuple(number.shape for number in numbers)
        key = noise is None, mask is None, shapes, learnt, inside_xla()
        if key not in self._traced:
            self._traced[key] = self._traced_apart(tensors, learnt)
        return self._traced[key](*(tensor for tensor in tensors if tensor is not None))

    def operand(
        self, loc: tf.Tensor, rho: tf.Tensor, noise: tf.Tensor | None, mask: tf.Tensor | None
    ) -> tf.Tensor:
        """The operand alone, for those who need no KL."""
        return masked(self._operand_pass(loc, rho, noise), mask)

    def _operand(self, loc: Any, rho: Any, noise: Any) -> tf.Tensor:
        return self._operand_kind.make(loc, scale_of(rho), noise)

    def _kl(self, loc: Any, rho: Any, noise: Any, operand: Any, mask: Any, numbers: Any) -> Any:
        return _sum(masked(self._kl_terms(loc, scale_of(rho), noise, operand, numbers), mask))

    def _kl_terms(self, loc: Any, scale: Any, noise: Any, operand: Any, numbers: Any) -> tf.Tensor:
        # Pruned elements keep their law here, which has a finite KL; the mask comes after.
        draw = None if noise is None else self._operand_kind.draw(loc, scale, noise, operand)
        return kl_divergence(tfd.Normal(loc, scale), self._prior.with_values(numbers), draw)

    def _gradients(
        self,
        loc: Any,
        rho: Any,
        noise: Any,
        operand: Any,
        mask: Any,
        numbers: Any,
        kl_upstream: tf.Tensor,
        upstream: list[tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """By way of the operand, so that both results share what they have in common."""
        scale = scale_of(rho)
        with tf.GradientTape() as tape:
            tape.watch((loc, scale, operand))
            terms = self._kl_terms(loc, scale, noise, operand, numbers)
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

    def _number_gradients(
        self, loc: Any, rho: Any, noise: Any, operand: Any, mask: Any, numbers: Any
    ) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(numbers)
            kl = self._kl(loc, rho, noise, operand, mask, numbers)
        return tape.gradient(kl, numbers, **_ZERO)

    def _realise(
        self, loc: Any, rho: Any, noise: Any, mask: Any, numbers: list[tf.Tensor], learnt: bool
    ) -> tuple[tf.Tensor, ...]:
        @tf.custom_gradient
        def realise(loc, rho, *learnt_numbers):
            operand = self._operand_pass(loc, rho, noise)
            law = loc, rho, noise, operand, mask, list(learnt_numbers) or numbers

            def gradients(*upstream):
                *tensors, kl_upstream = upstream
                tensors = [masked(tensor, mask) for tensor in tensors]
                of_law = self._gradients_pass(*law, kl_upstream, tensors)
                if not learnt_numbers:
                    return of_law
                return *of_law, *(kl_upstream * one for one in self._number_gradients(*law))

            outputs = masked(operand, mask), self._kl_pass(*law)
            if self._operand_kind.with_mean:
                outputs = masked(loc, mask), *outputs
            return outputs, gradients

        return realise(loc, rho, *(numbers if learnt else ()))

    def _traced_apart(self, tensors: list[tf.Tensor | None], learnt: bool) -> Any:
        """`_realise`, traced outside the model that calls it."""
        given = [tensor is not None for tensor in tensors]

        def of_given(*present: tf.Tensor) -> tuple[tf.Tensor, ...]:
            rest = iter(present)
            loc, rho, noise, mask, *numbers = (next(rest) if one else None for one in given)
            return self._realise(loc, rho, noise, mask, numbers, learnt)

        shapes = [*[self._shape] * 4, *(number.shape for number in tensors[4:])]
        present = [tf.TensorSpec(shape) for shape, one in zip(shapes, given, strict=True) if one]
        with tf.init_scope():
            return traced(of_given).get_concrete_function(*present)


def realisation(operand: str, prior: AbstractPrior, shape: tuple[int, ...]) -> Realisation:
    """The one `Realisation` for all weights with a prior of this kind and shape, in any model.

    Layers of one shape are traced and compiled once, and so is a second model of the same
    architecture.
    """
    return _of_kind(operand, prior.kind, shape)


@functools.lru_cache(maxsize=1024)
def _of_kind(operand: str, kind: Kind, shape: tuple[int, ...]) -> Realisation:
    return Realisation(operand, kind.example, shape)


def _can_be_compiled(prior: AbstractPrior) -> bool:
    """Whether XLA takes the KL and its gradient: a user's prior may call what XLA has not."""
    if type(prior) in PRIORS.values():
        return True

    def kl_and_gradient(loc, scale, numbers):
        with tf.GradientTape() as tape:
            tape.watch((loc, scale))
            law = prior.with_values(numbers)
            kl = kl_divergence(tfd.Normal(loc, scale), law, loc + scale)
        return kl, tape.gradient(kl, (loc, scale), **_ZERO)

    with tf.init_scope():
        numbers = [tf.convert_to_tensor(number, tf.float32) for number in prior.values()]
        try:
            compiled(kl_and_gradient)(tf.zeros([2]), tf.ones([2]), numbers)
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
