"""One network: the posterior of a Keras model without anything random."""

from typing import Any

import keras
import tensorflow as tf

from tfbnn.posterior.base import AbstractFiniteNetworks
from tfbnn.training.plain_models import likelihoods_of


class MAP(AbstractFiniteNetworks):
    """The network that training has found, and no other: all uncertainty is that of the labels.

    Trained with the prior of `tfbnn.with_prior`, or with weight decay, it is at the maximum of a
    posterior density (maximum a posteriori). It is what a plain Keras model is as a member of an
    ensemble.

    Args:
        model: A built Keras model, compiled with a likelihood.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> tfbnn.predict(tfbnn.posteriors.MAP(model), np.eye(3)).num_samples
    1
    """

    route = "map"

    def __init__(self, model: keras.Model):
        super().__init__(model, likelihoods_of(model))

    @property
    def all_draws(self) -> list[tf.Tensor]:
        # Of what all networks of a map share, it makes as many as there are numbers.
        return [tf.zeros([1], tf.int32)]

    def mean(self) -> list[tf.Tensor]:
        return [tf.constant(0)]

    def network(self, values: list[tf.Tensor], inputs: Any) -> Any:
        del values
        return self.model(inputs, training=False)
