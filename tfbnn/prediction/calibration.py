"""Is the model right to be that sure? Scores of predictions against labels.

Classification, `probabilities` of shape `(batch, ..., classes)`, the mean over posterior draws, and
integer `labels` of shape `(batch, ...)`:

| function | what | unit, range | best |
|---|---|---|---|
| `error` | wrong answers | share, 0 to 1 | 0 |
| `negative_log_likelihood` | proper score, punishes sure mistakes most | nats, 0 to 87.3 | 0 |
| `brier_score` | proper score, bounded | probability**2, 0 to 2 | 0 |
| `expected_calibration_error` | gap between confidence and accuracy | share, 0 to 1 | 0 |
| `reliability`, `reliability_diagram` | the same gap, bin by bin | | the diagonal |

Prefer a proper score to compare models: a model that always answers with the class frequencies is
perfectly calibrated. `fit_temperature` mends confidence on held-out data without moving a label.

Regression, one normal per draw: `normal_negative_log_likelihood`, `root_mean_squared_error`,
`interval_coverage`.

Extra event axes (pixels, time steps) are flattened: each position counts as one example. Binary
probabilities of shape `(batch, ..., 1)` are read as the probability of label 1.
"""

import os
import pathlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfbnn.prediction.uncertainty import checked_normals, checked_probabilities, finite_array

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The smallest normal float32: a probability that underflowed costs 87.3 nats and not infinity.
_SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
# Far beyond any temperature reported (Guo et al. 2017 find 0.7 to 3): who ends here has no minimum.
_MAX_TEMPERATURE = 20.0
# Steps of a quarter in log(temperature): a minimum is several times as wide.
_NUM_TEMPERATURES = 25
# Told apart by red-green blind readers (Wong 2011, "Points of view: Color blindness").
_BAR, _OVER, _UNDER, _INK = "#0072b2", "#d55e00", "#56b4e9", "#333333"


class Reliability(NamedTuple):
    """Confidence against accuracy in bins of equal width.

    Attributes:
        confidence: Mean probability of the predicted class, shape `(num_bins,)`; NaN where empty.
        accuracy: Share of right answers, shape `(num_bins,)`; NaN where empty.
        count: Number of examples, integers, shape `(num_bins,)`.
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


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels.

    `-mean(log(max(p[label], 1.2e-38)))`. The floor, the smallest normal float32, keeps the score
    finite when a probability underflowed: such an example costs 87.3 nats.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.

    Returns:
        Nats per example.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> round(calibration.negative_log_likelihood([[0.5, 0.5], [0.2, 0.8]], [0, 1]), 4)
    0.4581
    """
    flat, flat_labels = _flatten(probabilities, labels)
    chosen = flat[np.arange(len(flat)), flat_labels]
    return float(-np.mean(np.log(np.maximum(chosen, _SMALLEST_PROBABILITY))))


def error(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Share of wrong answers, `mean(argmax(p) != label)`.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.

    Returns:
        Share, from 0 to 1.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> calibration.error([[0.9, 0.1], [0.2, 0.8]], [0, 0])
    0.5
    """
    flat, flat_labels = _flatten(probabilities, labels)
    return float(np.mean(flat.argmax(axis=-1) != flat_labels))


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance between the probabilities and the answers.

    `mean(sum((p - one_hot(label))**2))`, summed over classes as Brier did: from 0 to 2. For two
    classes it is twice the score that counts one class only.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.

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
    flat, flat_labels = _flatten(probabilities, labels)
    residuals = flat.copy()
    residuals[np.arange(len(flat)), flat_labels] -= 1.0
    return float(np.mean(np.sum(np.square(residuals), axis=-1)))


def reliability(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> Reliability:
    """Confidence and accuracy in bins of equal width.

    Bin m (from 1) holds the examples whose highest probability is in
    `((m - 1) / num_bins, m / num_bins]`.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.
        num_bins: Number of bins, 1 or more.

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
    if not (isinstance(num_bins, int | np.integer) and num_bins >= 1):
        raise ValueError(f"`num_bins` must be an integer above 0. Received: num_bins={num_bins!r}")
    flat, flat_labels = _flatten(probabilities, labels)
    confidence = flat.max(axis=-1)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    # Rounding may put a probability just above 1.
    index = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, num_bins - 1)
    count = np.bincount(index, minlength=num_bins)
    right = (flat.argmax(axis=-1) == flat_labels).astype(np.float64)
    return Reliability(
        confidence=_bin_means(index, confidence, count),
        accuracy=_bin_means(index, right, count),
        count=count,
    )


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy.

    `sum(count / n * abs(accuracy - confidence))` over the bins of `reliability`. It is a share, not
    a percentage. It is biased upwards: a perfectly calibrated model scores up to
    about `0.4 * sqrt(num_bins / n)` by chance, so compare models on the same number of examples.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.
        num_bins: Number of bins, 1 or more.

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
    return _calibration_error(reliability(probabilities, labels, num_bins))


