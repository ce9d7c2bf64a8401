"""The table of a comparison, as Markdown."""

import dataclasses
from typing import Any

import numpy as np

from trainers import means

BASELINE = "deterministic"
UNSEEN = "unseen: "

Summary = dict[str, dict[str, list[float | None]]]


@dataclasses.dataclass(frozen=True)
class Column:
    """How a score is shown.

    Attributes:
        title: Its name and unit.
        digits: After the point.
        factor: From the score to its unit.
        highest: Whether a higher one is better.
        relative: Whether it is shown beside its ratio to the baseline.
    """

    title: str
    digits: int
    factor: float = 1.0
    highest: bool = False
    relative: bool = False


COLUMNS = {
    "error": Column("error, %", 2, 100),
    "nll": Column("NLL, nats", 3),
    "brier": Column("Brier score", 3),
    "ece": Column("ECE, %", 2, 100),
    "risk_coverage": Column("risk-coverage, %", 2, 100),
    "own_errors": Column("AUROC, own errors", 3, highest=True),
    "training_seconds": Column("training, CPU s", 1, relative=True),
    "prediction_seconds": Column("prediction, CPU s", 3, relative=True),
    "memory_bytes": Column("peak memory, MB", 0, 1e-6),
    "bytes": Column("file, kB", 0, 1e-3),
}
"""Columns by score; those of unseen inputs stand before what a route costs."""

_FIRST_OF_COSTS = "training_seconds"


def column(name: str) -> Column:
    """The column of a score."""
    if name.startswith(UNSEEN):
        return Column(f"AUROC, {name.removeprefix(UNSEEN)}", 3, highest=True)
    return COLUMNS[name]


def summary(results: dict[str, list[dict[str, Any]]]) -> Summary:
    """The values of each score over seeds, by route and score.

    Args:
        results: The metrics of each run, by route, in the order of the seeds.
    """
    found: Summary = {}
    for route, metrics in results.items():
        flat = [_flat(one) for one in metrics]
        found[route] = {name: [one[name] for one in flat] for name in flat[0]}
    return found


def table(summary: Summary) -> str:
    """Means over seeds with their standard errors, a row for each route."""
    names = list(next(iter(summary.values())))
    lines = [["route", *(column(name).title for name in names)]]
    lines += [
        [route.replace("_", " "), *(_cell(summary, route, name) for name in names)]
        for route in summary
    ]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _flat(metrics: dict[str, Any]) -> dict[str, float | None]:
    given = {**metrics["scores"], **metrics}
    unseen = {f"{UNSEEN}{name}": value for name, value in metrics["scores"]["unseen"].items()}
    flat: dict[str, float | None] = {}
    for name in COLUMNS:
        if name == _FIRST_OF_COSTS:
            flat |= unseen
        flat[name] = given[name]
    return flat


def _cell(summary: Summary, route: str, name: str) -> str:
    # A network that makes no mistake has none to tell.
    values = [value for value in summary[route][name] if value is not None]
    if not values:
        return "-"
    shown = column(name)
    text = means.in_words([value * shown.factor for value in values], shown.digits)
    if shown.relative and BASELINE in summary:
        ratio = np.mean(values) / np.mean(summary[BASELINE][name])
        text += f" ({ratio:.1f} x)"
    return text
