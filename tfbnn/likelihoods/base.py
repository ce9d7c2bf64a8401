"""What training, prediction and files ask of a likelihood, `p(y | outputs)`."""

import abc
import copy
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.results import Evaluation, Prediction
from tfbnn.likelihoods.targets import matched, spread
from tfbnn.lite_rules import Rule


class AbstractLikelihood(abc.ABC):
    """`p(y | outputs)` for one output of a network.

    A prediction is the mean of `parameters` over networks. Two temperatures, 1 at first, soften or
    sharpen one of classes: `temperature` divides the logits of each network before the mean,
    `mean_temperature` those of the mean. Training knows neither.
    """

    # In manifests and messages; for what which loss is.
    name: str
    usage: str
    # What `tfbnn.predict` and `tfbnn.evaluate` give.
    prediction_type: type[Prediction]
    evaluation_type: type[Evaluation]
    # What holds a label with a given probability, a set or an interval.
    region_type: type[Rule]
    # Whether the noise is learned as a variable of the model, an output of the network, or in a
    # unit that is a variable too.
    noise_is_learned = noise_is_predicted = noise_has_unit = False

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

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Logits of a network, divided by the temperature, or a `ValueError` if it has none."""
        raise ValueError(
            "Temperature scaling is for classes; a regression learns its noise with "
            f"`tfbnn.losses.NormalNLL`. Received: a model with a {self.name} likelihood"
        )

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

    @abc.abstractmethod
    def curvature(self, outputs: tf.Tensor) -> tf.Tensor:
        """`-E[d2 log(p(y | outputs)) / d outputs2]`, `(batch, ..., outputs, outputs)`.

        The expected Hessian under the law itself, the Fisher information of the outputs: what a
        generalised Gauss-Newton matrix has between the Jacobians of the network. Temperatures do
        not enter, as in training.
        """

    @abc.abstractmethod
    def sample(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Targets drawn from the law, as `log_prob` takes them; temperatures do not enter.

        `seed` is an integer tensor of shape `(2,)`.
        """

    def targets_shape(self, outputs_shape: Any) -> Any:
        """The shape of the targets for outputs of a shape."""
        return outputs_shape

    @abc.abstractmethod
    def require_possible(
        self, targets: tf.Tensor, outputs_shape: Any, counts: tf.Tensor | None = None
    ) -> list[tf.Operation]:
        """`requirements.require` that targets in the shape `targets_shape` are possible under this
        law.

        `counts` says which of them count (are not masked), booleans `(batch, *event)`, or is None.
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

        A target for which one of the `factors`, masks and weights, is zero does not count.
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

    # What predictions, files and scores ask.

    @property
    @abc.abstractmethod
    def meanings(self) -> dict[str, str]:
        """What the three answers are that every file gives, in order, by their names."""

    @property
    def answer_names(self) -> tuple[str, ...]:
        """Names of all outputs of a file."""
        return tuple(self.meanings)

    @abc.abstractmethod
    def answer(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """What `prediction` says, of outputs `(num_samples, batch, ...)`, by `answer_names`.

        All operations are among those that LiteRT has built in.
        """

    @abc.abstractmethod
    def prediction(
        self, parameters: tuple[np.ndarray, ...], keep_samples: bool, mask: Any = None
    ) -> Prediction:
        """The prediction for a block of rows, of the `parameters` of each draw, in float32.

        `mask` are booleans `(rows, ...)`, the steps that count, or None.
        """

    @abc.abstractmethod
    def labels(
        self, targets: np.ndarray, outputs_shape: tuple[int, ...], counted: np.ndarray
    ) -> np.ndarray:
        """Targets as labels that can be scored, in the shape of `log_prob`, or a `ValueError`.

        `counted` says which of them count, in that shape.
        """

    @abc.abstractmethod
    def judged(self, prediction: Prediction, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """What `evaluation_type` takes of a prediction with samples, for labels of a shape."""

    @classmethod
    @abc.abstractmethod
    def mistakes(
        cls, prediction: np.ndarray, labels: np.ndarray, tolerance: float | None
    ) -> np.ndarray:
        """Which mean predictions are wrong, booleans in the shape of `labels`.

        `tolerance` is how far a right one may be off where there are distances, and None elsewhere.
        """

    @abc.abstractmethod
    def difference(self, prediction: np.ndarray, other: Prediction) -> np.ndarray:
        """How far a mean prediction is from another one, from 0; about 1 is very far."""

    @abc.abstractmethod
    def distances(
        self, targets: Sequence[tf.Tensor], answers: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """How far the three answers of a network are from the wanted ones, `(batch, ...)` each.

        The cross-entropy in nats, and a distance of what the weights are to blame for.
        """

    def num_classes(self, outputs_shape: Sequence[int | None]) -> int | None:
        """How many names the classes have; None where there are no such names."""
        del outputs_shape

    def blind_guess(self, outputs: tf.Tensor) -> tf.Tensor | None:
        """Outputs that give all classes the same probability; None where there are no classes."""
        del outputs

    def nll_in_words(self, nll: float) -> str:
        """What an NLL in nats says, a sentence or nothing."""
        del nll
        return ""
