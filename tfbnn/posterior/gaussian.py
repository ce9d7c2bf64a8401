"""Gaussian posteriors: every random number is a weight with a normal law of its own."""

import abc
import contextlib
import math
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import variables_as
from tfbnn.layers.variational import variational_weights
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior.base import AbstractPosterior, AbstractRandomVariables
from tfbnn.training.copies import copy_state, rebuilt, remake_constants
from tfbnn.training.data import check_arrays
from tfbnn.training.plain_models import likelihoods_of
from tfbnn.training.sigma import named_weights
from tfbnn.weights import noise, priors
from tfbnn.weights.families import NormalWeight
from tfbnn.weights.softplus import inverse_softplus

# Draws that are compared with the laws, and by how many standard errors they may differ: a chance
# of 1e-9, and far from what laws of another posterior give.
_NUM_COMPARED = 4
_STANDARD_ERRORS = 6.0
# A hundred steps of float32: what a sum is rounded by is then less than a hundredth of the rest.
_ROUNDING = 1e-5


class NormalLaw(NamedTuple):
    """`N(loc, scale**2)` for each element of a weight tensor; `scale` is 0 where it is pruned."""

    loc: tf.Tensor
    scale: tf.Tensor

    def interval(self, mass: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """The central interval that holds `mass` of each weight's law.

            loc -+ scale * quantile((1 + mass) / 2)

        Args:
            mass: A probability, strictly between 0 and 1.

        Returns:
            Lower and upper ends, arrays of the shape of the weights.

        Raises:
            ValueError: If `mass` is no such number.

        Example:

        >>> from tfbnn.posterior.gaussian import NormalLaw
        >>> low, high = NormalLaw(0.0, 1.0).interval(0.9)
        >>> round(float(low), 3), round(float(high), 3)
        (-1.645, 1.645)
        """
        mass = arguments.probability("mass", mass)
        half = statistics.NormalDist().inv_cdf((1 + mass) / 2) * np.asarray(self.scale)
        return np.asarray(self.loc) - half, np.asarray(self.loc) + half


class AbstractGaussianPosterior(AbstractRandomVariables):
    """Independent normal weights: `w = loc + scale * N(0, 1)`.

    Beside draws there is the law of each weight, which moments, pruning and C are made of.

    Args:
        model: A built model with variational layers.
        likelihoods: One for each output.
    """

    def __init__(self, model: keras.Model, likelihoods: list[AbstractLikelihood]):
        super().__init__(model, likelihoods)
        self.weights: list[NormalWeight] = variational_weights(model)

    def with_laws(self) -> Self:
        return self

    @abc.abstractmethod
    def laws(self) -> dict[NormalWeight, NormalLaw]:
        """The law of each of `weights`."""

    def interval(self, mass: float = 0.9) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The central intervals that hold `mass` of each weight's law.

        Args:
            mass: A probability, strictly between 0 and 1.

        Returns:
            For each tensor, `"<layer>/kernel"` or `"<layer>/bias"`, its lower and upper ends.

        Raises:
            ValueError: If `mass` is no such number.
        """
        laws = self.laws()
        return {name: laws[w].interval(mass) for name, w in named_weights(self.model).items()}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this block the weights of the model have these laws, whatever they had before."""
        values: list[tuple[Any, Any]] = []
        for weight, (loc, scale) in self.laws().items():
            values.append((weight.loc_variable, loc))
            # A scale of 0 has no `rho`; no smaller one is told from it.
            known = tf.maximum(scale, arguments.SMALLEST_SCALE)
            values.append((weight.rho_variable, inverse_softplus(known)))
        with variables_as(values):
            yield

    def as_model(self) -> Any:
        """A `tfbnn` model whose layers hold these laws, a copy of the posterior's."""
        copy = rebuilt(self.model)
        copy.set_weights(self.model.get_weights())
        remake_constants(copy)
        copy_state(self.model, copy)
        for weight, other in zip(self.weights, variational_weights(copy), strict=True):
            other.assign(*self.laws()[weight])
        return copy

    @property
    def variables(self) -> list[keras.Variable]:
        return [weight.loc_variable for weight in self.weights]

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        seeds, laws = noise.split(seed, len(self.weights)), self.laws()
        pairs = zip((laws[weight] for weight in self.weights), seeds, strict=True)
        return [law.loc + law.scale * noise.standard_normal(law.loc.shape, s) for law, s in pairs]

    def mean(self) -> list[tf.Tensor]:
        laws = self.laws()
        return [laws[weight].loc for weight in self.weights]

    def network(self, values: list[tf.Tensor], inputs: Any) -> Any:
        # Draws are pruned already: a mask would be read, and stored in files, for nothing.
        masks = [w.mask_variable for w in self.weights if w.mask_variable is not None]
        with variables_as([(mask, tf.ones([])) for mask in masks]):
            return super().network(values, inputs)

    def describe(self) -> dict[str, Any]:
        serialized = [priors.serialize(weight.prior) for weight in self.weights]
        described = [{"class": c["class_name"], **c["config"]} for c in serialized]
        distinct = [d for index, d in enumerate(described) if d not in described[:index]]
        number = getattr(self.model, "num_examples", None)
        return {**super().describe(), "num_examples": number, "priors": distinct}


class GaussianPosterior(AbstractGaussianPosterior):
    """Independent normal weights with given laws, whatever the layers of the model say.

    Args:
        model: A built Keras model with variational layers; one of tfbnn, if it is to be pruned.
        likelihoods: One for each output, such as `model.likelihoods`.
        laws: For each random weight of the model, as `tfbnn.layers.variational_weights` gives them,
            its mean and its standard deviation (0 where it is pruned), arrays of its shape.

    Raises:
        TypeError: If `model` is none.
        ValueError: If the model is not built, there are laws of other weights than those of the
            model, or one has another shape, is not finite, or has a negative standard deviation.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.Dense(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> weights = tfbnn.layers.variational_weights(model)
    >>> wider = {weight: (weight.loc, 2 * weight.scale) for weight in weights}
    >>> posterior = tfbnn.posteriors.GaussianPosterior(model, model.likelihoods, wider)
    >>> prediction, uncertainty = tfbnn.predict(posterior, np.eye(3), num_samples=8)
    >>> prediction.shape, uncertainty.shape
    ((3, 2), (3,))
    """

    route = "gaussian"

    def __init__(
        self,
        model: keras.Model,
        likelihoods: list[AbstractLikelihood],
        laws: dict[NormalWeight, NormalLaw],
    ):
        arguments.instance("model", model, keras.Model, "a Keras model")
        super().__init__(model, likelihoods)
        laws = arguments.interpreted("laws", laws, dict, "a dict of the laws of weights")
        if set(laws) != set(self.weights):
            raise ValueError(
                "`laws` must have each random weight of the model, as "
                "`tfbnn.layers.variational_weights(model)` gives them, and no other. "
                f"Received: laws of {len(laws)} weights, of a model with {len(self.weights)}"
            )
        self._laws = {weight: _checked(weight, laws[weight]) for weight in self.weights}

    def laws(self) -> dict[NormalWeight, NormalLaw]:
        return self._laws

    @property
    def parts(self) -> list[Any]:
        """In a file it is layers that hold the laws."""
        return [self.as_model()]

    @classmethod
    def from_parts(cls, parts: list[Any], config: dict[str, Any], arrays: dict[str, Any]) -> Self:
        del arrays
        (model,) = parts
        weights = variational_weights(model)
        laws = {weight: NormalLaw(weight.loc, weight.scale) for weight in weights}
        return cls(model, likelihoods_of(model), laws, **config)


def _checked(weight: NormalWeight, law: Any) -> NormalLaw:
    name, shape = f"laws[{weight.name}]", tuple(weight.shape)
    parts = arguments.listed(name, law, arguments.real_array)
    shapes = [part.shape for part in parts]
    if shapes != [shape, shape] or (parts[1] < 0).any():
        least = [float(part.min(initial=0)) for part in parts]
        raise ValueError(
            f"`{name}` must be a mean and a standard deviation, each of shape {shape}, the latter "
            f"not negative. Received: {name} of shapes {shapes}, with elements from {least}"
        )
    check_arrays(name, parts)
    return NormalLaw(*(tf.convert_to_tensor(part, tf.float32) for part in parts))


def gaussian(posterior: AbstractPosterior, what: str) -> AbstractGaussianPosterior:
    """A posterior that has the law of each weight, which is that of its draws.

    Args:
        posterior: Any posterior.
        what: What needs the laws, the subject of a message.

    Raises:
        TypeError: If the posterior has no laws of weights.
        ValueError: If its draws have other laws than it says.
    """
    found = posterior.with_laws()
    if found is None:
        raise TypeError(
            f"{what} needs the mean and the standard deviation of each weight, which this "
            "posterior has not. `tfbnn.predict`, `tfbnn.evaluate`, `tfbnn.calibrate` and files "
            "with `uncertainty='ensemble'` take it; `tfbnn.distill` teaches a model that has them. "
            f"Received: a posterior of type {type(posterior).__name__}"
        )
    _check_laws(found)
    return found


def _check_laws(posterior: AbstractGaussianPosterior) -> None:
    """Compare the draws with the laws: `(w - loc) / scale` has mean square 1."""
    laws, squares, count = posterior.laws(), 0.0, 0
    for number in range(_NUM_COMPARED):
        draw = posterior.draw(noise.as_seed(number))
        for weight, values in zip(posterior.weights, draw, strict=True):
            loc, scale = (np.asarray(part, np.float64) for part in laws[weight])
            # Of weights that are no numbers, others have more to say; and where a sum with the mean
            # is rounded, nothing is seen of the deviation.
            seen = (scale > 0) & (scale > _ROUNDING * np.abs(loc))
            kept = seen & np.isfinite(loc) & np.isfinite(scale)
            squares += np.square((values.numpy()[kept] - loc[kept]) / scale[kept]).sum()
            count += int(kept.sum())
    # The variance of a squared normal is 2.
    limit = _STANDARD_ERRORS * math.sqrt(2 * count)
    # Also of NaN.
    if not abs(squares - count) <= limit:
        raise ValueError(
            "The draws of the posterior have other laws than those that it gives for each weight, "
            "so what is made from one would not be what the other predicts. Let `draw` and `laws` "
            f"agree. Received: a posterior of type {type(posterior).__name__}, whose draws are "
            f"{math.sqrt(squares / max(count, 1)):.3g} standard deviations from the mean (root "
            "mean square)"
        )
