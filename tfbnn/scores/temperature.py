"""Temperatures: the number that makes predictions most likely, how well it is known, and of what.

A temperature T of the draws divides the logits of each network before the mean over networks, one
of the mean divides the logarithms of their mean probabilities:

    draws:  p_T = mean(softmax(logits / T), axis=draws)
    mean:   p_T = softmax(log(p) / T) = p**(1 / T) / sum(p**(1 / T)),  p = mean(softmax(logits))

Draws that disagree have an unsure mean. Where they disagree too much the model is underconfident,
and dividing their logits does not help: at best each draw is sure, and the mean is their votes. A
temperature of the mean helps. Its price: the difference of entropies is then no mutual information,
so the parts of the uncertainty stay those of the draws.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfbnn.scores.arrays import finite_array, flat_weights, whole_labels

if TYPE_CHECKING:
    import tensorflow as tf

# What a temperature may divide, the simpler first: with one of the draws the parts add up.
KINDS = ("draws", "mean")
# Far beyond the temperatures of trained networks, which are near 1: who ends here has no minimum.
_MAX_TEMPERATURE = 20.0
# Steps of a quarter in log(temperature): a minimum is several times as wide.
_NUM_TEMPERATURES = 25
# Of log(T), for the second derivative: its error is some 1e-4 of it, that of rounding far less.
_STEP = 1e-2
# Beyond this factor the confidence is made by the temperature and no more by the model.
_FAR = 3.0
# A count of n has a relative standard error of 1 / sqrt(n): below 10, the share of errors, which a
# temperature must reproduce, is not known to a third.
_FEW_ERRORS = 10
# Of log(T): with two standard errors T is known to a factor of exp(0.4) = 1.5 only.
_LARGE_ERROR = 0.2


class Temperature(float):
    """A temperature: a number, with what it divides and how well it is known.

    Attributes:
        of: `"draws"` if it divides the logits of each network, `"mean"` if those of their mean.
        standard_error: Standard error of `log(T)`, so that T is known to a factor of
            `exp(2 * standard_error)`: `1 / sqrt(sum(weights) * d**2(nll) / d(log(T))**2)`.
    """

    of: str
    standard_error: float

    # With defaults, because copies are made of the number and get the rest afterwards.
    def __new__(cls, value: float, of: str = "draws", standard_error: float = np.nan):
        temperature = super().__new__(cls, value)
        temperature.of, temperature.standard_error = of, standard_error
        return temperature


class Examples(NamedTuple):
    """What a temperature is fitted to, checked and without event axes.

    Attributes:
        logits: `(num_samples, examples, classes)`, float64.
        labels: Whole numbers `(examples,)`.
        weights: How many observations each counts as, `(examples,)`.
    """

    logits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    def log_prob(self, log_temperature: "float | tf.Tensor") -> "tf.Tensor":
        """`log(mean(softmax(logits / T)[label], axis=draws))`, float64, `(examples,)`."""
        # Here and not above: the other scores need NumPy only.
        import tensorflow as tf
        import tensorflow_probability as tfp

        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=np.broadcast_to(self.labels, self.logits.shape[:2]),
            logits=self.logits * tf.exp(-tf.convert_to_tensor(log_temperature, tf.float64)),
        )
        return tfp.math.reduce_logmeanexp(-losses, axis=0)

    def nll(self, log_temperature: "float | tf.Tensor") -> "tf.Tensor":
        """The weighted mean of `-log_prob` over examples, in nats."""
        import tensorflow as tf

        return -tf.reduce_sum(self.weights * self.log_prob(log_temperature)) / self.weights.sum()

    def num_wrong(self) -> int:
        """How many labels that count are not the most probable class of the first draw.

        Of a mean, which is one draw, a temperature changes none of them.
        """
        wrong = self.logits[0].argmax(axis=-1) != self.labels
        return int(np.count_nonzero(wrong & (self.weights > 0)))


def fit_temperature(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> Temperature:
    """Temperature that makes the averaged prediction most likely on held-out data.

    The minimum over T of the Monte Carlo predictive NLL,
    `-mean(log(mean(softmax(logits / T)[label], axis=draws)))`, a mean over labels. With one draw
    this is Guo's temperature scaling; with several, each draw is divided by the same T before the
    average, so that T and the posterior are judged together. T above 1 softens an overconfident
    model. For a temperature of the mean pass its logarithms as one draw,
    `numpy.log(probabilities)[None]`.

    Args:
        logits: Shape `(num_samples, batch, ..., classes)`, or `(num_samples, batch, ..., 1)` for
            binary logits. Held-out data: on the training data T comes out too small.
        labels: Integers, shape `(batch, ...)`.
        weights: How much each label counts, at least 0, in the shape of `labels`; None: alike.

    Returns:
        Temperature, without unit, between 1/20 and 20: a number that knows its `standard_error`.

    Raises:
        ValueError: If there is no minimum between 1/20 and 20, or the inputs are empty, not finite,
            out of range or do not fit.

    Example:

    >>> from tfbnn.scores import temperature
    >>> logits = [[[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]]
    >>> round(temperature.fit_temperature(logits, labels=[0, 0, 1]), 4)  # 2 / log(2): p = 2/3
    2.8854

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", sec. 4.2.
    """
    return fitted(examples_of(logits, labels, weights))


def examples_of(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None) -> Examples:
    """What a temperature is fitted to; the arguments are those of `fit_temperature`."""
    checked = finite_array("logits", logits, min_rank=3)
    if checked.shape[-1] == 1:
        # softmax([0, a]) = [1 - sigmoid(a), sigmoid(a)], at every temperature.
        checked = np.concatenate([np.zeros_like(checked), checked], axis=-1)
    flat = checked.reshape(len(checked), -1, checked.shape[-1])
    flat_labels = whole_labels(labels, checked.shape[1:]).reshape(-1)
    return Examples(flat, flat_labels, flat_weights(weights, labels))


def fitted(examples: Examples, of: str = "draws") -> Temperature:
    """The temperature with the lowest NLL: of draws, or of a mean, which is one draw.

    Raises:
        ValueError: If there is no minimum between 1/20 and 20.
    """
    log_temperatures = np.linspace(-1.0, 1.0, _NUM_TEMPERATURES) * np.log(_MAX_TEMPERATURE)
    losses = [float(examples.nll(value)) for value in log_temperatures]
    best = int(np.argmin(losses))
    if best in (0, _NUM_TEMPERATURES - 1):
        raise ValueError(
            f"No temperature between {1 / _MAX_TEMPERATURE:g} and {_MAX_TEMPERATURE:g} is best: "
            "either every answer is right (pass more held-out data, not training data) or the "
            "logits say nothing about the labels (are the labels in the same order?). "
            f"Received: best temperature={np.exp(log_temperatures[best]):g}"
        )
    refined = _stationary_point(examples, *log_temperatures[[best - 1, best + 1]])
    # Should the loss have two minima between neighbours, the search may have found the maximum.
    if float(examples.nll(refined)) > losses[best]:
        refined = log_temperatures[best]
    return Temperature(np.exp(refined), of, _standard_error(examples, refined))


def chosen(candidates: Mapping[str, Examples], of: str) -> Temperature:
    """The temperature of one of `KINDS`, or the `"best"`, of examples of each with the same labels.

    The best is the mean if its NLL is lower by more than the standard error of the difference, else
    the draws. A kind that has no temperature is left out; if all have none, a `ValueError` says
    why.
    """
    found: dict[str, Temperature] = {}
    errors = []
    for kind in KINDS if of == "best" else (of,):
        try:
            found[kind] = fitted(candidates[kind], kind)
        except ValueError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    if len(found) == len(KINDS) and not _is_more_likely(candidates, found):
        return found["draws"]
    return list(found.values())[-1]


def warn_if_doubtful(temperature: Temperature, num_wrong: int) -> None:
    """Warn if a temperature may be none to trust, and say why and what to do about it.

    `num_wrong` is the number of wrong answers in the data that it was chosen on.
    """
    doubts = _doubts(temperature, num_wrong)
    if doubts:
        # The caller of `tfbnn.calibrate`.
        warnings.warn(
            f"The temperature {temperature:.3g} of the {temperature.of} is in doubt. "
            f"{' '.join(doubts)} Compare the NLL on other data before you keep it.",
            UserWarning,
            stacklevel=3,
        )


def _doubts(temperature: Temperature, num_wrong: int) -> list[str]:
    doubts = []
    if not 1 / _FAR <= temperature <= _FAR:
        doubts.append(
            f"It is not within a factor of {_FAR:g} of 1: the confidence is then no more the "
            "model's. Train the model otherwise (longer, another `beta` or prior), or look whether "
            "the held-out data are of the same kind as the training data."
        )
    if num_wrong < _FEW_ERRORS:
        doubts.append(
            f"Only {num_wrong} of the held-out answers are wrong, fewer than {_FEW_ERRORS}, and "
            "the temperature depends on these: pass more held-out data."
        )
    if not temperature.standard_error <= _LARGE_ERROR:
        factor = np.exp(2 * temperature.standard_error)
        doubts.append(
            f"The held-out data fix it to a factor of {factor:.2g} only (two standard errors): "
            "pass more of them."
        )
    return doubts


def _is_more_likely(candidates: Mapping[str, Examples], found: Mapping[str, Temperature]) -> bool:
    """Whether the mean is clearly better: the one-standard-error rule on paired differences."""
    draws, mean = (candidates[kind].log_prob(np.log(found[kind])).numpy() for kind in KINDS)
    weights = candidates["mean"].weights / candidates["mean"].weights.sum()
    gain = np.sum(weights * (mean - draws))
    error = np.sqrt(np.sum(np.square(weights * (mean - draws - gain))))
    return bool(gain > error)


def _stationary_point(examples: Examples, low: float, high: float) -> float:
    """The log temperature between `low` and `high` at which the loss stops falling."""
    import tensorflow_probability as tfp

    def slope(log_temperature: "tf.Tensor") -> "tf.Tensor":
        return tfp.math.value_and_gradient(examples.nll, log_temperature)[1]

    search = tfp.math.find_root_chandrupatla(
        slope, low=np.float64(low), high=np.float64(high), position_tolerance=1e-9
    )
    return float(search.estimated_root)


def _standard_error(examples: Examples, log_temperature: float) -> float:
    """Of `log(T)`, from the curvature of the loss; infinite if there is none."""
    around = [float(examples.nll(log_temperature + step)) for step in (-_STEP, 0.0, _STEP)]
    curvature = (around[0] - 2 * around[1] + around[2]) / _STEP**2
    information = examples.weights.sum() * max(curvature, 0.0)
    return float(1 / np.sqrt(information)) if information else np.inf
