"""Likelihoods: what a Keras loss says about `p(y | outputs)`.

An ELBO needs a log likelihood, not just something to minimise. This table is the whole list:

| loss | likelihood |
|---|---|
| `SparseCategoricalCrossentropy`, `CategoricalCrossentropy` | `Categorical` |
| `BinaryCrossentropy` | `Bernoulli` |
| `tfbnn.losses.NormalNLL` | `Normal` |

Any other loss is an error that names the one to use. Options under which a loss is no likelihood
(label smoothing, class weights inside the loss, another reduction) are errors too.
"""

import abc
import copy
from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfbnn.training.losses import SMALLEST_SCALE, NormalNLL, matched
from tfbnn.training.requirements import require, require_finite
from tfbnn.weights.softplus import inverse_softplus


class AbstractLikelihood(abc.ABC):
    """`p(y | outputs)` for one output of a network.

    A prediction is the mean of `parameters` over networks. Two temperatures, 1 at first, soften or
    sharpen one of classes: `temperature` divides the logits of each network before the mean,
    `mean_temperature` those of the mean. Training knows neither.
    """

    kind: str

    def __init__(self, loss: keras.losses.Loss):
        self.loss = loss
        self.temperature = 1.0
        self.mean_temperature = 1.0

    def at(self, temperature: float = 1.0, mean_temperature: float = 1.0) -> Self:
        """The same likelihood, of the same loss, at other temperatures."""
        other = copy.copy(self)
        other.temperature, other.mean_temperature = temperature, mean_temperature
        return other

    def take_temperatures(self, other: "AbstractLikelihood") -> None:
        """Take on the temperatures of another likelihood."""
        self.temperature, self.mean_temperature = other.temperature, other.mean_temperature

    def in_common(self) -> "AbstractLikelihood":
        """What this likelihood is for networks that each have one of this kind of their own."""
        return self.at()

    def outputs_in_common(self, outputs: tf.Tensor) -> tf.Tensor:
        """Outputs that say under `in_common()` what `outputs` say under this one."""
        return outputs

    @property
    def tempers_mean(self) -> bool:
        """Whether the prediction is another than the mean over networks."""
        return False

    @abc.abstractmethod
    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        """`log(p(y | outputs))` in nats, of shape `(batch, *event)`; nothing is summed."""

    def tempered(self, outputs: tf.Tensor) -> tf.Tensor:
        """Outputs of the same kind at the temperature: those of which predictions are made."""
        return outputs

    def tempered_mean(self, mean: tf.Tensor) -> tf.Tensor:
        """The prediction, of the mean over networks of the first of the `parameters`."""
        return mean

    @abc.abstractmethod
    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The parameters of the law of `y`, in float32, that a prediction averages over draws."""

    def targets_shape(self, outputs_shape: Any) -> Any:
        """The shape of the targets for outputs of a shape."""
        return outputs_shape

    @abc.abstractmethod
    def require_possible(
        self, targets: tf.Tensor, outputs_shape: Any, counts: tf.Tensor | None = None
    ) -> list[tf.Operation]:
        """`requirements.require` that targets are possible under this law.

        Args:
            targets: Targets, in the shape `targets_shape(outputs_shape)`.
            outputs_shape: Static shape of the outputs.
            counts: Booleans `(batch, *event)`: which targets count (are not masked), or None.
        """

    def check_targets(
        self, targets: Any, outputs_shape: tuple[int | None, ...]
    ) -> list[tf.Operation]:
        """`require_possible` of targets before a step, whose shape is checked too."""
        targets = matched(targets, self.targets_shape(outputs_shape))
        # What a mask leaves out is often empty; the step itself knows whether it is left out.
        counts = tf.reduce_any(tf.cast(targets, tf.bool), axis=-1) if targets.shape.rank else None
        return self.require_possible(targets, outputs_shape, counts)

    def checked(self, targets: Any, outputs: tf.Tensor, factors: Sequence[Any] = ()) -> tf.Tensor:
        """The targets of a step in the shape for its outputs, after `require_possible`.

        Args:
            targets: Targets `(batch, ...)`.
            outputs: Outputs of the network.
            factors: Masks and weights: a target for which one is zero does not count.
        """
        like = self.targets_like(outputs)
        targets = matched(targets, like.shape, tf.shape(like))
        counts = None
        for factor in factors:
            used = tf.cast(spread(factor, self.log_prob_like(outputs)), tf.bool)
            counts = used if counts is None else counts & used
        # What computes with them may have an error of its own.
        with tf.control_dependencies(self.require_possible(targets, outputs.shape, counts)):
            return tf.identity(targets)

    def targets_like(self, outputs: tf.Tensor) -> tf.Tensor:
        """A tensor of the shape that targets have for outputs."""
        return outputs

    def log_prob_like(self, outputs: tf.Tensor) -> tf.Tensor:
        """A tensor of the shape that `log_prob` has for outputs."""
        return self.targets_like(outputs)

    def get_config(self) -> dict[str, Any]:
        """The loss and the temperatures, as `from_config` takes them."""
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "temperature": self.temperature,
            "mean_temperature": self.mean_temperature,
        }


class AbstractClasses(AbstractLikelihood):
    """Labels that have probabilities, which are a function of logits."""

    def __init__(self, loss: keras.losses.Loss):
        super().__init__(loss)
        self.from_logits = loss.get_config()["from_logits"]

    @staticmethod
    @abc.abstractmethod
    def probabilities(logits: tf.Tensor) -> tf.Tensor:
        """Probabilities of logits."""

    @staticmethod
    @abc.abstractmethod
    def logits_of(probabilities: tf.Tensor) -> tf.Tensor:
        """Logits of probabilities, finite."""

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Logits of a network, divided by the temperature."""
        outputs = tf.cast(outputs, tf.float32)
        return (outputs if self.from_logits else self.logits_of(outputs)) / self.temperature

    def tempered(self, outputs: tf.Tensor) -> tf.Tensor:
        if self.temperature == 1.0:
            return tf.cast(outputs, tf.float32)
        logits = self.logits(outputs)
        return logits if self.from_logits else self.probabilities(logits)

    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outputs = self.tempered(outputs)
        return (self.probabilities(outputs) if self.from_logits else outputs,)

    @property
    def tempers_mean(self) -> bool:
        return self.mean_temperature != 1.0

    def in_common(self) -> Self:
        return type(self)(type(self.loss).from_config({**self.loss.get_config(), **_OF_LOGITS}))

    def outputs_in_common(self, outputs: tf.Tensor) -> tf.Tensor:
        return self.logits(outputs)

    def mean_logits(self, mean: tf.Tensor) -> tf.Tensor:
        """Logits of mean probabilities, divided by the temperature of the mean."""
        return self.logits_of(mean) / self.mean_temperature

    def tempered_mean(self, mean: tf.Tensor) -> tf.Tensor:
        return self.probabilities(self.mean_logits(mean)) if self.tempers_mean else mean

    def log_prob_of_mean(self, targets: Any, mean: tf.Tensor) -> tf.Tensor:
        """`log_prob` of the prediction that is made of mean probabilities."""
        logits = self.mean_logits(mean)
        return self.log_prob(targets, logits if self.from_logits else self.probabilities(logits))


