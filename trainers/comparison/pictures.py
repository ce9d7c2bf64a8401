"""Pictures of a comparison: its scores, and answers over the plane."""

import math
import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

import tfbnn
from tfbnn.whole_files import save_figure
from trainers import means
from trainers.comparison.page import Summary, column
from trainers.comparison.tasks import load

# Told apart by red-green blind readers (Wong 2011).
_CLASSES = "#0072b2", "#d55e00"
_DOT = "#222222"
_IN_A_ROW = 4
_LEFT_OUT = ("brier", "memory_bytes")
_PLANE, _GRID = 4.5, 91


def draw_scores(summary: Summary, path: pathlib.Path, title: str) -> None:
    """A panel for each score, with a line for each route: mean and standard error over seeds."""
    names = [name for name in next(iter(summary.values())) if name not in _LEFT_OUT]
    count = math.ceil(len(names) / _IN_A_ROW)
    height = 0.9 + 0.26 * len(summary)
    figure = Figure(figsize=(12, 0.5 + count * height), layout="constrained")
    figure.suptitle(f"{title}: mean and standard error")
    panels = figure.subplots(count, _IN_A_ROW, squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        _draw_score(axes, summary, name)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    save_figure(figure, path, dpi=150)


def _draw_score(axes: Axes, summary: Summary, name: str) -> None:
    shown = column(name)
    for place, scores in enumerate(summary.values()):
        values = [value * shown.factor for value in scores[name] if value is not None]
        if values:
            mean, error = means.mean_and_error(values)
            axes.errorbar(mean, place, xerr=error, fmt="o", color=_DOT, markersize=4, capsize=2)
    axes.set_yticks(range(len(summary)), [route.replace("_", " ") for route in summary])
    axes.set_ylim(len(summary) - 0.5, -0.5)
    axes.set_title(f"{shown.title} ({'higher' if shown.highest else 'lower'} is better)", size=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if shown.relative:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())


def draw_plane(posteriors: dict[str, pathlib.Path], settings: Any, path: pathlib.Path) -> None:
    """The predictive entropy of each posterior over the plane, with the training rows.

    Args:
        posteriors: Files of posteriors by route.
        settings: Of the comparison.
        path: The picture.
    """
    x, y = load(settings.dataset, smoke=settings.smoke).train
    line = np.linspace(-_PLANE, _PLANE, _GRID, dtype="float32")
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    # As few empty places as possible.
    columns = min(range(_IN_A_ROW, 1, -1), key=lambda columns: -len(posteriors) % columns)
    columns = min(columns, len(posteriors))
    count = math.ceil(len(posteriors) / columns)
    figure = Figure(figsize=(2.9 * columns + 0.9, 3.0 * count), layout="constrained")
    panels = figure.subplots(count, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (route, file) in zip(panels, posteriors.items(), strict=False):
        posterior = tfbnn.load_posterior(file)
        answers = tfbnn.predict(posterior, points, settings.num_samples, seed=0, verbose=0)
        entropy = answers.uncertainty.reshape(_GRID, _GRID)
        shades = axes.pcolormesh(
            line, line, entropy, vmin=0, vmax=math.log(2), cmap="Greys", shading="gouraud"
        )
        says_one = answers.prediction[:, 1].reshape(_GRID, _GRID)
        axes.contour(line, line, says_one, [0.5], colors="#009e73", linewidths=1.2)
        for label, colour in enumerate(_CLASSES):
            axes.scatter(*x[y == label].T, s=6, color=colour, edgecolors="white", linewidths=0.2)
        axes.set_title(route.replace("_", " "), size=10)
        axes.set(xticks=[], yticks=[], aspect="equal")
    for axes in panels[len(posteriors) :]:
        axes.set_axis_off()
    figure.colorbar(shades, ax=panels.tolist(), label="predictive entropy, nats", shrink=0.8)
    save_figure(figure, path, dpi=90)
