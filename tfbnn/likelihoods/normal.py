"""Real numbers with normal noise, which is known, learned or predicted."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.likelihoods.real_numbers import AbstractRealNumbers, NumberPrediction
from tfbnn.likelihoods.targets import matched
from tfbnn.requirements import require_finite
from tfbnn.scores import number_uncertainty
from tfbnn.weights.softplus import inverse_softplus

# Keeps a predicted scale away from 0, where the density has no maximum.
SMALLEST_SCALE = 1e-6


@keras.saving.register_keras_serializable("tfbnn.losses")
class NormalNLL(keras.losses.Loss):
    """Negative log likelihood of targets with normal noise, summed over the last axis.

    `-log(N(y; loc, scale**2)) = ((y - loc) / scale)**2 / 2 + log(scale) + log(2 * pi) / 2`

    A scale that is learned or predicted is `unit * softplus(rho)`: the first `fit` sets the unit to
    the standard deviation of the training targets, so that the noise starts there, and a step of
    the optimizer is one in the unit of the data. Later fits leave the unit as it is.

    Args:
        scale: Standard deviation of the noise, in the unit of the targets. A number from 1e-12 to
            1e12: fixed. `"learned"`: trained with the network (needs `tfbnn.Model` or
            `tfbnn.Sequential`). `"head"`: predicted for each input: the network has twice as many
            outputs as there are targets, first `loc`, then `rho`.
        initial_scale: None, or where a learned scale starts, between 1e-6 and 1e12; with a number
            the unit is 1, of a `"head"` too.
        name: Name of the loss.
        num_scales: Number of scales that are learned, and of units: 1 for all targets together, or
            one for each. None: one for each target, the last axis, where the model knows their
            number when it is compiled or first fitted; else 1.

    Raises:
        ValueError: If `scale` is none of these, or another argument out of its range.

    Example:

    >>> import numpy as np, tfbnn
    >>> loss = tfbnn.losses.NormalNLL(scale=1.0)
    >>> round(float(loss(np.zeros((2, 1)), np.zeros((2, 1)))), 4)
    0.9189
    """

    def __init__(
        self,
        scale: float | str = "learned",
        initial_scale: float | None = None,
        name: str = "normal_nll",
        num_scales: int | None = None,
    ):
        super().__init__(name=arguments.text("name", name))
        self.scale = _checked_scale(scale)
        self.initial_scale = initial_scale
        if initial_scale is not None:
            # Below the smallest scale it would not be the start.
            bounds = SMALLEST_SCALE, arguments.LARGEST_SCALE
            self.initial_scale = arguments.real_number(
                "initial_scale", initial_scale, *bounds, exclusive=True
            )
        self.num_scales = num_scales
        if num_scales is not None:
            self.num_scales = arguments.count("num_scales", num_scales)
        # Whether the number of targets was not known when the model was compiled.
        self.number_is_open = False
        # Variables of the model; see `noise_variables`.
        self.rho_variable: keras.Variable | None = None
        self.unit_variable: keras.Variable | None = None

    @property
    def has_unit(self) -> bool:
        """Whether the noise is in a unit that comes from the data."""
        return self.scale in ("learned", "head") and self.initial_scale is None

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of a model that belong to its noise."""
        return [v for v in (self.rho_variable, self.unit_variable) if v is not None]

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        loc, scale = self.loc_and_scale(y_pred)
        return tf.reduce_sum(self.elementwise(y_true, loc, scale), axis=-1)

    def elementwise(self, targets: Any, loc: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """The negative log density of each target, in nats, in the shape of `loc`."""
        targets = tf.cast(matched(targets, loc.shape), loc.dtype)
        error = (targets - loc) / scale
        return 0.5 * tf.square(error) + tf.math.log(scale) + 0.5 * math.log(2 * math.pi)

    def loc_and_scale(self, outputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and standard deviation of the targets, float32 `(..., targets)`, for a network's
        outputs.

        Those are `(..., targets)`, or `(..., 2 * targets)` for `scale="head"`.
        """
        outputs = tf.cast(outputs, tf.float32)
        if self.scale == "head":
            if outputs.shape[-1] % 2:
                raise ValueError(
                    "With `scale='head'` the network needs two outputs for each target, `loc` and "
                    f"`rho`. Received: outputs of shape {tuple(outputs.shape)}"
                )
            loc, rho = tf.split(outputs, 2, axis=-1)
            return loc, self.unit() * (tf.math.softplus(rho) + SMALLEST_SCALE)
        return outputs, tf.broadcast_to(self.constant_scale(), tf.shape(outputs))

    def unit(self) -> tf.Tensor:
        """What the noise is measured in, in the unit of the targets: 1 until `fit` has set it."""
        if self.unit_variable is None:
            return tf.constant(1.0)
        unit = tf.convert_to_tensor(self.unit_variable.value)
        return tf.where(unit > 0, unit, 1.0)

    def constant_scale(self) -> tf.Tensor:
        """The scale that is fixed or learned: a scalar, or one for each target."""
        if self.scale != "learned":
            return tf.constant(self.scale, tf.float32)
        if self.rho_variable is None:
            raise ValueError(
                "A learned scale is a variable of the model: compile a `tfbnn.Model` or "
                "`tfbnn.Sequential` with this loss and use `model.likelihood.loss`, or choose "
                "`scale='head'` or a number. "
                "Received: scale='learned'"
            )
        rho = tf.convert_to_tensor(self.rho_variable.value)
        return self.unit() * (tf.math.softplus(rho) + SMALLEST_SCALE)

    def assign_scale(self, scale: Any) -> None:
        """Let a learned scale be `scale`, numbers in the unit of the targets."""
        ratio = np.asarray(scale, np.float64) / self.unit().numpy()
        # A scale of 0 has no density.
        ratio = np.maximum(ratio, 2 * SMALLEST_SCALE)
        self.rho_variable.assign(np.broadcast_to(_rho_of(ratio), self.rho_variable.shape))

    def initial_rho(self) -> float:
        """Where the variable of a learned scale starts: at `initial_scale`, or at its unit."""
        return float(_rho_of(np.float64(self.initial_scale or 1.0)))

    def get_config(self) -> dict[str, Any]:
        names = ("scale", "initial_scale", "name", "num_scales")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "NormalNLL":
        # A configuration that does not know of several scales is from a time with one.
        return cls(**{"num_scales": 1, **config})


def _rho_of(scale: np.ndarray) -> np.ndarray:
    """`softplus^-1(scale - SMALLEST_SCALE)`"""
    above = scale - SMALLEST_SCALE
    return above + np.log(-np.expm1(-above))


def _checked_scale(scale: Any) -> float | str:
    if isinstance(scale, str) and scale in ("learned", "head"):
        return str(scale)
    try:
        return arguments.standard_deviation("scale", scale)
    except ValueError as error:
        raise ValueError(f"'learned', 'head' or a number: {error}") from None


@dataclasses.dataclass(frozen=True)
class NormalPrediction(NumberPrediction):
    """Prediction of real numbers with normal noise; see `NumberPrediction`."""

    def quantile(self, q: float) -> np.ndarray:
        """Quantile of the predictive distribution of each target, noise included."""
        return number_uncertainty.mixture_quantile(*self._kept_samples(), q)

    def credible_interval(self, mass: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Central interval that holds a target with probability `mass`, noise included."""
        return number_uncertainty.credible_interval(*self._kept_samples(), mass)


class Normal(AbstractRealNumbers):
    """A real number with normal noise. `parameters`: `loc` and `scale`, `(..., targets)`."""

    name = "normal"
    usage = "for real numbers `tfbnn.losses.NormalNLL(scale='learned')` (in place of 'mse')"
    prediction_type = NormalPrediction

    def __init__(self, loss: NormalNLL):
        # A copy: each model, and each output, learns a scale of its own.
        super().__init__(NormalNLL.from_config(loss.get_config()))
        self.noise_is_learned = loss.scale == "learned"
        self.noise_is_predicted = loss.scale == "head"
        self.noise_has_unit = loss.has_unit

    def log_prob(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        return -self.loss.elementwise(targets, *self.loss.loc_and_scale(outputs))

    def parameters(self, outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return self.loss.loc_and_scale(outputs)

    def mean_and_deviation(self, loc: Any, scale: Any) -> tuple[Any, Any]:
        return loc, scale

    def curvature(self, outputs: tf.Tensor) -> tf.Tensor:
        _, scale = self.loss.loc_and_scale(outputs)
        of_loc = 1.0 / tf.square(scale)
        if self.loss.scale != "head":
            return tf.linalg.diag(of_loc)
        _, rho = tf.split(tf.cast(outputs, tf.float32), 2, axis=-1)
        of_rho = 2.0 * tf.square(self.loss.unit() * tf.sigmoid(rho) / scale)
        return tf.linalg.diag(tf.concat([of_loc, of_rho], axis=-1))

    def sample(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        loc, scale = self.loss.loc_and_scale(outputs)
        return loc + scale * tf.random.stateless_normal(tf.shape(loc), seed)

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
