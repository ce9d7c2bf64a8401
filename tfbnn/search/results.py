"""Results of a search: its trials as a table, the best model, and a picture."""

import math
import os
import re
from collections.abc import Sequence
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import TrialStatus
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfbnn import arguments
from tfbnn.whole_files import picture_path, save_figure

Row = dict[str, Any]

# Told apart by red-green blind readers (Wong 2011).
_POINT, _BEST, _FAILED, _GRID = "#0072b2", "#d55e00", "#777777", "#dddddd"
_COLUMNS = 4
# So many different numbers get a tick each; more share about as many.
_FEW = 4


def trials(tuner: keras_tuner.Tuner) -> list[Row]:
    """The trials of a search, in the order in which they were started.

    Args:
        tuner: A tuner of this process, or the chief's; not a worker's.

    Returns:
        For each trial `trial` (its name), `status`, `score` (None unless it is `"COMPLETED"`),
        `hyperparameters`, `scores` (all that the objective gave, and `seconds`) and `message` (of a
        failed trial, its last line).
    """
    arguments.instance("tuner", tuner, keras_tuner.Tuner, "a tuner, such as `open_tuner` gives")
    oracle = tuner.oracle
    return [_row(oracle.trials[name]) for name in oracle.start_order]


def best(tuner: keras_tuner.Tuner) -> tuple[Row, Any]:
    """The best trial, as a row of `trials`, and its trained model.

    Raises:
        ValueError: If no trial was completed.
    """
    rows = trials(tuner)
    completed = [row for row in rows if row["score"] is not None]
    if not completed:
        messages = {row["message"] for row in rows if row["message"]}
        raise ValueError(
            "No trial was completed, so none is best: widen or move the space. "
            f"Received: {len(rows)} trials, {'; '.join(sorted(messages)) or 'none failed'}"
        )
    row = min(completed, key=lambda row: row["score"])
    return row, tuner.load_model(tuner.oracle.get_trial(row["trial"]))


def plot(
    rows: list[Row],
    path: str | os.PathLike | None = None,
    label: str = "score",
    reference: tuple[str, float] | None = None,
) -> Figure:
    """A picture of a search: score by trial with the best so far, and by each hyperparameter.

    Failed trials, and those over the budget of `Bytes`, are crosses at the top.

    Args:
        rows: What `trials` gave.
        path: Where to save it, if given.
        label: What the score is, with its unit.
        reference: Name and score of something to compare with.

    Returns:
        The figure. Hyperparameters that never changed are left out.
    """
    path = None if path is None else picture_path("path", path)
    label, rows = arguments.text("label", label), arguments.listed("rows", rows, _checked_row)
    reference = None if reference is None else _checked_reference(reference)
    completed = [row for row in rows if _outcome(row) == "trial"]
    names = [name for name in _names(completed) if len(_seen(completed, name)) > 1]
    height = math.ceil(len(names) / _COLUMNS)
    figure = Figure(figsize=(11, 3.4 + 2.1 * height), layout="constrained")
    top, *below = figure.subfigures(
        1 + (height > 0), 1, squeeze=False, height_ratios=[3.4, 2.1 * height][: 1 + (height > 0)]
    ).ravel()
    scores = [row["score"] for row in completed]
    axes = top.subplots()
    _draw_progress(axes, rows, reference)
    axes.set(ylabel=label, xlabel="trial")
    if _is_logarithmic(scores):
        _set_logarithmic(axes, "y", [*scores, *([reference[1]] if reference else [])])
    if below:
        panels = below[0].subplots(height, _COLUMNS, sharey=True, squeeze=False).ravel()
        for panel, name in zip(panels, names, strict=False):
            _draw_hyperparameter(panel, completed, name)
        if _is_logarithmic(scores):
            _set_logarithmic(panels[0], "y", scores)
        for panel in panels[len(names) :]:
            panel.set_visible(False)
        below[0].supylabel(label, fontsize=10)
    if path is not None:
        save_figure(figure, path, dpi=150)
    return figure


def _row(trial: Any) -> Row:
    completed = trial.status == TrialStatus.COMPLETED
    lines = (trial.message or "").strip().splitlines()
    metrics = trial.metrics.metrics
    return {
        "trial": trial.trial_id,
        "status": trial.status,
        "score": float(trial.score) if completed else None,
        "hyperparameters": dict(trial.hyperparameters.values),
        "scores": {name: float(metrics[name].get_best_value()) for name in metrics},
        "message": lines[-1] if lines else None,
    }


