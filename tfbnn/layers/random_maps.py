"""Random maps: a linear map with the law of its kernel and of its bias.

A layer holds one or more, each with a name. Seeds of draws, rules of exported files, frozen weights
and masks belong to a map, so that nobody outside need know how many of them a layer has.
"""

from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers import scopes
from tfbnn.layers.estimators import ESTIMATORS, mean
from tfbnn.layers.linear_maps import LinearMap
from tfbnn.weights import noise
from tfbnn.weights.families import NormalWeight, Weight


class RandomMap:
    """`f(x, w) + b` with a random kernel `w` and a bias `b`, random or not.

    A layer makes it with `add_map`, and calls it with inputs and `training`.

    Attributes:
        layer: The layer that holds it.
        name: The name of its kernel in the layer.
        linear_map: `f`.
        kernel: The law of `w`.
        bias: The law of `b`, or None.
        called_with_noise: Whether its last call was one of training.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        name: str,
        linear_map: LinearMap,
        kernel: NormalWeight,
        bias: Weight | None,
    ):
        self.layer = layer
        self.name = name
        self.linear_map = linear_map
        self.kernel = kernel
        self.bias = bias
        self.called_with_noise = False

    @property
    def full_name(self) -> str:
        """The name of the layer, with that of the map where the layer has others."""
        return self.layer.name if len(self.layer.maps) == 1 else f"{self.layer.name}/{self.name}"

    @property
    def variational_weights(self) -> tuple[NormalWeight, ...]:
        """The random weights: the kernel, and the bias if it is random."""
        return tuple(w for w in (self.kernel, self.bias) if isinstance(w, NormalWeight))

    @property
    def variables(self) -> list[keras.Variable]:
        """What draws and masks of the map are made of, the seeds of its layer included."""
        weights = [weight for weight in (self.kernel, self.bias) if weight is not None]
        return [*(v for w in weights for v in w.variables), self.layer.seed_generator.state]

    def __call__(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The outputs: by the active rule, with the estimator's noise, or at the posterior mean."""
        rule = scopes.active_rule()
        self.called_with_noise = bool(training) and rule is None
        # Keras casts floats only; a kernel cast to the type of whole numbers would be zero.
        inputs = tf.cast(inputs, self.layer.compute_dtype)
        if rule is not None:
            return rule(self, inputs)
        if training:
            return self._noisy(inputs)
        return mean(self.linear_map, inputs, self.kernel, self.bias)

    def next_seed(self) -> tf.Tensor:
        """A seed that no other draw of the layer has."""
        return noise.next_seed(self.layer.seed_generator)

    def _noisy(self, inputs: tf.Tensor) -> tf.Tensor:
        collector = scopes.active_collector()
        seed = self.next_seed() if collector is None else collector.seed(self)
        estimator: Any = ESTIMATORS[self.layer.estimator]
        outputs, divergences = estimator(self.linear_map, inputs, self.kernel, self.bias, seed)
        if collector is not None:
            collector.record(self, divergences)
        return outputs
