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
from typing import Any

import keras
import tensorflow as tf

from tfbnn.training.losses import NormalNLL, matched


class AbstractLikelihood(abc.ABC):
    """`p(y | outputs)` for one output of a network."""

    kind: str

    def __init__(self, loss: keras.losses.Loss):
        self.loss = loss
        self.temperature = 1.0

    @abc.abstractmethod
    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        """`log(p(y | outputs))` in nats, of shape `(batch, *event)`; nothing is summed."""

    def tempered(self, outputs: tf.Tensor) -> tf.Tensor:
        """Outputs of the same kind at the temperature: those of which predictions are made."""
        return outputs

    @abc.abstractmethod
    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The parameters of the law of `y`, in float32, that a prediction averages over draws."""

    @abc.abstractmethod
    def check_targets(self, targets: Any, outputs_shape: tuple[int | None, ...]) -> None:
        """Raise a `ValueError` if `targets`, a NumPy array, are impossible under this law."""

    def get_config(self) -> dict[str, Any]:
        """The loss and the temperature, as `from_config` takes them."""
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "temperature": self.temperature,
        }


class Categorical(AbstractLikelihood):
    """One of several classes. `parameters`: probabilities `(..., classes)`."""

    kind = "categorical"

    def __init__(self, loss: keras.losses.Loss):
        super().__init__(loss)
        self.sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
        self.from_logits = loss.get_config()["from_logits"]

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        if not self.sparse:
            targets = tf.cast(matched(targets, outputs.shape), tf.float32)
            return -keras.ops.categorical_crossentropy(
                targets, outputs, from_logits=self.from_logits
            )
        targets = tf.cast(matched(targets, outputs.shape[:-1]), tf.int32)
        return -keras.ops.sparse_categorical_crossentropy(
            targets, outputs, from_logits=self.from_logits
        )

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Unnormalised log probabilities, divided by the temperature."""
        outputs = tf.cast(outputs, tf.float32)
        if not self.from_logits:
            outputs = tf.math.log(tf.maximum(outputs, 1e-37))
        return outputs / self.temperature

    def tempered(self, outputs: tf.Tensor) -> tf.Tensor:
        if self.temperature == 1.0:
            return tf.cast(outputs, tf.float32)
        logits = self.logits(outputs)
        return logits if self.from_logits else tf.nn.softmax(logits)

    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outputs = self.tempered(outputs)
        return (tf.nn.softmax(outputs) if self.from_logits else outputs,)

    def check_targets(self, targets: Any, outputs_shape: tuple[int | None, ...]) -> None:
        classes = outputs_shape[-1]
        if self.sparse and classes and targets.size:
            low, high = targets.min(), targets.max()
            if low < 0 or high >= classes or (targets != targets.round()).any():
                raise ValueError(
                    f"Labels must be whole numbers from 0 to {classes - 1}, as the network has "
                    f"{classes} outputs. Received: labels from {low} to {high}"
                )


class Bernoulli(AbstractLikelihood):
    """Yes or no, for each output on its own. `parameters`: probabilities `(..., outputs)`."""

    kind = "bernoulli"

    def __init__(self, loss: keras.losses.Loss):
        super().__init__(loss)
        self.from_logits = loss.get_config()["from_logits"]

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        targets = tf.cast(matched(targets, outputs.shape), tf.float32)
        return -keras.ops.binary_crossentropy(targets, outputs, from_logits=self.from_logits)

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Log odds, divided by the temperature."""
        outputs = tf.cast(outputs, tf.float32)
        if not self.from_logits:
            outputs = tf.math.log(tf.maximum(outputs, 1e-37)) - tf.math.log1p(-outputs)
        return outputs / self.temperature

    def tempered(self, outputs: tf.Tensor) -> tf.Tensor:
        if self.temperature == 1.0:
            return tf.cast(outputs, tf.float32)
        logits = self.logits(outputs)
        return logits if self.from_logits else tf.nn.sigmoid(logits)

    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outputs = self.tempered(outputs)
        return (tf.nn.sigmoid(outputs) if self.from_logits else outputs,)

    def check_targets(self, targets: Any, outputs_shape: tuple[int | None, ...]) -> None:
        if targets.size and (targets.min() < 0 or targets.max() > 1):
            raise ValueError(
                "Targets of a binary cross-entropy must be between 0 and 1. "
                f"Received: targets from {targets.min()} to {targets.max()}"
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

    def check_targets(self, targets: Any, outputs_shape: tuple[int | None, ...]) -> None:
        del targets, outputs_shape  # Any finite number is possible.


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
    likelihood.temperature = config["temperature"]
    return likelihood


def sum_events(
    log_prob: tf.Tensor, mask: tf.Tensor | None = None, sample_weight: Any = None
) -> tf.Tensor:
    """Log likelihood of each example: the sum over its event axes.

    Keras would take the mean over the steps of a sequence, which divides the likelihood by their
    number and leaves the KL as it is. Steps that `mask` leaves out contribute nothing.

    Args:
        log_prob: `(batch, *event)`, in nats.
        mask: Booleans `(batch, ...)` that broadcast over the remaining event axes, or None.
        sample_weight: How many observations an example (or step) counts as, or None.

    Returns:
        A float32 tensor `(batch,)`.
    """
    weights = event_weights(len(log_prob.shape), mask, sample_weight)
    if weights is not None:
        log_prob *= tf.cast(weights, log_prob.dtype)
    return tf.reduce_sum(tf.reshape(log_prob, [tf.shape(log_prob)[0], -1]), axis=1)


def event_weights(rank: int, mask: Any = None, sample_weight: Any = None) -> tf.Tensor | None:
    """How many observations each element of a `log_prob` counts as: mask times weights.

    Args:
        rank: Number of axes of the `log_prob`.
        mask: As in `sum_events`.
        sample_weight: As in `sum_events`.

    Returns:
        A float32 tensor of `rank` axes that broadcasts to the `log_prob`; None if all count once.
    """
    weights = None
    for factor in (mask, sample_weight):
        if factor is not None:
            factor = tf.cast(tf.convert_to_tensor(factor), tf.float32)
            missing = rank - len(factor.shape)
            if missing < 0:
                factor = tf.squeeze(factor, -1)
            factor = tf.reshape(factor, tf.concat([tf.shape(factor), [1] * max(missing, 0)], 0))
            weights = factor if weights is None else weights * factor
    return weights


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