def reliability_diagram(
    probabilities: ArrayLike,
    labels: ArrayLike,
    num_bins: int = 15,
    path: str | os.PathLike | None = None,
) -> "Figure":
    """Picture of `reliability`: accuracy against confidence, and how many examples are where.

    The figure is free of pyplot's global state: it opens no window and needs no closing.

    Args:
        probabilities: Mean over draws, shape `(batch, ..., classes)` or `(batch, ..., 1)`.
        labels: Integers, shape `(batch, ...)`.
        num_bins: Number of bins, 1 or more.
        path: Where to save it; the ending gives the format (`.png`, `.svg`, `.pdf`). The file
            appears whole or not at all. `None` saves nothing.

    Returns:
        The Matplotlib figure.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> figure = calibration.reliability_diagram([[0.9, 0.1], [0.7, 0.3]], [0, 1])
    >>> len(figure.axes)
    2

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", fig. 1 and 4.
    """
    # Here and not above: scores are needed where nothing is drawn.
    from matplotlib.figure import Figure

    bins = reliability(probabilities, labels, num_bins)
    figure = Figure(figsize=(5.0, 6.2), dpi=150, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1.0])
    _draw_gaps(top, bins)
    _draw_counts(bottom, bins)
    if path is not None:
        _save_whole(figure, pathlib.Path(path))
    return figure


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Temperature that makes the averaged prediction most likely on held-out data.

    The minimum over T of the Monte Carlo predictive NLL,
    `-mean(log(mean(softmax(logits / T)[label], axis=draws)))`. With one draw this is Guo's
    temperature scaling; with several, each draw is divided by the same T before the average, so
    that T and the posterior are judged together. T above 1 softens an overconfident model.

    Args:
        logits: Shape `(num_samples, batch, ..., classes)`, or `(num_samples, batch, ..., 1)` for
            binary logits. Held-out data: on the training data T comes out too small.
        labels: Integers, shape `(batch, ...)`.

    Returns:
        Temperature, without unit, between 1/20 and 20.

    Raises:
        ValueError: If there is no minimum between 1/20 and 20, or the inputs are empty, not finite,
            out of range or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> logits = [[[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]]
    >>> round(calibration.fit_temperature(logits, labels=[0, 0, 1]), 4)  # 2 / log(2): p = 2/3
    2.8854

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", sec. 4.2 and eq. 9.
    """
    flat, flat_labels = _flatten_logits(logits, labels)
    log_temperatures = np.linspace(-1.0, 1.0, _NUM_TEMPERATURES) * np.log(_MAX_TEMPERATURE)
    losses = [float(_tempered_nll(flat, flat_labels, value)) for value in log_temperatures]
    best = int(np.argmin(losses))
    if best in (0, _NUM_TEMPERATURES - 1):
        raise ValueError(
            f"No temperature between {1 / _MAX_TEMPERATURE:g} and {_MAX_TEMPERATURE:g} is best: "
            "either every answer is right (pass more held-out data, not training data) or the "
            "logits say nothing about the labels (are the labels in the same order?). "
            f"Received: best temperature={np.exp(log_temperatures[best]):g}"
        )
    refined = _stationary_point(flat, flat_labels, *log_temperatures[[best - 1, best + 1]])
    # Should the loss have two minima between neighbours, the search may have found the maximum.
    if float(_tempered_nll(flat, flat_labels, refined)) > losses[best]:
        refined = log_temperatures[best]
    return float(np.exp(refined))


def normal_negative_log_likelihood(loc: ArrayLike, scale: ArrayLike, targets: ArrayLike) -> float:
    """Mean negative log density of the targets under the mixture of one normal per draw.

    `-mean(log(mean(prod(normal(y; loc, scale)), axis=draws)))`, in log space. The product is over
    all axes after the batch: a draw is one network, so the outputs of one example are judged
    together.

    Args:
        loc: Means, shape `(num_samples, batch, ..., outputs)`.
        scale: Standard deviations, positive; any shape that broadcasts to that of `loc`.
        targets: Shape `(batch, ..., outputs)`; `(batch, ...)` will do for one output.

    Returns:
        Nats per example; a density has a unit, so it may be negative and depends on the target's.

    Raises:
        ValueError: If the inputs are empty, not finite or do not fit, or `scale` is not positive.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> round(calibration.normal_negative_log_likelihood([[[0.0]]], 1.0, [[0.0]]), 4)
    0.9189

    Reference:
        Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation", sec. 4 (the predictive
        log-likelihood by log-sum-exp over draws).
    """
    checked_loc, checked_scale = checked_normals(loc, scale)
    if not (checked_scale > 0).all():
        raise ValueError(
            "`scale` must be positive; without noise there is no density. "
            f"Received: smallest scale={checked_scale.min()}"
        )
    residuals = (_as_shape("targets", targets, checked_loc.shape[1:]) - checked_loc) / checked_scale
    log_density = -0.5 * np.square(residuals) - np.log(checked_scale) - 0.5 * np.log(2.0 * np.pi)
    joint = log_density.reshape(*log_density.shape[:2], -1).sum(axis=-1)
    return float(-np.mean(np.logaddexp.reduce(joint, axis=0) - np.log(len(joint))))


def root_mean_squared_error(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Root mean squared error, `sqrt(mean((prediction - target)**2))`, over all outputs.

    Args:
        predictions: Mean over draws, shape `(batch, ..., outputs)`.
        targets: Shape `(batch, ..., outputs)`; `(batch, ...)` will do for one output.

    Returns:
        Error in the target's unit.

    Raises:
        ValueError: If the inputs are empty, not finite or do not fit.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> calibration.root_mean_squared_error([[0.0], [0.0]], [[3.0], [3.0]])
    3.0
    """
    checked = finite_array("predictions", predictions, min_rank=1)
    residuals = checked - _as_shape("targets", targets, checked.shape)
    return float(np.sqrt(np.mean(np.square(residuals))))


