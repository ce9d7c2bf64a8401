"""The variational layer: named random maps, their KL and their seeds, once for all layers."""

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers import scopes
from tfbnn.layers.estimators import ESTIMATORS
from tfbnn.layers.keras_internals import all_layers
from tfbnn.layers.linear_maps import LinearMap
from tfbnn.layers.random_maps import RandomMap
from tfbnn.weights import noise
from tfbnn.weights.families import NormalWeight, Place, WeightLaw


class AbstractVariationalLayer(keras.layers.Layer):
    """A layer with random weights: it makes random maps in `build` and calls them in `call`.

    What a call does is asked for by the caller: with `training=True` the outputs carry the
    estimator's noise; otherwise they are those at the posterior mean of the weights, without noise.
    In a loop over steps (a cell of `keras.layers.RNN`) a model of tfbnn draws once for all steps.

    The KL of the weights is collected by `tfbnn.Model` and `tfbnn.Sequential`. In any other Keras
    model give `kl_weight`, usually `1 / num_examples`: the layer then adds `kl_weight * KL` to
    `losses`, as a weight regularizer does, once for a layer that is called several times. With
    neither, `fit` raises an error.

    Args:
        estimator: `"flipout"` (the default), `"local_reparameterization"` or
            `"reparameterization"`; see `tfbnn.layers`.
        kl_weight: Weight of the KL in a plain Keras model; leave it out in `tfbnn.Model`.
        masked: Whether the layer has a mask of pruned weights. `tfbnn.prune` sets it.
        seed: Seed of the layer's noise, a whole number. With the same seed a run repeats exactly.
        **kwargs: Those of `keras.layers.Layer`, such as `name`, `dtype`, `trainable`.

    Attributes:
        maps: The random maps of a built layer by name.

    Raises:
        TypeError: If the estimator is not that of the class.
        ValueError: If an argument is out of its range or a name is unknown.

    Example:

    >>> import numpy as np, tfbnn
    >>> from tfbnn.layers import linear_maps
    >>> from tfbnn.weights.families import WeightLaw
    >>> class Gated(tfbnn.layers.AbstractVariationalLayer):
    ...     def build(self, input_shape):
    ...         dense = linear_maps.Dense(2)
    ...         self.add_map("kernel", dense, input_shape, WeightLaw())
    ...         self.add_map("gate_kernel", dense, input_shape, WeightLaw())
    ...     def call(self, inputs, training=None):
    ...         gate = self.maps["gate_kernel"](inputs, training)
    ...         return self.maps["kernel"](inputs, training) * keras.ops.sigmoid(gate)
    >>> Gated()(np.ones((4, 3), "float32"), training=True).shape
    TensorShape([4, 2])
    """

    estimator: str | None = None
    """That of a class that is named after one, and of every layer."""

    def __init__(
        self,
        estimator: str | None = None,
        kl_weight: float | None = None,
        masked: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.estimator = self._checked_estimator(estimator)
        self.kl_weight = (
            None if kl_weight is None else arguments.real_number("kl_weight", kl_weight, 0)
        )
        self.masked = arguments.boolean("masked", masked)
        self.seed = None if seed is None else arguments.seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.maps: dict[str, RandomMap] = {}

    def add_map(
        self,
        name: str,
        linear_map: LinearMap,
        input_shape: tuple[int | None, ...],
        kernel: WeightLaw,
        bias: WeightLaw | None = None,
    ) -> RandomMap:
        """Make the variables of a random map, in `build`; `maps[name]` holds it, too.

        Args:
            name: The name of its kernel, `"kernel"` or such as `"gate_kernel"`; its bias is then
                `"bias"` or `"gate_bias"`.
            linear_map: What it does with the kernel.
            input_shape: Shape of its inputs.
            kernel: The laws of the kernel.
            bias: The laws of the bias, or None.
        """
        shape = linear_map.kernel_shape(input_shape)
        fan_in, size = linear_map.fan_in(shape), linear_map.num_outputs(shape)
        place = Place(shape, fan_in, self.masked)
        weights = [kernel.posterior.build(self.add_weight, name, kernel, place), None]
        if bias is not None:
            bias_name = f"{name.removesuffix('kernel').rstrip('_')}_bias".lstrip("_")
            place = Place((size,), fan_in)
            weights[1] = bias.posterior.build(self.add_weight, bias_name, bias, place)
        self.maps[name] = RandomMap(self, name, linear_map, *weights)
        for random in self.maps[name].variational_weights:
            random.loc_variable.regularizer = _KLRegularizer(self.maps[name], random)
        return self.maps[name]

    @property
    def variational_weights(self) -> tuple[NormalWeight, ...]:
        """The random weights of the layer, map by map: the kernel, and the bias if it is random."""
        return tuple(w for one in self.maps.values() for w in one.variational_weights)

    def get_config(self) -> dict[str, Any]:
        estimator = {} if type(self).estimator else {"estimator": self.estimator}
        common = {"kl_weight": self.kl_weight, "masked": self.masked, "seed": self.seed}
        return {**super().get_config(), **estimator, **common}

    def _checked_estimator(self, estimator: str | None) -> str:
        cls = type(self)
        if estimator is None:
            return cls.estimator or "flipout"
        # Before it is compared: a tensor compares with numbers alone.
        estimator = arguments.one_of("estimator", estimator, tuple(ESTIMATORS))
        if cls.estimator not in (None, estimator):
            raise TypeError(
                f"The estimator of `{cls.__name__}` is {cls.estimator!r}; that of "
                f"`{cls.__mro__[1].__name__}` can be chosen. Received: estimator={estimator!r}"
            )
        return estimator


class _KLRegularizer(keras.regularizers.Regularizer):
    """`kl_weight * KL` of one weight, on the hook that Keras has for a penalty on a weight.

    Keras reads regularizers once per variable, so a layer that is called twice counts once. It is
    also where a model that is trained without any KL shows itself.
    """

    def __init__(self, random_map: RandomMap, weight: NormalWeight):
        self._map = random_map
        self._weight = weight

    def __call__(self, variable: Any) -> tf.Tensor:
        del variable
        layer = self._map.layer
        if layer.kl_weight is not None:
            return layer.kl_weight * self._weight.kl(self._seed())
        if self._map.called_with_noise and scopes.active_collector() is None:
            raise ValueError(
                f"The layer {layer.name!r} is trained in a model that does not collect the "
                "KL divergence of its weights, so the loss would be no ELBO. Use "
                "`tfbnn.Sequential` or `tfbnn.Model` in place of the Keras class, or pass "
                "`kl_weight=1 / num_examples` to the layer. Received: kl_weight=None"
            )
        return tf.zeros([])

    def _seed(self) -> tf.Tensor:
        # Evaluation repeats exactly; training must not reuse noise.
        return self._map.next_seed() if self._map.called_with_noise else noise.as_seed(0)


def variational_layers(model: keras.Layer) -> Iterator[AbstractVariationalLayer]:
    """Every variational layer of a model, nested ones included, each once.

    Example:

    >>> import keras, tfbnn
    >>> layer = tfbnn.layers.Dense(2)
    >>> model = tfbnn.Sequential([keras.Input((3,)), layer])
    >>> list(tfbnn.layers.variational_layers(model)) == [layer]
    True
    """
    arguments.instance("model", model, keras.Layer, "a Keras model or layer")
    for layer in all_layers(model):
        if isinstance(layer, AbstractVariationalLayer):
            yield layer


def mask_unbuilt_layers(model: keras.Layer) -> None:
    """Let the layers that a model makes by itself, and has not built, have masks."""
    for layer in variational_layers(model):
        layer.masked |= not layer.built


def random_maps(model: keras.Layer) -> list[RandomMap]:
    """Every random map of a built model, each once, in the order of its layers.

    Example:

    >>> import keras, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.Dense(2, name="last")])
    >>> [(one.full_name, one.kernel.shape) for one in tfbnn.layers.random_maps(model)]
    [('last', (3, 2))]
    """
    return [one for layer in variational_layers(model) for one in layer.maps.values()]


def variational_weights(model: keras.Layer) -> list[NormalWeight]:
    """Every random weight of a built model, each once, in the order of its layers."""
    return [weight for one in random_maps(model) for weight in one.variational_weights]
