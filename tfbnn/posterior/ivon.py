"""IVON: the law that the optimizer has learnt of the weights of plain Keras layers."""

from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.conversion.given_laws import with_scales
from tfbnn.posterior.base import AbstractRandomVariables
from tfbnn.posterior.mean_field import MeanFieldPosterior
from tfbnn.training.drawn_steps import AbstractVariationalOptimizer
from tfbnn.training.plain_models import likelihoods_of
from tfbnn.weights import noise


class IVON(AbstractRandomVariables):
    """Independent normal weights, with the law that `tfbnn.optimizers.IVON` has learnt.

    It is the posterior of a model that is compiled with that optimizer, and follows its training.

    Args:
        model: A built model of tfbnn of plain Keras layers, compiled with `tfbnn.optimizers.IVON`.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model is not built, or its optimizer is another, or has taken no step.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(tfbnn.optimizers.IVON(0.1), loss=loss)
    >>> history = model.fit(np.eye(3), np.array([0, 1, 1]), verbose=0)
    >>> posterior = tfbnn.posteriors.IVON(model)
    >>> tfbnn.predict(posterior, np.eye(3), num_samples=8, verbose=0).num_samples
    8

    Reference:
        Shen et al. 2024, "Variational Learning is Effective for Large Deep Networks".
    """

    route = "ivon"

    def __init__(self, model: keras.Model):
        arguments.instance("model", model, keras.Model, "a Keras model")
        optimizer = getattr(model, "optimizer", None)
        if not isinstance(optimizer, AbstractVariationalOptimizer) or not optimizer.built:
            raise ValueError(
                "The law of the weights is that of the optimizer: compile the model with "
                "`tfbnn.optimizers.IVON()` and train it. Received: a model with the optimizer "
                f"{type(optimizer).__name__}, built={getattr(optimizer, 'built', False)}"
            )
        super().__init__(model, likelihoods_of(model))
        self._known: tuple[Any, Any] = None, None

    @property
    def variables(self) -> list[keras.Variable]:
        return self.model.trainable_variables

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        seeds = noise.split(seed, len(self.variables))
        laws = zip(self.mean(), self._scales(), seeds, strict=True)
        return [mean + scale * noise.standard_normal(mean.shape, s) for mean, scale, s in laws]

    def mean(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(variable.value) for variable in self.variables]

    def with_laws(self) -> MeanFieldPosterior | None:
        """The same laws in the layers of a copy, if each has a place there.

        The same object as long as the model is not trained any further.
        """
        step = int(self.model.optimizer.iterations)
        if self._known[0] != step:
            bayesian = with_scales(self.model, self._scales(), self.model.optimizer.prior)
            self._known = step, bayesian and MeanFieldPosterior(bayesian)
        found = self._known[1]
        if found is not None:
            for old, new in zip(self.likelihoods, found.likelihoods, strict=True):
                new.take_temperatures(old)
        return found

    def _scales(self) -> list[tf.Tensor]:
        return self.model.optimizer.scales(self.variables)