class Categorical(AbstractClasses):
    """One of several classes. `parameters`: probabilities `(..., classes)`."""

    kind = "categorical"
    probabilities = staticmethod(tf.nn.softmax)

    def __init__(self, loss: keras.losses.Loss):
        super().__init__(loss)
        self.sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)

    @staticmethod
    def logits_of(probabilities: tf.Tensor) -> tf.Tensor:
        return tf.math.log(tf.maximum(probabilities, _SMALLEST))

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        targets = matched(targets, self.targets_shape(outputs.shape))
        if not self.sparse:
            targets = tf.cast(targets, tf.float32)
            return -keras.ops.categorical_crossentropy(
                targets, outputs, from_logits=self.from_logits
            )
        targets = tf.cast(targets, tf.int32)
        return -keras.ops.sparse_categorical_crossentropy(
            targets, outputs, from_logits=self.from_logits
        )

    def targets_shape(self, outputs_shape: Any) -> Any:
        return outputs_shape[:-1] if self.sparse else outputs_shape

    def targets_like(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs[..., 0] if self.sparse else outputs

    def log_prob_like(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs[..., 0]

    def require_possible(
        self, targets: tf.Tensor, outputs_shape: Any, counts: tf.Tensor | None = None
    ) -> list[tf.Operation]:
        # Whole numbers up to 2**53.
        targets = tf.cast(targets, tf.float64)
        classes = outputs_shape[-1]
        if self.sparse:
            return require(
                (targets >= 0) & (targets < classes) & tf.equal(targets, tf.round(targets)),
                f"Labels must be whole numbers from 0 to {classes - 1}, as the network has "
                f"{classes} outputs. Received: labels from",
                *_range(targets),
            )
        sums = tf.reduce_sum(targets, axis=-1)
        whole = tf.abs(sums - 1) <= _ROUNDING
        return require(
            tf.reduce_all(targets >= 0, axis=-1) & (whole if counts is None else whole | ~counts),
            "One-hot targets must be shares of each class, not negative, that sum to 1. "
            "Received: targets from",
            *_range(targets),
            "with sums from",
            *_range(sums),
        )


class Bernoulli(AbstractClasses):
    """Yes or no, for each output on its own. `parameters`: probabilities `(..., outputs)`."""

    kind = "bernoulli"
    probabilities = staticmethod(tf.nn.sigmoid)

    @staticmethod
    def logits_of(probabilities: tf.Tensor) -> tf.Tensor:
        no = tf.maximum(1.0 - probabilities, _SMALLEST_COMPLEMENT)
        return tf.math.log(tf.maximum(probabilities, _SMALLEST)) - tf.math.log(no)

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        targets = tf.cast(matched(targets, outputs.shape), tf.float32)
        return -keras.ops.binary_crossentropy(targets, outputs, from_logits=self.from_logits)

    def require_possible(
        self, targets: tf.Tensor, outputs_shape: Any, counts: tf.Tensor | None = None
    ) -> list[tf.Operation]:
        del outputs_shape, counts
        targets = tf.cast(targets, tf.float32)
        return require(
            (targets >= 0) & (targets <= 1),
            "Targets of a binary cross-entropy must be between 0 and 1. Received: targets from",
            *_range(targets),
        )


class Normal(AbstractLikelihood):
    """A real number with normal noise. `parameters`: `loc` and `scale`, `(..., targets)`."""

    kind = "normal"

    def __init__(self, loss: NormalNLL):
        # A copy: each model, and each output, learns a scale of its own.
        super().__init__(NormalNLL.from_config(loss.get_config()))

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        return -self.loss.elementwise(targets, *self.loss.loc_and_scale(outputs))

    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return self.loss.loc_and_scale(outputs)

    def targets_shape(self, outputs_shape: Any) -> Any:
        if self.loss.scale != "head" or outputs_shape[-1] is None:
            return outputs_shape
        return (*outputs_shape[:-1], outputs_shape[-1] // 2)

    def in_common(self) -> "Normal":
        return Normal(NormalNLL(scale="head"))

    def outputs_in_common(self, outputs: tf.Tensor) -> tf.Tensor:
        loc, scale = self.loss.loc_and_scale(outputs)
        return tf.concat([loc, inverse_softplus(scale - SMALLEST_SCALE)], axis=-1)

    def targets_like(self, outputs: tf.Tensor) -> tf.Tensor:
        return self.loss.loc_and_scale(outputs)[0]

    def require_possible(
        self, targets: tf.Tensor, outputs_shape: Any, counts: tf.Tensor | None = None
    ) -> list[tf.Operation]:
        del outputs_shape, counts
        return require_finite("y", targets)


_OF_LOGITS = {"from_logits": True}

# Under the logarithm of a probability in float32.
_SMALLEST = 1e-37
# Where a probability is rounded to 1, what is left of it is less than half a step of float32.
_SMALLEST_COMPLEMENT = 2.0**-25

# By how much the sum of shares may differ from 1: three digits, or what float16 leaves of ten.
_ROUNDING = 5e-3

_BY_LOSS: dict[type[keras.losses.Loss], type[AbstractLikelihood]] = {
    keras.losses.SparseCategoricalCrossentropy: Categorical,
    keras.losses.CategoricalCrossentropy: Categorical,
    keras.losses.BinaryCrossentropy: Bernoulli,
    NormalNLL: Normal,
}

_BY_NAME = {
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "normal_nll": NormalNLL,
} | {loss.__name__: loss for loss in _BY_LOSS}


def likelihood_of(loss: Any) -> AbstractLikelihood:
    """The likelihood that a Keras loss stands for.

    Args:
        loss: A loss object, or the name or function of one in the table above.

    Returns:
        A likelihood.

    Raises:
        ValueError: If the loss is no likelihood, or an option makes it none.

    Example:

    >>> from tfbnn.training import likelihoods
    >>> likelihoods.likelihood_of("binary_crossentropy").kind
    'bernoulli'
    """
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", None)
    if name in _BY_NAME:
        loss = _BY_NAME[name]()
    if type(loss) not in _BY_LOSS:
        raise ValueError(_not_a_likelihood(loss))
    _check_options(loss)
    return _BY_LOSS[type(loss)](loss)


def from_config(config: dict[str, Any]) -> AbstractLikelihood:
    """The likelihood with a configuration made by its `get_config`."""
    likelihood = likelihood_of(keras.saving.deserialize_keras_object(config["loss"]))
    # Files from before there were two have one.
    return likelihood.at(config["temperature"], config.get("mean_temperature", 1.0))


def sum_events(log_prob: tf.Tensor, factors: Sequence[Any] = ()) -> tf.Tensor:
    """Log likelihood of each example: the sum over its event axes.

    Keras would take the mean over the steps of a sequence, which divides the likelihood by their
    number and leaves the KL as it is. Steps that a mask leaves out contribute nothing.

    Args:
        log_prob: `(batch, *event)`, in nats.
        factors: Masks, and weights (how many observations an example or a step counts as):
            `(batch, ...)`; they broadcast over the remaining event axes.

    Returns:
        A float32 tensor `(batch,)`.
    """
    for factor in factors:
        log_prob *= tf.cast(spread(factor, log_prob), log_prob.dtype)
    return tf.reduce_sum(tf.reshape(log_prob, [tf.shape(log_prob)[0], -1]), axis=1)


def spread(factor: Any, like: tf.Tensor) -> tf.Tensor:
    """A mask or a weight `(batch, ...)` with axes of size 1 for the remaining event axes of `like`.

    Raises:
        ValueError: If it is not of the same rows and steps. Inside a graph see
            `requirements.clear_errors`.
    """
    factor = tf.convert_to_tensor(factor)
    rank = len(like.shape)
    if len(factor.shape) == rank + 1 and factor.shape[-1] == 1:
        factor = factor[..., 0]
    given, sizes = len(factor.shape), tf.shape(like)
    if given > rank:
        raise ValueError(
            "Sample weights and masks must have the rows and the steps of the targets, shape "
            f"{tuple(like.shape)} at most. Received: shape {tuple(factor.shape)}"
        )
    fits = tf.equal(tf.shape(factor), sizes[:given]) | (
        tf.equal(tf.shape(factor), 1) & (tf.range(given) > 0)
    )
    require(
        fits,
        "Sample weights and masks must have the rows and the steps of the targets, shape",
        sizes,
        "at most. Received: shape",
        tf.shape(factor),
    )
    return tf.reshape(factor, tf.concat([tf.shape(factor), [1] * (rank - given)], 0))


def _range(values: tf.Tensor) -> tuple[tf.Tensor, str, tf.Tensor]:
    return tf.reduce_min(values), "to", tf.reduce_max(values)


def _check_options(loss: keras.losses.Loss) -> None:
    config = loss.get_config()
    defaults = {"label_smoothing": 0.0, "ignore_class": None, "axis": -1}
    for option, default in defaults.items():
        value = config.get(option, default)
        if value != default:
            raise ValueError(
                f"With this option {type(loss).__name__} is not the log likelihood that the ELBO "
                f"needs; leave `{option}` at {default}. Received: {option}={value}"
            )
    if loss.reduction != "sum_over_batch_size":
        raise ValueError(
            "The objective sums over event axes and averages over the batch by itself; leave "
            f"`reduction` at its default. Received: reduction={loss.reduction!r}"
        )


def _not_a_likelihood(loss: Any) -> str:
    return (
        "The ELBO needs a loss that is a negative log likelihood. For classes use "
        "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)`, for yes or no "
        "`keras.losses.BinaryCrossentropy(from_logits=True)`, for real numbers "
        "`tfbnn.losses.NormalNLL(scale='learned')` (in place of 'mse'). "
        f"Received: loss={loss!r}"
    )
