"""Priors: the law `p(w)` of one weight before any data are seen.

Which prior when:

| prior | log density in the tails | take it when |
|---|---|---|
| `Normal` | `-w**2` | the default for calibration; closed-form KL, no Monte Carlo noise |
| `ScaleMixture` | `-w**2`, spike at zero | you will prune: most weights shrink into the spike |
| `Laplace` | `-abs(w)` | a mild pull to zero with a closed-form KL |
| `StudentT` | `-(df + 1) * log(abs(w))` | a few weights must be free to grow; `df` sets how many |
| `Cauchy` | `-2 * log(abs(w))` | the same, as far as it goes (`StudentT` with `df=1`) |
| `Distribution` | any | TFP has the law you want and this table has not |

Every prior is one law for one scalar weight; a layer applies it to each weight independently.
`loc` and `scale` are in the unit of the weight; `scale` is a standard deviation where the law has
one. Log densities are in nats. Prefer a named prior to the same law in `Distribution`: the named
ones know their closed-form KL (see `tfbnn.weights.divergences`).

A prior is data: numbers and names, never functions. It is immutable, equal to any prior with the
same configuration, and goes through `keras.saving`. What is not offered: priors with trained
parameters (empirical Bayes), priors that tie weights together (vector events), and priors that
forbid some weights (`Gamma`, `Uniform`), for which the KL from a normal posterior is infinite.

To add a prior: a registered class below, a row in `PRIORS`, and, where its KL is known in closed
form, a function in `tfbnn/weights/divergences.py`.
"""

import abc
import inspect
import json
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

_PACKAGE = "tfbnn.priors"
# A weight of 1e15 is further out than any bounded law somebody would write down.
_FAR = 1e15


class AbstractPrior(abc.ABC):
    """The law of one scalar weight.

    A subclass gives `distribution()` and `get_config()`; it may give a cheaper `log_prob()`.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.Normal(scale=0.1) == priors.get({"class_name": "Normal", "config": {"scale": 0.1}})
    True
    """

    @abc.abstractmethod
    def distribution(self) -> tfd.Distribution:
        """The law as a float32 TFP distribution with scalar events.

        It is made anew at each call, so that it belongs to the graph it is called in.
        """

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as numbers, strings, lists and dicts."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AbstractPrior":
        """The prior with the configuration `config`."""
        return cls(**config)

    def log_prob(self, value: Any) -> tf.Tensor:
        """Log density of each weight, `log(p(value))`, in nats.

        Args:
            value: Weights, a tensor of any shape.

        Returns:
            A float32 tensor of the shape of `value`; nothing is summed.
        """
        return self.distribution().log_prob(_float32(value))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(self.get_config(), sort_keys=True)))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@keras.saving.register_keras_serializable(_PACKAGE)
class Normal(AbstractPrior):
    """Normal prior.

    `p(w) = exp(-((w - loc) / scale)**2 / 2) / (scale * sqrt(2 * pi))`

    Args:
        loc: Mean.
        scale: Standard deviation, positive.

    Raises:
        ValueError: If `loc` is not finite or `scale` is not positive and finite.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Normal(scale=2.0).log_prob(0.0)), 4)
    -1.6121
    """

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = _finite("loc", loc)
        self.scale = _positive("scale", scale)

    def distribution(self) -> tfd.Distribution:
        return tfd.Normal(self.loc, self.scale)

    def get_config(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale}


