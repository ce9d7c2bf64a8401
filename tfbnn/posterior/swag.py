"""SWAG: a normal law around the mean of the weights that stochastic gradient descent passes by."""

from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.conversion.given_laws import with_scales
from tfbnn.layers.keras_internals import all_layers
from tfbnn.layers.variational import variational_layers
from tfbnn.posterior.base import AbstractRandomVariables
from tfbnn.posterior.mean_field import MeanFieldPosterior
from tfbnn.training.copies import compile_like
from tfbnn.training.plain_models import likelihoods_of
from tfbnn.weights import noise


class WeightMoments(NamedTuple):
    """Moments of what `CollectedVariable.coordinates` gave, an array for each variable.

    Attributes:
        mean: Of the shapes of the variables.
        variance: The same.
        deviations: The last ones from the mean so far, in arrays `(rank, *shape)`; all of rank 0
            for a diagonal covariance.
    """

    mean: list[np.ndarray]
    variance: list[np.ndarray]
    deviations: list[np.ndarray]


class CollectedVariable(NamedTuple):
    """A variable that is averaged, in coordinates of which every value is a possible one.

    Attributes:
        variable: The variable.
        epsilon: None for a weight, which is its own coordinate. Of a variance, which
            BatchNormalization divides by, it is `log(variance + epsilon)`.
    """

    variable: keras.Variable
    epsilon: float | None = None

    def coordinates(self) -> np.ndarray:
        """Where the variable is now, in float64."""
        value = keras.ops.convert_to_numpy(self.variable).astype(np.float64)
        return value if self.epsilon is None else np.log(value + self.epsilon)

    def value(self, coordinates: tf.Tensor) -> tf.Tensor:
        """What the variable is there."""
        if self.epsilon is not None:
            coordinates = tf.nn.relu(tf.exp(coordinates) - self.epsilon)
        return tf.cast(coordinates, self.variable.dtype)


def collected_variables(model: keras.Model) -> list[CollectedVariable]:
    """What SWAG averages of a model: weights that are trained, and moving statistics.

    Raises:
        TypeError: If the model has random weights of its own.
    """
    arguments.instance("model", model, keras.Model, "a Keras model")
    if any(True for _ in variational_layers(model)):
        raise TypeError(
            "The weights of this model are random already, and `tfbnn.predict` takes it as it is; "
            f"SWAG is for a plain Keras model. Received: model={model.name!r}"
        )
    collected = [CollectedVariable(variable) for variable in model.trainable_variables]
    for layer in all_layers(model):
        # Frozen, it is in inference always, and its statistics stay.
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built and layer.trainable:
            collected.append(CollectedVariable(layer.moving_mean))
            collected.append(CollectedVariable(layer.moving_variance, layer.epsilon))
    return collected


