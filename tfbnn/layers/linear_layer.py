"""The linear layer: one random map, a bias and an activation, as most Keras layers have them."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.linear_maps import LinearMap
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.variational import AbstractVariationalLayer
from tfbnn.weights import families, priors
from tfbnn.weights.families import NormalWeight, Weight, WeightLaw

# What is of the kernel in files written before it was named as Keras does.
_FORMER_NAMES = {"prior": "kernel_prior", "posterior": "kernel_posterior"}

# Arguments that go into a configuration as objects do.
_OBJECTS = """kernel_initializer bias_initializer bias_regularizer activity_regularizer
kernel_constraint bias_constraint kernel_prior kernel_posterior bias_prior bias_posterior""".split()


class AbstractLinearLayer(AbstractVariationalLayer):
    """`activation(f(inputs, kernel) + bias)` with a random kernel. Subclasses give the map `f`.

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
        kernel_prior: Prior of each kernel weight: an object or a name of `tfbnn.priors`, or any
            `tfp.distributions` law of one real number.
        kernel_posterior: Family of the kernel's posterior: an object of `tfbnn.families`;
            `tfbnn.families.Normal(initial_scale=...)` sets the standard deviation at the start.
        bias_prior: Prior of each bias, `FanIn(smallest_scale=0.3)` by default, whatever
            `kernel_prior` is. Used if the bias is random.
        bias_posterior: `"normal"`, `"point"` (an ordinary bias, no KL), or a family.
        **kwargs: Those of `tfbnn.layers.AbstractVariationalLayer`, such as `estimator`.

    Raises:
        TypeError: If the estimator is not that of the class, or an argument had another name.
        ValueError: If an argument is out of its range or a name is unknown.
    """

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
        kernel_prior: Any = "automatic_relevance",
        kernel_posterior: Any = "normal",
        bias_prior: Any = None,
        bias_posterior: Any = "normal",
        **kwargs: Any,
    ):
        for former in kwargs.keys() & _FORMER_NAMES.keys():
            raise TypeError(
                f"`{former}` is called `{_FORMER_NAMES[former]}`. "
                f"Received: {former}={kwargs[former]!r}"
            )
        activity_regularizer = _keras_object("activity_regularizer", activity_regularizer)
        # Before the seeds of the layer are: both come from Keras' global ones, in this order.
        kernel_initializer = _fresh_initializer("kernel_initializer", kernel_initializer)
        bias_initializer = _fresh_initializer("bias_initializer", bias_initializer)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if kernel_regularizer is not None:
            raise ValueError(
                "A kernel regularizer would be a second prior; choose `kernel_prior` instead. "
                f"Received: kernel_regularizer={kernel_regularizer}"
            )
        self.activation = _keras_object("activation", activation)
        self.use_bias = arguments.boolean("use_bias", use_bias)
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer
        self.bias_regularizer = _keras_object("bias_regularizer", bias_regularizer)
        self.kernel_constraint = _keras_object("kernel_constraint", kernel_constraint)
        self.bias_constraint = _keras_object("bias_constraint", bias_constraint)
        self.kernel_prior = _law("kernel_prior", kernel_prior)
        bias_prior = priors.OF_BIASES if bias_prior is None else bias_prior
        self.bias_prior = _law("bias_prior", bias_prior)
        self.kernel_posterior = _random_family(kernel_posterior)
        self.bias_posterior = _law("bias_posterior", bias_posterior)

    @property
    def linear_map(self) -> LinearMap:
        raise NotImplementedError

    @property
    def random_map(self) -> RandomMap:
        """The map of the built layer with the laws of its weights."""
        return self.maps["kernel"]

    @property
    def kernel(self) -> NormalWeight | None:
        """The law of the kernel, None before the layer is built."""
        return self.random_map.kernel if self.maps else None

    @property
    def bias(self) -> Weight | None:
        """The law of the bias, None if there is none."""
        return self.random_map.bias if self.maps else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.input_spec = self._accepted_inputs(input_shape)
        bias = self._law_of("bias") if self.use_bias else None
        self.add_map("kernel", self.linear_map, input_shape, self._law_of("kernel"), bias)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.activation(self.random_map(inputs, training))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.linear_map.output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **{name: serialize(getattr(self, name)) for name in _OBJECTS},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AbstractLinearLayer":
        return super().from_config({_FORMER_NAMES.get(n, n): v for n, v in config.items()})

    def _accepted_inputs(self, input_shape: tuple[int | None, ...]) -> keras.InputSpec:
        raise NotImplementedError

    def _law_of(self, weight: str) -> WeightLaw:
        parts = (field.name for field in dataclasses.fields(WeightLaw))
        return WeightLaw(**{part: getattr(self, f"{weight}_{part}", None) for part in parts})


def _law(name: str, identifier: Any) -> Any:
    """A prior or a family, by the kind that `name` ends in."""
    get = priors.get if name.endswith("prior") else families.get
    return arguments.interpreted(name, identifier, get, "a law of `tfbnn.priors` or `.families`")


def _random_family(identifier: Any) -> families.Normal:
    family = _law("kernel_posterior", identifier)
    if isinstance(family, families.Point):
        raise ValueError(
            "The kernel of a variational layer must be random; for a point kernel use the Keras "
            f"layer. Received: kernel_posterior={identifier!r}"
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
