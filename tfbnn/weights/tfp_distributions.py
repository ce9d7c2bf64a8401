"""Any TFP distribution as a prior: how it is stored, and whether it can be one.

A prior goes into a `.keras` file without code. So a TFP distribution is kept as the name of its
class and the numbers it was made with, `{"type": "Logistic", "parameters": {"scale": 1.0, ...}}`,
where parameters may be distributions themselves (mixtures). What cannot be kept that way is refused
by name: functions, bijectors, classes that are not TFP's own, and variables, which would be frozen
at today's value in silence.

Refused as well are laws that no weight can have as a prior: vector events, discrete laws, laws
that forbid some weights, from which the KL of a normal posterior is infinite, and parameters with
which there is no law (a negative scale, of which TFP makes NaN or a density of another law) or none
in float32. TFP checks its parameters only if it is asked to, and not all of them.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.weights.abstract_prior import PACKAGE, AbstractPrior, Kind, float32

tfd = tfp.distributions

# A weight of 1e15 is further out than any bounded law somebody would write down.
_FAR = 1e15

# A network has no larger weights at its start, and what learns seldom more. Not exactly zero, where
# a density may have a peak without a gradient.
_USUAL = 10.0
_WEIGHTS = (
    _USUAL * np.concatenate([np.geomspace(-1, -1e-6, 25), np.geomspace(1e-6, 1, 25)])
).astype(np.float32)


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
            bijector, a variable) or makes no law, the events are not scalar, some weights are
            impossible, or the log density of weights up to 10 is not finite in float32.

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
            _check_parameters(distribution, self._config)
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

    @property
    def kind(self) -> Kind:
        return Kind.of(self, _with_numbers(self._config, np.shape))

    def values(self) -> list[Any]:
        found: list[Any] = []
        _with_numbers(self._config, found.append)
        return found

    def with_values(self, values: Sequence[Any]) -> "Distribution":
        other, rest = copy.copy(self), iter(values)
        other._config = _with_numbers(self._config, lambda _: next(rest))
        return other

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


def _decode(config: Any, **options: Any) -> Any:
    """The inverse of `_encode`; `options` are further arguments of each distribution."""
    if isinstance(config, dict):
        given = {name: _decode(value, **options) for name, value in config["parameters"].items()}
        return _type(config["type"])(**{**given, **options})
    if isinstance(config, list):
        values = [_decode(value, **options) for value in config]
        return values if _holds_distributions(config) else _as_array(values)
    return config


def _with_numbers(config: Any, replace: Callable[[Any], Any]) -> Any:
    """A configuration with another thing for each real number and each array of them, in order."""
    if isinstance(config, dict):
        parts = {name: _with_numbers(v, replace) for name, v in config["parameters"].items()}
        return {**config, "parameters": parts}
    if isinstance(config, list) and _holds_distributions(config):
        return [_with_numbers(value, replace) for value in config]
    is_real = tf.is_tensor(config) or np.asarray(config).dtype.kind == "f"
    return replace(config) if is_real else config


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


def _check_parameters(given: tfd.Distribution, config: dict[str, Any]) -> None:
    """Raise a `ValueError` if there is no law with these parameters."""
    try:
        for distribution in _parts(_decode(config, validate_args=True)):
            _check_signs(distribution)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"The prior's distribution has parameters with which it is none: {error.message} "
            f"Received: distribution={given!r} with {config['parameters']}"
        ) from error


def _parts(distribution: tfd.Distribution) -> Iterator[tfd.Distribution]:
    """A distribution and all that it is made of."""
    yield distribution
    for value in tf.nest.flatten(list(distribution.parameters.values())):
        if isinstance(value, tfd.Distribution):
            yield from _parts(value)


def _check_signs(distribution: tfd.Distribution) -> None:
    """TFP knows which parameters are positive also where it does not check them."""
    try:
        known = type(distribution).parameter_properties()
    except NotImplementedError:
        return
    for name, properties in known.items():
        value = distribution.parameters.get(name)
        if value is None or properties.event_ndims != 0 or not _is_positive(properties):
            continue
        if not np.all(np.asarray(value) > 0):
            raise ValueError(
                f"`{name}` of {type(distribution).__name__} must be positive. "
                f"Received: {name}={value}"
            )


def _is_positive(properties: Any) -> bool:
    constraint = properties.default_constraining_bijector_fn
    try:
        return constraint is not None and bool(constraint().forward(-_FAR) >= 0)
    except NotImplementedError:
        return False


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
    _check_density(distribution)


def _check_density(distribution: tfd.Distribution) -> None:
    """Raise a `ValueError` if float32 has no log density, or no gradient, of usual weights."""
    weights = tf.reshape(_WEIGHTS, [-1] + [1] * distribution.batch_shape.rank)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        log_prob = distribution.log_prob(weights)
    gradient = tape.gradient(log_prob, weights, unconnected_gradients="zero")
    if not (np.all(np.isfinite(log_prob)) and np.all(np.isfinite(gradient))):
        raise ValueError(
            f"The log density of a prior must be finite in float32, and so must its gradient, for "
            f"weights from {-_USUAL:g} to {_USUAL:g}: the prior is too narrow, or no law. "
            f"Received: distribution={distribution!r} with {distribution.parameters}"
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
