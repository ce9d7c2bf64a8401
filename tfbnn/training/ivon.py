"""IVON: variational inference at the cost of Adam, for plain Keras layers."""

import functools
import inspect
import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import index_in
from tfbnn.training.drawn_steps import AbstractVariationalOptimizer
from tfbnn.weights import noise
from tfbnn.weights.abstract_prior import AbstractPrior
from tfbnn.weights.fan_in_priors import FanIn
from tfbnn.weights.loc_scale_priors import Normal
from tfbnn.weights.tracing import LARGE, compiled, inside_xla

# How many times the memory of the Hessian fades over a `fit`: with less it stays at its start, with
# more it is that of few batches.
_FADINGS = 6.5
# Of the gradient: with more, the first steps are lost in float32.
_LONGEST_MEMORY = 0.9999
# Of a `fit` whose steps are not known.
_MEMORY_IN_STEPS = 1000


@keras.saving.register_keras_serializable("tfbnn.optimizers")
class IVON(AbstractVariationalOptimizer):
    """Improved variational online Newton: an optimizer that learns a normal law of each weight.

    The variables of the model hold the mean `m` of the law. A step is taken at a draw
    `w = m + sigma * e`, `e ~ N(0, 1)`, which shows the diagonal `h` of the Hessian, too:

        g = beta_1 * g + (1 - beta_1) * grad(w)
        h_new = grad(w) * e / sigma
        h = beta_2 * h + (1 - beta_2) * h_new + (1 - beta_2)**2 / 2 * (h - h_new)**2 / (h + delta)
        m = m - learning_rate * clip((g / (1 - beta_1**t) + delta * m) / (h + delta))
        sigma = 1 / sqrt(n * (h + delta))

    with `n = max(num_examples, examples_per_weight * weights) / beta`, of the model, and
    `delta = 1 / (n * prior_scale**2)`: the prior is `N(0, prior_scale**2)`, or that of
    `tfbnn.priors.FanIn()`. Where there are more weights than rows, the law of each weight alone
    cannot do justice to the ELBO, whose best one is the prior; the rows then count as more of them.
    `h` starts at `initial_hessian`. A step is clipped, element by element: where `h` is small, it
    would be far too long. `fit`, validation and checkpoints see the mean; `tfbnn.predict` draws.

    Args:
        learning_rate: As in Keras; a hundredth of it is the largest step that a weight takes.
        prior_scale: Standard deviation of the prior of every weight, or `"fan_in"`:
            `sqrt(10 / fan_in)`, with the product of all axes of a variable but the last.
        initial_hessian: `h` at the start, positive; too large, and it is felt to the end.
        beta_1: Memory of the gradient, from 0 up to 0.9999.
        beta_2: Memory of the Hessian, from 0 up to 1; None: that which fades 6.5 times over a
            `fit`, `1 - 6.5 / steps`.
        clip: Largest step of a weight, over `learning_rate`.
        examples_per_weight: As how many examples the rows count at least, for each weight. 0 is the
            ELBO of `beta`, however few they are.
        seed: Seed of the draws; None: another one for each optimizer.
        name: As in Keras.

    Raises:
        ValueError: If an argument is out of its range; in `compile`, if the model has layers with
            random weights of their own or with regularizers, or learns the noise of real numbers.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(tfbnn.optimizers.IVON(0.1), loss=loss)
    >>> history = model.fit(np.eye(3), np.array([0, 1, 1]), epochs=2, verbose=0)
    >>> prediction, uncertainty = tfbnn.predict(model, np.eye(3), num_samples=8)
    >>> uncertainty.shape
    (3,)

    Reference:
        Shen et al. 2024, "Variational Learning is Effective for Large Deep Networks", alg. 1.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        prior_scale: float | str = "fan_in",
        initial_hessian: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float | None = None,
        clip: float = 0.01,
        examples_per_weight: float = 1.0,
        seed: int | None = None,
        name: str = "ivon",
    ):
        # Without Keras' other options: each would make another algorithm of this one.
        super().__init__(learning_rate=learning_rate, name=name)
        self.prior_scale = arguments.standard_deviation_or_fan_in("prior_scale", prior_scale)
        self.initial_hessian = arguments.positive("initial_hessian", initial_hessian)
        # At 1 nothing would ever be learnt.
        self.beta_1 = arguments.real_number("beta_1", beta_1, 0, _LONGEST_MEMORY)
        self.beta_2 = None if beta_2 is None else arguments.share("beta_2", beta_2)
        self.clip = arguments.positive("clip", clip)
        self.examples_per_weight = arguments.not_negative(
            "examples_per_weight", examples_per_weight
        )
        if seed is None:
            seed = int(keras.random.SeedGenerator().state.numpy()[0])
        self.seed = arguments.seed("seed", seed)
        self.__dict__["_objective"] = None

    @property
    def prior(self) -> AbstractPrior:
        # That of biases is wider here, where they have no inputs: layers know those of the kernel.
        return FanIn() if self.prior_scale == "fan_in" else Normal(scale=self.prior_scale)

    def follow(self, model: Any) -> None:
        self.__dict__["_objective"] = model.objective

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._num_weights = sum(math.prod(variable.shape) for variable in variables)
        # Of `h + delta`, which is positive whatever `num_examples` and `beta` are later.
        self._momentums, self._precisions = self.add_optimizer_variables(
            variables, ["momentum", "precision"]
        )

    def seed_of_step(self) -> tf.Tensor:
        return noise.fold_in(noise.as_seed(self.seed), tf.cast(self.iterations, tf.int32))

    def scales(self, variables: list[keras.Variable]) -> list[tf.Tensor]:
        found = []
        for variable in variables:
            n, _, start = self._law(variable)
            precision = tf.convert_to_tensor(self._slots(variable)[1].value)
            found.append(_pass(_scale, precision.shape)(precision, n, start))
        return found

    def apply_drawn(
        self, gradients: list[tf.Tensor], products: list[tf.Tensor], variables: list[Any]
    ) -> None:
        # One tensor for each variable: Keras sums it over replicas, and gives it to `update_step`.
        pairs = [tf.stack(pair) for pair in zip(gradients, products, strict=True)]
        self.apply(pairs, variables)

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: Any) -> None:
        """The update of one variable, from the gradient and its product with the noise."""
        law, slots = self._law(variable), [variable, *self._slots(variable)]
        values = [tf.convert_to_tensor(slot) for slot in slots]
        rates = [learning_rate, self.clip, self.beta_1, self._beta_2(), self.iterations + 1]
        rates = [tf.cast(rate, tf.float32) for rate in rates]
        updated = _pass(_updated, variable.shape)(gradient, *values, law, rates)
        for slot, new in zip(slots, updated, strict=True):
            self.assign(slot, new)

    def get_config(self) -> dict[str, Any]:
        names = [*inspect.signature(IVON).parameters]
        names.remove("learning_rate")
        rate = super().get_config()["learning_rate"]
        return {"learning_rate": rate, **{name: getattr(self, name) for name in names}}

    def _slots(self, variable: Any) -> tuple[keras.Variable, keras.Variable]:
        index = index_in(self, variable)
        return self._momentums[index], self._precisions[index]

    def _law(self, variable: Any) -> list[tf.Tensor]:
        """`n`, `delta`, and what is added to the slot of `h + delta`, which is 0 at first."""
        if self._objective is None:
            raise TypeError(
                "IVON needs a model of tfbnn, which steps at draws of the weights: take "
                "`tfbnn.Sequential` or `tfbnn.Model`. Received: another Keras model"
            )
        least = self.examples_per_weight * self._num_weights
        n = self._objective.tempered_num_examples(least)
        prior = self.prior.at_fan_in(math.prod(variable.shape[:-1]))
        delta = 1.0 / (n * prior.scale**2)
        return [n, delta, tf.where(self.iterations == 0, self.initial_hessian + delta, 0.0)]

    def _beta_2(self) -> Any:
        if self.beta_2 is not None:
            return self.beta_2
        steps = tf.cast(self._objective.progress.steps_in_all(), tf.float32)
        steps = tf.where(steps > 0, steps, _FADINGS * _MEMORY_IN_STEPS)
        return 1.0 - tf.minimum(_FADINGS / steps, 0.5)


def _scale(precision: Any, n: Any, start: Any) -> tf.Tensor:
    return tf.math.rsqrt(n * (precision + start))


def _updated(
    pair: Any, value: Any, momentum: Any, precision: Any, law: list[Any], rates: list[Any]
) -> tuple[tf.Tensor, ...]:
    """Mean, momentum and `h + delta` after a step."""
    n, delta, start = law
    learning_rate, clip, beta_1, beta_2, step = rates
    gradient, product = tf.unstack(pair)
    precision += start
    found = product * tf.sqrt(n * precision)
    momentum = beta_1 * momentum + (1.0 - beta_1) * gradient
    # The update of `h`, by its ratio to `h + delta`: at least a half is left, whatever is found.
    change = (1.0 - beta_2) * ((found + delta) / precision - 1.0)
    precision *= 1.0 + change + 0.5 * tf.square(change)
    direction = (momentum / (1.0 - tf.pow(beta_1, step)) + delta * value) / precision
    value -= learning_rate * tf.clip_by_value(direction, -clip, clip)
    return value, momentum, precision


def _pass(formula: Any, shape: Any) -> Any:
    """A formula, compiled where the weights are many."""
    fast = shape.num_elements() >= LARGE and not tf.executing_eagerly() and not inside_xla()
    return _compiled(formula) if fast else formula


@functools.cache
def _compiled(formula: Any) -> Any:
    return compiled(formula)