class SWAG(AbstractRandomVariables):
    """A normal law of all weights, of low rank beside a diagonal: `SWA-Gaussian`.

        w = mean + sqrt(variance / 2) * z1 + deviations^T z2 / sqrt(2 * (rank - 1))

    with the moments of the weights that training passed by, and standard normal `z1` (one for each
    weight) and `z2` (one for each of `rank` deviations). With rank 0 the covariance is the diagonal
    alone, `w = mean + sqrt(variance) * z1`: of dense layers and convolutions that is a law of each
    weight, by which the network is pruned, and which moments and C take.

    `tfbnn.callbacks.SWAG` collects them while a plain Keras model is fitted, and makes the
    posterior. `posterior.mean()` is the network of stochastic weight averaging (SWA), and several
    posteriors in a `tfbnn.posteriors.Ensemble` are MultiSWAG.

    The moving statistics of BatchNormalization are part of the network, as they fit its weights: so
    they are collected and drawn with them, with the same `z2`, variances by their logarithm. No
    pass over the data is needed, neither for the mean nor for a draw. (The paper computes them anew
    for each draw, from the training data.) Other variables that are not trained stay as they are.

    Args:
        model: The built Keras model, compiled with a likelihood. It is not changed.
        moments: Moments of its variables; `callback.moments()` of a `tfbnn.callbacks.SWAG`.

    Raises:
        TypeError: If an argument is of another type, or the model has random weights of its own.
        ValueError: If the model is not built, or has no likelihood, or the moments are of other
            variables or have a rank of 1.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.SGD(0.1), loss=loss)
    >>> swag = tfbnn.callbacks.SWAG(start=2)
    >>> x, y = np.eye(3), np.array([0, 1, 1])
    >>> history = model.fit(x, y, epochs=8, batch_size=1, callbacks=[swag], verbose=0)
    >>> prediction, uncertainty = tfbnn.predict(swag.posterior(), x, num_samples=8)
    >>> prediction.shape, uncertainty.shape
    ((3, 2), (3,))

    References:
        Maddox et al. 2019, "A Simple Baseline for Bayesian Uncertainty in Deep Learning", sec. 3.2
        to 3.3, eq. 1, and algorithm 1.
        Wilson and Izmailov 2020, "Bayesian Deep Learning and a Probabilistic Perspective of
        Generalization", sec. 3.2 (MultiSWAG).
    """

    route = "swag"

    def __init__(self, model: keras.Model, moments: WeightMoments):
        self._collected = collected_variables(model)
        super().__init__(model, likelihoods_of(model))
        arguments.instance("moments", moments, WeightMoments, "the moments of a SWAG callback")
        self.moments = WeightMoments(*([_single(one) for one in part] for part in moments))
        self.rank = self._checked_rank()
        # Two halves of the covariance, where there are two parts.
        share = 0.5 if self.rank else 1.0
        self._mean = [tf.constant(one) for one in self.moments.mean]
        self._scales = [tf.constant(np.sqrt(share * one)) for one in self.moments.variance]
        factor = np.float32(np.sqrt(share / max(self.rank - 1, 1)))
        self._deviations = [tf.constant(factor * one) for one in self.moments.deviations]

    @property
    def variables(self) -> list[keras.Variable]:
        return [one.variable for one in self._collected]

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        *seeds, common = noise.split(seed, len(self._mean) + 1)
        low = noise.standard_normal([self.rank], common)
        parts = zip(self._mean, self._scales, self._deviations, seeds, strict=True)
        return self._values(
            mean + scale * noise.standard_normal(mean.shape, one) + tf.tensordot(low, deviations, 1)
            for mean, scale, deviations, one in parts
        )

    def mean(self) -> list[tf.Tensor]:
        """The network of stochastic weight averaging."""
        return self._values(self._mean)

    def as_model(self) -> keras.Model:
        """A copy of the model with the mean in the place of the weights."""
        copy = keras.models.clone_model(self.model)
        copy.set_weights(self.model.get_weights())
        places = {id(variable): place for place, variable in enumerate(self.model.variables)}
        for variable, value in zip(self.variables, self.mean(), strict=True):
            copy.variables[places[id(variable)]].assign(value)
        compile_like(self.model, copy, for_training=False)
        return copy

    def with_laws(self) -> MeanFieldPosterior | None:
        """The same weights in a copy made random, where they are independent and there is one."""
        if self.rank or len(self.variables) != len(self.model.trainable_variables):
            return None
        bayesian = with_scales(self.as_model(), self._scales)
        if bayesian is None:
            return None
        for old, new in zip(self.likelihoods, bayesian.likelihoods, strict=True):
            new.take_temperatures(old)
        return MeanFieldPosterior(bayesian)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {
            f"{name}_{index}": array
            for name, part in self.moments._asdict().items()
            for index, array in enumerate(part)
        }

    @classmethod
    def from_parts(cls, parts: list[Any], config: dict[str, Any], arrays: dict[str, Any]) -> Self:
        del config
        (model,) = parts
        count = len(arrays) // len(WeightMoments._fields)
        moments = ([arrays[f"{n}_{i}"] for i in range(count)] for n in WeightMoments._fields)
        return cls(model, WeightMoments(*moments))

    def _values(self, coordinates: Any) -> list[tf.Tensor]:
        pairs = zip(self._collected, coordinates, strict=True)
        return [collected.value(one) for collected, one in pairs]

    def _checked_rank(self) -> int:
        """The number of deviations, the same of all variables; 0 or more than 1."""
        mean, variance, deviations = self.moments
        ranks = {len(one) for one in deviations}
        shapes = [tuple(variable.shape) for variable in self.variables]
        found = [[one.shape for one in part] for part in (mean, variance)]
        found.append([one.shape[1:] for one in deviations])
        if any(one != shapes for one in found) or len(ranks) != 1:
            raise ValueError(
                "The moments are of other variables than the model has: was a layer added, or "
                f"frozen, since? Received: moments of shapes {found[0]}, and a model with {shapes}"
            )
        (rank,) = ranks
        if rank == 1:
            raise ValueError(
                "The covariance of rank `rank` divides by `rank - 1`: collect two deviations or "
                "more, or none. Received: moments with one deviation"
            )
        return rank


def _single(array: Any) -> np.ndarray:
    return np.asarray(array, np.float32)