def interval_coverage(lower: ArrayLike, upper: ArrayLike, targets: ArrayLike) -> float:
    """Share of the targets inside their intervals, `mean((lower <= y) & (y <= upper))`.

    A calibrated `credible_interval` of mass 0.95 covers 0.95 of held-out targets.

    Args:
        lower: Lower ends, shape `(batch, ..., outputs)`.
        upper: Upper ends, the same shape, nowhere below `lower`.
        targets: Shape `(batch, ..., outputs)`; `(batch, ...)` will do for one output.

    Returns:
        Share, from 0 to 1.

    Raises:
        ValueError: If the inputs are empty, not finite or do not fit, or `upper` is below `lower`.

    Example:

    >>> from tfbnn.prediction import calibration
    >>> calibration.interval_coverage([0.0, 0.0], [1.0, 1.0], [0.5, 2.0])
    0.5
    """
    checked_lower = finite_array("lower", lower, min_rank=1)
    checked_upper = _as_shape("upper", upper, checked_lower.shape)
    checked_targets = _as_shape("targets", targets, checked_lower.shape)
    if (checked_upper < checked_lower).any():
        raise ValueError(
            "`upper` must not be below `lower`; are they swapped? "
            f"Received: smallest upper - lower={(checked_upper - checked_lower).min():.6g}"
        )
    inside = (checked_lower <= checked_targets) & (checked_targets <= checked_upper)
    return float(np.mean(inside))


