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
perfectly calibrated. `tfbnn.scores.temperature` mends confidence on held-out data without moving a
label, `tfbnn.scores.diagrams` draws `reliability`.

Each position of extra event axes (pixels, time steps) has a label. Shares are means over labels;
the likelihood is per example, the sum over the labels of one, as in the objective. Binary
probabilities of shape `(batch, ..., 1)` are read as the probability of label 1. `weights` say how
much each label counts: 0 for a masked step.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfbnn import arguments
from tfbnn.scores.arrays import finite_array, flat_weights, whole_labels
from tfbnn.scores.class_uncertainty import checked_probabilities

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

    >>> from tfbnn.scores import class_scores
    >>> class_scores.as_categorical([[0.25], [1.0]]).tolist()
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

    >>> from tfbnn.scores import class_scores
    >>> round(class_scores.negative_log_likelihood([[0.5, 0.5], [0.2, 0.8]], [0, 1]), 4)
    0.4581
    """
    flat, flat_labels, flat_weights = _flatten(probabilities, labels, weights)
    chosen = flat[np.arange(len(flat)), flat_labels]
    log = np.log(np.maximum(chosen, _SMALLEST_PROBABILITY))
    return float(-np.sum(flat_weights * log) / len(np.asarray(probabilities)))


def error(probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Share of wrong answers, `mean(argmax(p) != label)`.

    Args:
        probabilities, labels, weights: As in `negative_log_likelihood`.

    Returns:
        Share, from 0 to 1.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.scores import class_scores
    >>> class_scores.error([[0.9, 0.1], [0.2, 0.8]], [0, 0])
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
        probabilities, labels, weights: As in `negative_log_likelihood`.

    Returns:
        Squared probability, from 0 to 2.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.scores import class_scores
    >>> class_scores.brier_score([[1.0, 0.0], [1.0, 0.0]], [0, 1])
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
        probabilities, labels, weights: As in `negative_log_likelihood`.
        num_bins: Number of bins, 1 or more.

    Returns:
        A `Reliability`: confidence, accuracy and count, each of shape `(num_bins,)`.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.scores import class_scores
    >>> bins = class_scores.reliability([[0.9, 0.1], [0.7, 0.3]], [0, 1], num_bins=2)
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
        probabilities, labels, num_bins, weights: As in `reliability`.

    Returns:
        Share, from 0 to 1.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.scores import class_scores
    >>> round(class_scores.expected_calibration_error([[0.9, 0.1], [0.7, 0.3]], [0, 1], 2), 4)
    0.3

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3.
    """
    return calibration_error(reliability(probabilities, labels, num_bins, weights))


def calibration_error(bins: Reliability) -> float:
    """The expected calibration error of bins, `sum(count / n * abs(accuracy - confidence))`."""
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float(np.nansum(bins.count * gaps) / bins.count.sum())


def _flatten(
    probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities `(examples, classes)`, labels and weights `(examples,)`, checked."""
    checked = checked_probabilities(as_categorical(probabilities), min_rank=2)
    flat_labels = whole_labels(labels, checked.shape).reshape(-1)
    return checked.reshape(-1, checked.shape[-1]), flat_labels, flat_weights(weights, labels)


def _bin_means(index: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
    sums = np.bincount(index, weights=values, minlength=len(count))
    return np.divide(sums, count, where=count > 0, out=np.full(len(count), np.nan))
