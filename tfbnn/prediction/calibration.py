"""Is the model right to be that sure? Scores of class predictions against labels.

`probabilities` of shape `(batch, ..., classes)`, the mean over posterior draws, and
integer `labels` of shape `(batch, ...)`:

| function | what | unit, range | best |
|---|---|---|---|
| `error` | wrong answers | share, 0 to 1 | 0 |
| `negative_log_likelihood` | proper score, punishes sure mistakes most | nats, 0 to 87.3 | 0 |
| `brier_score` | proper score, bounded | probability**2, 0 to 2 | 0 |
| `expected_calibration_error` | gap between confidence and accuracy | share, 0 to 1 | 0 |
| `reliability` | the same gap, bin by bin | | equal columns |

Prefer a proper score to compare models: a model that always answers with the class frequencies is
perfectly calibrated. `fit_temperature` mends confidence on held-out data without moving a label.

`tfbnn.prediction.diagrams` draws `reliability`; `tfbnn.prediction.regression_scores` has the scores
of predicted real numbers.

Each position of extra event axes (pixels, time steps) has a label. Shares are means over labels;
the likelihood is per example, the sum over the labels of one, as in the objective. Binary
probabilities of shape `(batch, ..., 1)` are read as the probability of label 1. `weights` say how
much each label counts: 0 for a masked step.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfbnn import arguments
from tfbnn.prediction import temperature
from tfbnn.prediction.uncertainty import checked_probabilities, finite_array

# The smallest normal float32: a probability that underflowed costs 87.3 nats and not infinity.
_SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
# More could neither be filled nor seen.
_MOST_BINS = 10**6


class Reliability(NamedTuple):
    """Confidence against accuracy in bins of equal width.

    Attributes:
        confidence: Mean probability of the predicted class, shape `(num_bins,)`; NaN where empty.
        accuracy: Share of right answers, shape `(num_bins,)`; NaN where empty.
        count: Number of labels, integers, shape `(num_bins,)`; with weights, the sum of theirs.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def as_categorical(probabilities: ArrayLike) -> np.ndarray:
    """Probabilities of one event as probabilities of two classes.

    `[1 - p, p]` on the last axis if it has length 1; otherwise the input, unchanged.

    Args:
        probabilities: Shape `(batch, ..., 1)` or `(batch, ..., classes)`; any leading axes, so
            posterior draws too.

    Returns:
        Probabilities, float64, shape `(batch, ..., 2)` or `(batch, ..., classes)`.

    Raises:
        ValueError: If a probability of one event is not in [0, 1].

    Example:

    >>> from tfbnn.prediction import calibration
    >>> calibration.as_categorical([[0.25], [1.0]]).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    array = finite_array("probabilities", probabilities, min_rank=2)
    if array.shape[-1] != 1:
        return array
    if array.min() < 0 or array.max() > 1:
        raise ValueError(
            "`probabilities` of one event must be in [0, 1]; are these logits? "
            f"Received: range=[{array.min():.6g}, {array.max():.6g}]"
        )
    return np.concatenate([1.0 - array, array], axis=-1)


def negative_log_likelihood(
    probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Negative log-likelihood of the labels, the mean over examples.

    `-sum(weight * log(max(p[label], 1.2e-38))) / batch`, the sum over all labels. The floor, the
    smallest normal float32, keeps the score finite when a probability underflowed: such a label
    costs 87.3 nats.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.
        weights: How much each label counts, at least 0, in the shape of `labels`; None: alike.

    Returns:
        Nats per example.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> round(calibration.negative_log_likelihood([[0.5, 0.5], [0.2, 0.8]], [0, 1]), 4)
    0.4581
    """
    flat, flat_labels, flat_weights = _flatten(probabilities, labels, weights)
    chosen = flat[np.arange(len(flat)), flat_labels]
    log = np.log(np.maximum(chosen, _SMALLEST_PROBABILITY))
    return float(-np.sum(flat_weights * log) / len(np.asarray(probabilities)))


def error(probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Share of wrong answers, `mean(argmax(p) != label)`.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.
        weights: How much each label counts, at least 0, in the shape of `labels`; None: alike.

    Returns:
        Share, from 0 to 1.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> calibration.error([[0.9, 0.1], [0.2, 0.8]], [0, 0])
    0.5
    """
    flat, flat_labels, flat_weights = _flatten(probabilities, labels, weights)
    return float(np.average(flat.argmax(axis=-1) != flat_labels, weights=flat_weights))


def brier_score(
    probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Mean squared distance between the probabilities and the answers.

    `mean(sum((p - one_hot(label))**2))`, summed over classes as Brier did: from 0 to 2. For two
    classes it is twice the score that counts one class only.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.
        weights: How much each label counts, at least 0, in the shape of `labels`; None: alike.

    Returns:
        Squared probability, from 0 to 2.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> calibration.brier_score([[1.0, 0.0], [1.0, 0.0]], [0, 1])
    1.0

    Reference:
        Brier 1950, "Verification of Forecasts Expressed in Terms of Probability", the score P.
    """
    flat, flat_labels, flat_weights = _flatten(probabilities, labels, weights)
    residuals = flat.copy()
    residuals[np.arange(len(flat)), flat_labels] -= 1.0
    return float(np.average(np.sum(np.square(residuals), axis=-1), weights=flat_weights))


def reliability(
    probabilities: ArrayLike,
    labels: ArrayLike,
    num_bins: int = 15,
    weights: ArrayLike | None = None,
) -> Reliability:
    """Confidence and accuracy in bins of equal width.

    Bin m (from 1) holds the examples whose highest probability is in
    `((m - 1) / num_bins, m / num_bins]`.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.
        num_bins: Number of bins, 1 or more.
        weights: How much each label counts, at least 0, in the shape of `labels`; None: alike.

    Returns:
        A `Reliability`: confidence, accuracy and count, each of shape `(num_bins,)`.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> bins = calibration.reliability([[0.9, 0.1], [0.7, 0.3]], [0, 1], num_bins=2)
    >>> bins.confidence.round(2).tolist(), bins.accuracy.tolist(), bins.count.tolist()
    ([nan, 0.8], [nan, 0.5], [0, 2])

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", sec. 2.
    """
    num_bins = arguments.count("num_bins", num_bins, most=_MOST_BINS)
    flat, flat_labels, flat_weights = _flatten(probabilities, labels, weights)
    confidence = flat.max(axis=-1)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    # Rounding may put a probability just above 1.
    index = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, num_bins - 1)
    count = np.bincount(index, weights=flat_weights, minlength=num_bins)
    right = (flat.argmax(axis=-1) == flat_labels).astype(np.float64)
    return Reliability(
        confidence=_bin_means(index, flat_weights * confidence, count),
        accuracy=_bin_means(index, flat_weights * right, count),
        count=count.astype(np.int64) if weights is None else count,
    )