def _checked_row(name: str, row: Any) -> Row:
    if not isinstance(row, dict) or not {"score", "scores", "hyperparameters"} <= set(row):
        raise ValueError(f"`{name}` must be a row of `trials`. Received: {name}={row!r}")
    return row


def _checked_reference(reference: Any) -> tuple[str, float]:
    if not isinstance(reference, tuple | list) or len(reference) != 2:
        raise ValueError(
            f"`reference` must be a name and a score. Received: reference={reference!r}"
        )
    name, score = reference
    return arguments.text("reference[0]", name), arguments.real_number("reference[1]", score)


def _outcome(row: Row) -> str:
    """`"trial"` for one with a score to compare, or why it has none; a legend's words."""
    if row["scores"].get("feasible") == 0:
        return "over budget"
    return "failed" if row["score"] is None else "trial"


def _names(rows: list[Row]) -> list[str]:
    """Hyperparameters in order, without keras-tuner's own, such as the bracket of Hyperband."""
    names = dict.fromkeys(name for row in rows for name in row["hyperparameters"])
    return [name for name in names if not name.startswith("tuner/") or name == "tuner/epochs"]


def _seen(rows: list[Row], name: str) -> set[Any]:
    values = (row["hyperparameters"].get(name) for row in rows)
    return {value for value in values if value is not None}


def _draw_progress(axes: Axes, rows: list[Row], reference: tuple[str, float] | None) -> None:
    done = [(n, row["score"]) for n, row in enumerate(rows, 1) if _outcome(row) == "trial"]
    if done:
        x, y = zip(*done, strict=True)
        axes.plot(x, y, "o", color=_POINT, label="trial")
        smallest = [min(y[: i + 1]) for i in range(len(y))]
        axes.step(x, smallest, where="post", color=_BEST, label="best so far")
    top = axes.get_xaxis_transform()
    for outcome, marker in (("failed", "x"), ("over budget", "+")):
        where = [n for n, row in enumerate(rows, 1) if _outcome(row) == outcome]
        if where:
            heights = [0.97] * len(where)
            axes.plot(where, heights, marker, color=_FAILED, transform=top, label=outcome)
    if reference is not None:
        axes.axhline(reference[1], linestyle="--", color=_FAILED, label=reference[0])
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.lines:
        axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    _clean(axes)


def _draw_hyperparameter(axes: Axes, rows: list[Row], name: str) -> None:
    points = [(row["hyperparameters"].get(name), row["score"]) for row in rows]
    points = [(value, score) for value, score in points if value is not None]
    values, scores = zip(*points, strict=True)
    if any(isinstance(value, str) for value in values):
        known = sorted(set(values))
        axes.plot([known.index(value) for value in values], scores, "o", color=_POINT, markersize=4)
        axes.set_xticks(range(len(known)), map(_on_lines, known))
        axes.set_xlim(-0.5, len(known) - 0.5)
    else:
        axes.plot(values, scores, "o", color=_POINT, markersize=4)
        if _is_logarithmic(list(values)):
            _set_logarithmic(axes, "x", values)
        elif len(set(values)) <= _FEW:
            axes.set_xticks(sorted(set(values)), map(_in_short, sorted(set(values))))
        else:
            axes.locator_params(axis="x", nbins=_FEW)
    best_row = min(rows, key=lambda row: row["score"])
    if name in best_row["hyperparameters"]:
        value = best_row["hyperparameters"][name]
        place = known.index(value) if isinstance(value, str) else value
        axes.plot(place, best_row["score"], "o", color=_BEST, markersize=6)
    axes.set_title(name, fontsize=10)
    axes.tick_params(labelsize=7)
    _clean(axes)


def _is_logarithmic(values: list[float]) -> bool:
    """Whether numbers spread over more than a factor of five."""
    return bool(values) and min(values) > 0 and max(values) > 5 * min(values)


def _set_logarithmic(axes: Axes, which: str, values: Sequence[float]) -> None:
    """A logarithmic axis with five ticks, at numbers with two digits."""
    low, high = min(values), max(values)
    ticks = [float(f"{low * (high / low) ** (step / 4):.1e}") for step in range(5)]
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(ticks, map(_in_short, ticks))
    axis.set_ticks([], minor=True)


def _in_short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _on_lines(name: str) -> str:
    """`LocalReparameterization` and `scale_mixture` on two lines each."""
    return re.sub(r"_|(?<=[a-z])(?=[A-Z])", "\n", name)


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID, linewidth=0.6)