def _flatten(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `(examples, classes)` and labels `(examples,)`, checked."""
    checked = checked_probabilities(as_categorical(probabilities), min_rank=2)
    return checked.reshape(-1, checked.shape[-1]), _flat_labels(labels, checked.shape)


def _flatten_logits(logits: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Logits `(num_samples, examples, classes)` and labels `(examples,)`, checked."""
    checked = finite_array("logits", logits, min_rank=3)
    if checked.shape[-1] == 1:
        # softmax([0, a]) = [1 - sigmoid(a), sigmoid(a)], at every temperature.
        checked = np.concatenate([np.zeros_like(checked), checked], axis=-1)
    flat = checked.reshape(len(checked), -1, checked.shape[-1])
    return flat, _flat_labels(labels, checked.shape[1:])


def _flat_labels(labels: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Labels `(examples,)` as integers, for predictions of shape `(batch, ..., classes)`."""
    array = finite_array("labels", labels, min_rank=1)
    # Keras keeps a last axis of length 1 on integer labels.
    if array.shape not in (shape[:-1], (*shape[:-1], 1)):
        raise ValueError(
            f"`labels` must be integers of shape {shape[:-1]}, one for each prediction; of one-hot "
            f"labels pass `labels.argmax(-1)`. Received: labels shape={array.shape}, "
            f"predictions shape={shape}"
        )
    integers = array.astype(np.int64).reshape(-1)
    if (integers != array.reshape(-1)).any():
        raise ValueError(f"`labels` must be whole numbers. Received: labels={array.reshape(-1)}")
    if integers.min() < 0 or integers.max() >= shape[-1]:
        raise ValueError(
            f"`labels` must be from 0 to {shape[-1] - 1}, the classes of the predictions; drop "
            "examples without a label. "
            f"Received: range=[{integers.min()}, {integers.max()}]"
        )
    return integers


def _as_shape(name: str, value: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """`value` in `shape`, which may have one more axis of length 1; nothing else broadcasts."""
    array = finite_array(name, value, min_rank=1)
    if array.shape != shape and (*array.shape, 1) != shape:
        raise ValueError(
            f"`{name}` must have the shape of the predictions, {shape}. "
            f"Received: {name} shape={array.shape}"
        )
    return array.reshape(shape)


def _bin_means(index: np.ndarray, values: np.ndarray, count: np.ndarray) -> np.ndarray:
    sums = np.bincount(index, weights=values, minlength=len(count))
    return np.divide(sums, count, where=count > 0, out=np.full(len(count), np.nan))


def _calibration_error(bins: Reliability) -> float:
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float(np.nansum(bins.count * gaps) / bins.count.sum())


def _tempered_nll(
    logits: np.ndarray, labels: np.ndarray, log_temperature: "float | tf.Tensor"
) -> "tf.Tensor":
    """`-mean(log(mean(softmax(logits / T)[label], axis=draws)))` as a float64 tensor."""
    # Here and not above: the scores need NumPy only.
    import tensorflow as tf
    import tensorflow_probability as tfp

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=np.broadcast_to(labels, logits.shape[:2]),
        logits=logits * tf.exp(-tf.convert_to_tensor(log_temperature, tf.float64)),
    )
    return -tf.reduce_mean(tfp.math.reduce_logmeanexp(-losses, axis=0))


def _stationary_point(logits: np.ndarray, labels: np.ndarray, low: float, high: float) -> float:
    """The log temperature between `low` and `high` at which the loss stops falling."""
    import tensorflow_probability as tfp

    def loss(log_temperature: "tf.Tensor") -> "tf.Tensor":
        return _tempered_nll(logits, labels, log_temperature)

    def slope(log_temperature: "tf.Tensor") -> "tf.Tensor":
        return tfp.math.value_and_gradient(loss, log_temperature)[1]

    search = tfp.math.find_root_chandrupatla(
        slope, low=np.float64(low), high=np.float64(high), position_tolerance=1e-9
    )
    return float(search.estimated_root)


def _draw_gaps(axes: "Axes", bins: Reliability) -> None:
    """Accuracy and the gap to the confidence, bin by bin, with the diagonal."""
    filled = bins.count > 0
    width = 1.0 / len(filled)
    left = np.arange(len(filled))[filled] * width
    accuracy, confidence = bins.accuracy[filled], bins.confidence[filled]
    over, under = np.maximum(confidence - accuracy, 0), np.maximum(accuracy - confidence, 0)
    common = np.minimum(accuracy, confidence)
    style = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.8}
    axes.bar(left, common, color=_BAR, **style)
    axes.bar(left, over, bottom=common, color=_OVER, alpha=0.55, label="overconfident", **style)
    axes.bar(left, under, bottom=common, color=_UNDER, alpha=0.8, label="underconfident", **style)
    axes.hlines(accuracy, left, left + width, color=_INK, linewidth=2.0, label="accuracy")
    axes.plot([0, 1], [0, 1], "--", color=_INK, linewidth=1.0, label="perfect calibration")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), ylabel="accuracy")
    axes.set_title(f"ECE {_calibration_error(bins):.4f}   ({bins.count.sum():,} examples)")
    axes.legend(loc="upper left", frameon=False)
    _tidy(axes)


def _draw_counts(axes: "Axes", bins: Reliability) -> None:
    """How many examples each bin holds: a short bar means a noisy accuracy above it."""
    width = 1.0 / len(bins.count)
    left = np.arange(len(bins.count)) * width
    style = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.8}
    axes.bar(left, bins.count, color="#9aa5b1", **style)
    axes.set(xlabel="confidence", ylabel="examples")
    _tidy(axes)


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)


def _save_whole(figure: "Figure", path: pathlib.Path) -> None:
    """Saves beside `path` first, so that a reader never sees half a picture."""
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        figure.savefig(unfinished, format=path.suffix[1:] or "png")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
