"""Pictures of how far predictions can be trusted, and of what that is worth.

A figure is free of pyplot's global state: it opens no window, needs no closing and works without a
display.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tfbnn import arguments
from tfbnn.scores.class_scores import Reliability, calibration_error, reliability
from tfbnn.scores.risk_coverage import risk_coverage
from tfbnn.whole_files import picture_path, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by red-green blind readers (Wong 2011, "Points of view: Color blindness").
_BAR, _OVER, _UNDER, _INK = "#0072b2", "#d55e00", "#56b4e9", "#333333"


def reliability_diagram(
    probabilities: ArrayLike,
    labels: ArrayLike,
    num_bins: int = 15,
    path: str | os.PathLike | None = None,
    weights: ArrayLike | None = None,
    title: str | None = None,
) -> "Figure":
    """Picture of `reliability`: accuracy against confidence, and how many examples are where.

    Args:
        probabilities, labels, num_bins, weights: As in `reliability`.
        path: Where to save it; the ending gives the format (`.png`, `.svg`, `.pdf`). The file
            appears whole or not at all. `None` saves nothing.
        title: Which rows it shows, such as `"360 test rows"`; their number by default.

    Returns:
        The Matplotlib figure.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.scores import diagrams
    >>> figure = diagrams.reliability_diagram([[0.9, 0.1], [0.7, 0.3]], [0, 1])
    >>> len(figure.axes)
    2

    Reference:
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    path, title = _checked(path, title)
    bins = reliability(probabilities, labels, num_bins, weights)
    figure = _figure(5.0, 6.2)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1.0])
    _draw_gaps(top, bins)
    _draw_counts(bottom, bins)
    # Weights need not add up to a whole number.
    rows = title or f"{float(bins.count.sum()):,.10g} examples"
    top.set_title(f"{rows}\nECE {calibration_error(bins):.4f}")
    if path is not None:
        save_figure(figure, path)
    return figure


def risk_coverage_diagram(
    wrong: ArrayLike,
    uncertainty: ArrayLike,
    path: str | os.PathLike | None = None,
    title: str | None = None,
    risk: float | None = None,
    coverage: float | None = None,
) -> "Figure":
    """Picture of `risk_coverage`: how many answers can be given at which risk.

    Args:
        wrong, uncertainty: As in `risk_coverage`.
        path, title: As in `reliability_diagram`.
        risk: A risk that is asked for, drawn as a line; none if None.
        coverage: The share of the rows that are accepted, drawn as a line; none if None.

    Returns:
        The Matplotlib figure.

    Raises:
        ValueError: If the inputs are empty, not finite, out of range or do not fit.

    Example:

    >>> from tfbnn.scores import diagrams
    >>> figure = diagrams.risk_coverage_diagram([True, False], [0.9, 0.1], risk=0.05)
    >>> figure.axes[0].get_ylabel()
    'share of wrong answers among them'
    """
    path, title = _checked(path, title)
    risk = None if risk is None else arguments.share("risk", risk)
    coverage = None if coverage is None else arguments.share("coverage", coverage)
    curve = risk_coverage(wrong, uncertainty)
    figure = _figure(5.0, 4.0)
    axes = figure.subplots()
    axes.plot(curve.coverage, curve.risk, color=_BAR, label="most certain first")
    axes.axhline(curve.risk[-1], color="#9aa5b1", linestyle=":", label="in any order")
    if risk is not None:
        axes.axhline(risk, color=_OVER, linestyle="--", label=f"risk asked for: {risk:g}")
    if coverage is not None:
        axes.axvline(coverage, color=_INK, linewidth=1.0, label=f"accepted: {coverage:.1%}")
    axes.set(xlim=(0, 1.01), xlabel="share of rows that are answered")
    axes.set(ylim=(0, None), ylabel="share of wrong answers among them")
    axes.legend(loc="best", frameon=False)
    axes.set_title(f"{title or f'{len(curve.risk):,} rows'}\narea {curve.area:.4f}")
    _tidy(axes)
    if path is not None:
        save_figure(figure, path)
    return figure


def _checked(path: Any, title: Any) -> tuple[Any, str | None]:
    path = None if path is None else picture_path("path", path)
    return path, None if title is None else arguments.text("title", title)


def _figure(width: float, height: float) -> "Figure":
    # Here and not above: scores are needed where nothing is drawn.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


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
