"""Any TFP distribution as a prior: how it is stored, and whether it can be one.

A prior goes into a `.keras` file without code. So a TFP distribution is kept as the name of its
class and the numbers it was made with, `{"type": "Logistic", "parameters": {"scale": 1.0, ...}}`,
where parameters may be distributions themselves (mixtures). What cannot be kept that way is refused
by name: functions, bijectors, classes that are not TFP's own, and variables, which would be frozen
at today's value in silence.

Refused as well are laws that no weight can have as a prior: vector events, discrete laws, and laws
that forbid some weights, from which the KL of a normal posterior is infinite.
"""

import inspect
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.weights.abstract_prior import PACKAGE, AbstractPrior, float32

tfd = tfp.distributions

# A weight of 1e15 is further out than any bounded law somebody would write down.
_FAR = 1e15


@keras.saving.register_keras_serializable(PACKAGE)
class Distribution(AbstractPrior):
    """Any TFP distribution of one real number as a prior.

    It is stored as the name of its TFP class and the numbers it was made with, and computed in
    float32. A distribution with a batch shape gives each weight its own law, if the batch shape
    broadcasts to the shape of the weights.

    Args:
        distribution: A class of `tfp.distributions` with scalar events, positive density on the
            whole real line, and parameters that are numbers, arrays or such distributions.

    Raises:
        ValueError: If the class is not TFP's own, a parameter cannot be stored (a function, a
            bijector, a variable), the events are not scalar, or some weights are impossible.

    Example:

    >>> import tensorflow_probability as tfp
    >>> from tfbnn.weights import priors
    >>> prior = priors.Distribution(tfp.distributions.Logistic(loc=0.0, scale=1.0))
    >>> prior.get_config()
    {'distribution': {'type': 'Logistic', 'parameters': {'loc': 0.0, 'scale': 1.0}}}
    >>> round(float(prior.log_prob(0.0)), 4)
    -1.3863
    """

    def __init__(self, distribution: tfd.Distribution):
        if not isinstance(distribution, tfd.Distribution):
            raise ValueError(
                "`distribution` must be an instance of `tfp.distributions.Distribution`. "
                f"Received: distribution={distribution!r}"
            )
        self._config = _encode("distribution", distribution)
        # Symbolic values cannot be looked at; a prior may be made while a graph is traced.
        with tf.init_scope():
            _check_law(self.distribution())

    def distribution(self) -> tfd.Distribution:
        return _decode(self._config)

    def log_prob(self, value: Any) -> tf.Tensor:
        value = float32(value)
        log_prob = super().log_prob(value)
        if not log_prob.shape.is_compatible_with(value.shape):
            raise ValueError(
                "The batch shape of the prior's distribution must broadcast to the shape of the "
                f"weights, {value.shape}. Received: batch_shape={self.distribution().batch_shape}"
            )
        return log_prob

    def get_config(self) -> dict[str, Any]:
        return {"distribution": self._config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Distribution":
        with tf.init_scope():
            return cls(_decode(config["distribution"]))


def _encode(name: str, value: Any) -> Any:
    """A parameter of a TFP distribution as numbers, strings, lists and dicts."""
    if isinstance(value, tfd.Distribution):
        return {"type": _type_name(value), "parameters": _encode_parameters(value)}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, list | tuple):
        return [_encode(name, item) for item in value]
    return _encode_number(name, value)


def _type_name(distribution: tfd.Distribution) -> str:
    name = type(distribution).__name__
    if getattr(tfd, name, None) is not type(distribution):
        raise ValueError(
            "Only classes of `tfp.distributions` can be stored by name; for your own law, write "
            f"a subclass of `AbstractPrior`. Received: distribution={distribution!r}"
        )
    return name


def _encode_parameters(distribution: tfd.Distribution) -> dict[str, Any]:
    """The constructor's arguments that differ from their defaults, except the name."""
    signature = inspect.signature(type(distribution).__init__).parameters
    return {
        name: _encode(name, value)
        for name, value in distribution.parameters.items()
        if name in signature and name != "name" and value is not signature[name].default
    }


def _encode_number(name: str, value: Any) -> Any:
    # A variable would be frozen at today's value in silence, so it is refused like a function.
    if isinstance(value, tf.Tensor):
        value = tf.get_static_value(value)
    if not isinstance(value, int | float | np.number | np.ndarray):
        raise ValueError(
            "A prior's distribution can only have parameters that are numbers, arrays or "
            f"distributions, because it is stored without code. Received: {name}={value!r}"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or not np.all(np.isfinite(array)):
        raise ValueError(f"`{name}` must be real and finite. Received: {name}={value!r}")
    if array.dtype.kind == "f":
        # The shortest decimals with the same float32 value: 0.1, from whichever precision.
        array = array.astype(np.float32).astype(str).astype(np.float64)
    return array.tolist()


def _decode(config: Any) -> Any:
    """The inverse of `_encode`."""
    if isinstance(config, dict):
        parameters = {name: _decode(value) for name, value in config["parameters"].items()}
        return _type(config["type"])(**parameters)
    if isinstance(config, list):
        values = [_decode(value) for value in config]
        return values if _holds_distributions(config) else _as_array(values)
    return config


def _type(name: str) -> type[tfd.Distribution]:
    cls = getattr(tfd, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, tfd.Distribution)):
        raise ValueError(f"`tfp.distributions` has no such distribution. Received: type={name!r}")
    return cls


def _holds_distributions(values: list) -> bool:
    return any(isinstance(value, dict) for value in values)


def _as_array(values: list) -> np.ndarray:
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _check_law(distribution: tfd.Distribution) -> None:
    event_shape = distribution.event_shape
    if not (isinstance(event_shape, tf.TensorShape) and event_shape.rank == 0):
        raise ValueError(
            "A prior is the law of one weight: its distribution must have scalar events. "
            f"Received: event_shape={event_shape} of {distribution!r}"
        )
    if not (distribution.dtype.is_floating and _covers_real_line(distribution)):
        raise ValueError(
            "A prior must have a density on the whole real line, or the KL divergence from a "
            f"normal posterior is infinite. Received: distribution={distribution!r}"
        )


def _covers_real_line(distribution: tfd.Distribution) -> bool:
    if isinstance(distribution, tfd.MixtureSameFamily):
        return _covers_real_line(distribution.components_distribution)
    if isinstance(distribution, tfd.Mixture):
        return any(_covers_real_line(component) for component in distribution.components)
    # TFP names the map from the real line onto the support; None means a discrete or unknown one.
    bijector = distribution.experimental_default_event_space_bijector()
    if bijector is None:
        return False
    edges = tf.constant([-_FAR, 0.0, _FAR])
    edges = tf.reshape(edges, [3] + [1] * distribution.batch_shape.rank)
    return bool(np.all(np.isfinite(bijector.inverse(edges))))
