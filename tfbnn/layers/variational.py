"""The variational layer: build, call, KL and configuration, once for all maps and estimators."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers import scopes
from tfbnn.layers.estimators import ESTIMATORS, LinearMap, mean
from tfbnn.layers.keras_internals import all_layers
from tfbnn.weights import families, noise, priors
from tfbnn.weights.families import NormalWeight, Weight, WeightSpecification


class AbstractVariationalLayer(keras.layers.Layer):
    """A linear map with a random kernel, a bias and an activation.

    Subclasses give the map (`linear_map`) and bind the name of an estimator. What a call does
    is asked for by the caller: with `training=True` the outputs carry the estimator's noise;
    otherwise they are those at the posterior mean of the weights, without noise.

    The KL of the weights is collected by `tfbnn.Model` and `tfbnn.Sequential`. In any other Keras
    model give `kl_weight`, usually `1 / num_examples`: the layer then adds `kl_weight * KL` to
    `losses`, as a weight regularizer does, once for a layer that is called several times. With
    neither, `fit` raises an error.

    Args:
        activation: Activation function, as in Keras.
        use_bias: Whether a bias is added.
        kernel_initializer: Initializer of the posterior mean of the kernel.
        bias_initializer: Initializer of the (posterior mean of the) bias.
        kernel_regularizer: Must be None: it would be a second prior.
        bias_regularizer: Regularizer of a point bias.
        activity_regularizer: Regularizer of the outputs.
        kernel_constraint: Constraint on the posterior mean of the kernel.
        bias_constraint: Constraint on the (posterior mean of the) bias.
        prior: Prior of each kernel weight: an object or a name of `tfbnn.priors`, or any
            `tfp.distributions` law of one real number.
        posterior: Family of the kernel's posterior: an object of `tfbnn.families`;
            `tfbnn.families.Normal(initial_scale=...)` sets the standard deviation at the start.
        bias_prior: Prior of each bias, `FanIn(smallest_scale=0.3)` by default, whatever `prior` is.
            Used if the bias is random.
        bias_posterior: `"normal"`, `"point"` (an ordinary bias, no KL), or a family.
        kl_weight: Weight of the KL in a plain Keras model; leave it out in `tfbnn.Model`.
        masked: Whether the layer has a mask of pruned weights. `tfbnn.prune` sets it.
        seed: Seed of the layer's noise, a whole number. With the same seed a run repeats exactly.
        **kwargs: Those of `keras.layers.Layer`, such as `name`, `dtype`, `trainable`.
    """

    estimator: str

    def __init__(
        self,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        prior: Any = "automatic_relevance",
        posterior: Any = "normal",
        bias_prior: Any = None,
        bias_posterior: Any = "normal",
        kl_weight: float | None = None,
        masked: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        activity_regularizer = _keras_object("activity_regularizer", activity_regularizer)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if kernel_regularizer is not None:
            raise ValueError(
                "A kernel regularizer would be a second prior; choose `prior` instead. "
                f"Received: kernel_regularizer={kernel_regularizer}"
            )
        self.activation = _keras_object("activation", activation)
        self.use_bias = arguments.boolean("use_bias", use_bias)
        self.kernel_initializer = _fresh_initializer("kernel_initializer", kernel_initializer)
        self.bias_initializer = _fresh_initializer("bias_initializer", bias_initializer)
        self.bias_regularizer = _keras_object("bias_regularizer", bias_regularizer)
        self.kernel_constraint = _keras_object("kernel_constraint", kernel_constraint)
        self.bias_constraint = _keras_object("bias_constraint", bias_constraint)
        self.prior = _law("prior", prior)
        bias_prior = priors.OF_BIASES if bias_prior is None else bias_prior
        self.bias_prior = _law("bias_prior", bias_prior)
        self.posterior = _random_family(posterior)
        self.bias_posterior = _law("bias_posterior", bias_posterior)
        self.kl_weight = _checked_kl_weight(kl_weight)
        self.masked = arguments.boolean("masked", masked)
        self.seed = None if seed is None else arguments.seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.kernel: NormalWeight | None = None
        self.bias: Weight | None = None
        self._called_with_noise = False

    @property
    def linear_map(self) -> LinearMap:
        raise NotImplementedError

    @property
    def variational_weights(self) -> tuple[NormalWeight, ...]:
        """The random weights of the layer: the kernel, and the bias if it is random."""
        weights = (self.kernel, self.bias)
        return tuple(w for w in weights if isinstance(w, NormalWeight))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.input_spec = self._accepted_inputs(input_shape)
        shape = self.linear_map.kernel_shape(input_shape)
        fan_in = math.prod(shape[:-1])
        self.kernel = self.posterior.build(
            self.add_weight,
            WeightSpecification(
                "kernel",
                shape,
                fan_in,
                self.kernel_initializer,
                self.prior,
                self.kernel_constraint,
                masked=self.masked,
            ),
        )
        if self.use_bias:
            self.bias = self.bias_posterior.build(
                self.add_weight,
                WeightSpecification(
                    "bias",
                    shape[-1:],
                    fan_in,
                    self.bias_initializer,
                    self.bias_prior,
                    self.bias_constraint,
                    self.bias_regularizer,
                ),
            )
        for weight in self.variational_weights:
            weight.loc_variable.regularizer = _KLRegularizer(self, weight)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        rule = scopes.active_rule()
        self._called_with_noise = bool(training) and rule is None
        # Keras casts floats only; a kernel cast to the type of whole numbers would be zero.
        inputs = tf.cast(inputs, self.compute_dtype)
        if rule is not None:
            outputs = rule(self, inputs)
        elif training:
            outputs = self._noisy(inputs)
        else:
            outputs = mean(self.linear_map, inputs, self.kernel, self.bias)
        return self.activation(outputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.linear_map.output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "prior": priors.serialize(self.prior),
            "posterior": serialize(self.posterior),
            "bias_prior": priors.serialize(self.bias_prior),
            "bias_posterior": serialize(self.bias_posterior),
            "kl_weight": self.kl_weight,
            "masked": self.masked,
            "seed": self.seed,
        }

    def _noisy(self, inputs: tf.Tensor) -> tf.Tensor:
        collector = scopes.active_collector()
        seed = None if collector is None else collector.seed(self)
        if seed is None:
            seed = noise.next_seed(self.seed_generator)
        estimator = ESTIMATORS[self.estimator]
        outputs, divergences = estimator(self.linear_map, inputs, self.kernel, self.bias, seed)
        if collector is not None:
            collector.record(self, seed, divergences)
        return outputs

    def _accepted_inputs(self, input_shape: tuple[int | None, ...]) -> keras.InputSpec:
        raise NotImplementedError


class _KLRegularizer(keras.regularizers.Regularizer):
    """`kl_weight * KL` of one weight, on the hook that Keras has for a penalty on a weight.

    Keras reads regularizers once per variable, so a layer that is called twice counts once. It is
    also where a model that is trained without any KL shows itself.
    """

    def __init__(self, layer: AbstractVariationalLayer, weight: NormalWeight):
        self._layer = layer
        self._weight = weight

    def __call__(self, variable: Any) -> tf.Tensor:
        del variable
        if self._layer.kl_weight is not None:
            return self._layer.kl_weight * self._weight.kl(self._seed())
        if self._layer._called_with_noise and scopes.active_collector() is None:
            raise ValueError(
                f"The layer {self._layer.name!r} is trained in a model that does not collect the "
                "KL divergence of its weights, so the loss would be no ELBO. Use "
                "`tfbnn.Sequential` or `tfbnn.Model` in place of the Keras class, or pass "
                "`kl_weight=1 / num_examples` to the layer. Received: kl_weight=None"
            )
        return tf.zeros([])

    def _seed(self) -> tf.Tensor:
        # Evaluation repeats exactly; training must not reuse noise.
        if self._layer._called_with_noise:
            return noise.next_seed(self._layer.seed_generator)
        return noise.as_seed(0)


def variational_layers(model: keras.Layer) -> Iterator[AbstractVariationalLayer]:
    """Every variational layer of a model, nested ones included, each once.

    Example:

    >>> import keras, tfbnn
    >>> layer = tfbnn.layers.DenseFlipout(2)
    >>> model = tfbnn.Sequential([keras.Input((3,)), layer])
    >>> list(tfbnn.layers.variational_layers(model)) == [layer]
    True
    """
    arguments.instance("model", model, keras.Layer, "a Keras model or layer")
    for layer in all_layers(model):
        if isinstance(layer, AbstractVariationalLayer):
            yield layer


def variational_weights(model: keras.Layer) -> list[NormalWeight]:
    """Every random weight of a built model, each once, in the order of its layers."""
    return [w for layer in variational_layers(model) for w in layer.variational_weights]


def _law(name: str, identifier: Any) -> Any:
    """A prior or a family, by the kind that `name` ends in."""
    get = priors.get if name.endswith("prior") else families.get
    return arguments.interpreted(name, identifier, get, "a law of `tfbnn.priors` or `.families`")


def _random_family(identifier: Any) -> families.Normal:
    family = _law("posterior", identifier)
    if isinstance(family, families.Point):
        raise ValueError(
            "The kernel of a variational layer must be random; for a point kernel use the Keras "
            f"layer. Received: posterior={identifier!r}"
        )
    return family


def _keras_object(name: str, identifier: Any) -> Any:
    """What Keras makes of a name, a configuration or an object, by the kind that `name` ends in."""
    kind = name.rsplit("_", 1)[-1]

    def interpret(identifier: Any) -> Any:
        found = getattr(keras, f"{kind}s").get(identifier)
        # Keras calls classes, or keeps them, whatever they are.
        if found is not None and (isinstance(found, type) or not callable(found)):
            raise TypeError(f"it stands for {found!r}")
        return found

    return arguments.interpreted(name, identifier, interpret, f"what Keras takes as {kind}")


def _fresh_initializer(name: str, identifier: Any) -> keras.initializers.Initializer:
    """The initializer, cloned if it is an object: a shared one repeats its numbers."""
    initializer = _keras_object(name, identifier)
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer


def _checked_kl_weight(kl_weight: float | None) -> float | None:
    return None if kl_weight is None else arguments.real_number("kl_weight", kl_weight, 0)