def expected_calibration_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    num_bins: int = 15,
    weights: ArrayLike | None = None,
) -> float:
    """Mean gap between confidence and accuracy.

    `sum(count / n * abs(accuracy - confidence))` over the bins of `reliability`. It is a share, not
    a percentage. It is biased upwards: a perfectly calibrated model scores up to
    about `0.4 * sqrt(num_bins / n)` by chance, so compare models on the same number of examples.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.
        num_bins: Number of bins, 1 or more.
        weights: How much each label counts, at least 0, in the shape of `labels`; None: alike.

    Returns:
        Share, from 0 to 1.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> round(calibration.expected_calibration_error([[0.9, 0.1], [0.7, 0.3]], [0, 1], 2), 4)
    0.3

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3.
    """
    return calibration_error(reliability(probabilities, labels, num_bins, weights))


def fit_temperature(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> temperature.Temperature:
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

    >>> from tfbnn.prediction import calibration
    >>> logits = [[[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]]
    >>> round(calibration.fit_temperature(logits, labels=[0, 0, 1]), 4)  # 2 / log(2): p = 2/3
    2.8854

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", sec. 4.2.
    """
    return temperature.fitted(examples_of(logits, labels, weights))


# Arrays of all labels: what is said of each, the label itself, and how much it counts.
_Labelled = tuple[np.ndarray, np.ndarray, np.ndarray]


def _flatten(probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike | None) -> _Labelled:
    """Probabilities `(examples, classes)`, labels and weights `(examples,)`, checked."""
    checked = checked_probabilities(as_categorical(probabilities), min_rank=2)
    flat_labels = whole_labels(labels, checked.shape).reshape(-1)
    return checked.reshape(-1, checked.shape[-1]), flat_labels, flat_weights(weights, labels)


def examples_of(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None
) -> temperature.Examples:
    """What a temperature is fitted to; the arguments are those of `fit_temperature`."""
    checked = finite_array("logits", logits, min_rank=3)
    if checked.shape[-1] == 1:
        # softmax([0, a]) = [1 - sigmoid(a), sigmoid(a)], at every temperature.
        checked = np.concatenate([np.zeros_like(checked), checked], axis=-1)
    flat = checked.reshape(len(checked), -1, checked.shape[-1])
    flat_labels = whole_labels(labels, checked.shape[1:]).reshape(-1)
    return temperature.Examples(flat, flat_labels, flat_weights(weights, labels))


def flat_weights(weights: ArrayLike | None, labels: ArrayLike) -> np.ndarray:
    """How much each of the labels counts, `(labels,)`; an error if none counts at all."""
    if weights is None:
        return np.ones(np.size(labels))
    array = finite_array("weights", weights, min_rank=0)
    if array.size != np.size(labels) or array.min() < 0 or array.max() == 0:
        raise ValueError(
            "`weights` must have a number for each label, at least 0 and not 0 for all. Received: "
            f"weights of shape {array.shape} from {array.min():g} to {array.max():g}, labels of "
            f"shape {np.shape(labels)}"
        )
    return array.reshape(-1)


def whole_labels(labels: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Labels `(batch, ...)` as integers, for predictions of shape `(batch, ..., classes)`."""
    array = finite_array("labels", labels, min_rank=1)
    # Keras keeps a last axis of length 1 on integer labels.
    if array.shape not in (shape[:-1], (*shape[:-1], 1)):
        raise ValueError(
            f"`labels` must be integers of shape {shape[:-1]}, one for each prediction; of one-hot "
            f"labels pass `labels.argmax(-1)`. Received: labels shape={array.shape}, "
            f"predictions shape={shape}"
        )
    integers = array.astype(np.int64).reshape(shape[:-1])
    if (integers != array.reshape(shape[:-1])).any():
        raise ValueError(f"`labels` must be whole numbers. Received: labels={array.reshape(-1)}")
    if integers.min() < 0 or integers.max() >= shape[-1]:
        raise ValueError(
            f"`labels` must be from 0 to {shape[-1] - 1}, the classes of the predictions; drop "
            "examples without a label. "
            f"Received: range=[{integers.min()}, {integers.max()}]"
        )
    return integers


def _bin_means(index: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
    sums = np.bincount(index, weights=values, minlength=len(count))
    return np.divide(sums, count, where=count > 0, out=np.full(len(count), np.nan))


def calibration_error(bins: Reliability) -> float:
    """The expected calibration error of bins, `sum(count / n * abs(accuracy - confidence))`."""
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float(np.nansum(bins.count * gaps) / bins.count.sum())