@keras.saving.register_keras_serializable(_PACKAGE)
class ScaleMixture(AbstractPrior):
    """Mixture of two zero-mean normals, one wide and one narrow.

    `p(w) = pi * N(w; 0, sigma1**2) + (1 - pi) * N(w; 0, sigma2**2)`

    The narrow component gathers the weights that are not needed, the wide one leaves the others
    alone: the prior to take before pruning.

    Args:
        pi: Share of the first component, strictly between 0 and 1.
        sigma1: Standard deviation of the first component (the wide one in the paper), positive.
        sigma2: Standard deviation of the second component, positive. The default is about
            `exp(-6)`, one of the values searched over in the paper's experiments.

    Raises:
        ValueError: If `pi` is not in (0, 1), or a standard deviation is not positive and finite.

    Example:

    >>> from tfbnn.weights import priors
    >>> prior = priors.ScaleMixture(pi=0.5, sigma1=1.0, sigma2=0.0025)
    >>> [round(float(value), 3) for value in prior.log_prob([0.0, 1.0])]
    [4.382, -2.112]

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", eq. 7.
    """

    def __init__(self, pi: float = 0.5, sigma1: float = 1.0, sigma2: float = 0.0025):
        self.pi = _fraction("pi", pi)
        self.sigma1 = _positive("sigma1", sigma1)
        self.sigma2 = _positive("sigma2", sigma2)

    def distribution(self) -> tfd.Distribution:
        return tfd.MixtureSameFamily(
            tfd.Categorical(probs=[self.pi, 1.0 - self.pi]),
            tfd.Normal([0.0, 0.0], [self.sigma1, self.sigma2]),
        )

    def log_prob(self, value: Any) -> tf.Tensor:
        """Log density of each weight, in nats.

        With `wide` and `narrow` the log of each weighted component,
        `log(p(w)) = wide + log(1 + exp(narrow - wide))`. Both are linear in `w**2`, and
        `narrow - wide` never grows with it, so nothing overflows.

        Args:
            value: Weights, a tensor of any shape.

        Returns:
            A float32 tensor of the shape of `value`.
        """
        (wide, wide_rate), (narrow, narrow_rate) = self._log_components()
        square = tf.square(_float32(value))
        log_odds = (narrow - wide) - (narrow_rate - wide_rate) * square
        return (wide - wide_rate * square) + tf.math.softplus(log_odds)

    def _log_components(self) -> list[tuple[float, float]]:
        """`(a, b)` with `a - b * w**2` the log of a weighted component, the wider one first."""
        weighted = [(self.sigma1, self.pi), (self.sigma2, 1.0 - self.pi)]
        return [
            (math.log(share / sigma) - 0.5 * math.log(2 * math.pi), 0.5 / sigma**2)
            for sigma, share in sorted(weighted, reverse=True)
        ]

    def get_config(self) -> dict[str, Any]:
        return {"pi": self.pi, "sigma1": self.sigma1, "sigma2": self.sigma2}


@keras.saving.register_keras_serializable(_PACKAGE)
class Laplace(AbstractPrior):
    """Laplace (double exponential) prior.

    `p(w) = exp(-abs(w - loc) / scale) / (2 * scale)`

    Args:
        loc: Mean and median.
        scale: Mean absolute deviation, positive; the standard deviation is `sqrt(2) * scale`.

    Raises:
        ValueError: If `loc` is not finite or `scale` is not positive and finite.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Laplace(scale=0.5).log_prob(1.0)), 4)
    -2.0
    """

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = _finite("loc", loc)
        self.scale = _positive("scale", scale)

    def distribution(self) -> tfd.Distribution:
        return tfd.Laplace(self.loc, self.scale)

    def get_config(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale}


@keras.saving.register_keras_serializable(_PACKAGE)
class StudentT(AbstractPrior):
    """Student t prior.

    `p(w)` is proportional to `(1 + ((w - loc) / scale)**2 / df)**(-(df + 1) / 2)`

    Args:
        df: Degrees of freedom, positive. The default, 3, is the smallest whole number with a
            finite variance.
        loc: Median.
        scale: Width, positive; the standard deviation is `scale * sqrt(df / (df - 2))`, `df > 2`.

    Raises:
        ValueError: If `loc` is not finite, or `df` or `scale` is not positive and finite.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.StudentT(df=3.0).log_prob(0.0)), 4)
    -1.0009
    """

    def __init__(self, df: float = 3.0, loc: float = 0.0, scale: float = 1.0):
        self.df = _positive("df", df)
        self.loc = _finite("loc", loc)
        self.scale = _positive("scale", scale)

    def distribution(self) -> tfd.Distribution:
        return tfd.StudentT(self.df, self.loc, self.scale)

    def get_config(self) -> dict[str, Any]:
        return {"df": self.df, "loc": self.loc, "scale": self.scale}


@keras.saving.register_keras_serializable(_PACKAGE)
class Cauchy(AbstractPrior):
    """Cauchy prior.

    `p(w) = 1 / (pi * scale * (1 + ((w - loc) / scale)**2))`

    Args:
        loc: Median; the mean does not exist.
        scale: Half width at half maximum, positive; the standard deviation does not exist.

    Raises:
        ValueError: If `loc` is not finite or `scale` is not positive and finite.

    Example:

    >>> from tfbnn.weights import priors
    >>> round(float(priors.Cauchy().log_prob(0.0)), 4)
    -1.1447
    """

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        self.loc = _finite("loc", loc)
        self.scale = _positive("scale", scale)

    def distribution(self) -> tfd.Distribution:
        return tfd.Cauchy(self.loc, self.scale)

    def get_config(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale}


@keras.saving.register_keras_serializable(_PACKAGE)
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
        value = _float32(value)
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


PRIORS: dict[str, type[AbstractPrior]] = {
    "normal": Normal,
    "scale_mixture": ScaleMixture,
    "laplace": Laplace,
    "student_t": StudentT,
    "cauchy": Cauchy,
}
"""The priors `get` knows by name; each can be made without arguments."""


def get(identifier: "AbstractPrior | str | dict | tfd.Distribution") -> AbstractPrior:
    """The prior that `identifier` stands for.

    Args:
        identifier: A prior, a name in `PRIORS` (the prior with its default arguments), a
            configuration made by `serialize`, or a TFP distribution.

    Returns:
        A prior; `identifier` itself if it is one.

    Raises:
        ValueError: If the name is unknown, or `identifier` is none of the above.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.get("laplace")
    Laplace(loc=0.0, scale=1.0)
    """
    if isinstance(identifier, AbstractPrior):
        return identifier
    if isinstance(identifier, str) and identifier in PRIORS:
        return PRIORS[identifier]()
    if isinstance(identifier, tfd.Distribution):
        return Distribution(identifier)
    if isinstance(identifier, dict):
        return _deserialize(identifier)
    raise ValueError(
        f"A prior must be a prior object, one of the names {sorted(PRIORS)}, a configuration or a "
        f"`tfp.distributions.Distribution`. Received: identifier={identifier!r}"
    )


def serialize(prior: AbstractPrior) -> dict[str, Any]:
    """The configuration from which `get` makes an equal prior.

    Args:
        prior: A prior.

    Returns:
        A dict that JSON can hold.

    Example:

    >>> from tfbnn.weights import priors
    >>> prior = priors.Normal(scale=0.1)
    >>> priors.get(priors.serialize(prior)) == prior
    True
    """
    return keras.saving.serialize_keras_object(prior)


def _deserialize(config: dict[str, Any]) -> AbstractPrior:
    classes = {cls.__name__: cls for cls in (*PRIORS.values(), Distribution)}
    try:
        prior = keras.saving.deserialize_keras_object(config, custom_objects=classes)
    except TypeError as error:
        raise ValueError(f"The configuration is not a prior's. Received: {config=}") from error
    if not isinstance(prior, AbstractPrior):
        raise ValueError(f"The configuration is not a prior's. Received: {config=}")
    return prior


def _float32(value: Any) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(value), tf.float32)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite. Received: {name}={value}")
    return float(value)


def _positive(name: str, value: float) -> float:
    if not 0.0 < value < math.inf:
        raise ValueError(f"`{name}` must be positive and finite. Received: {name}={value}")
    return float(value)


def _fraction(name: str, value: float) -> float:
    if not 0.0 < value < 1.0:
        raise ValueError(f"`{name}` must be strictly between 0 and 1. Received: {name}={value}")
    return float(value)


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
