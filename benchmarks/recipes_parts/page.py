"""Tables of the study's results, and the page that holds them."""

import pathlib
from typing import Any

from benchmarks import measuring
from tfbnn.training import convergence
from trainers import means

Runs = list[dict[str, float]]

_COMMAND = "python benchmarks/recipes.py --steps 0 20000 --page docs/recipes.md"
MARK = f"<!-- What follows is printed: `{_COMMAND}` -->"

_PRUNED = {"error at 90 %": "90 % removed", "error at 95 %": "95 % removed"}
_REAL = {
    "nll": "NLL",
    "error": "RMSE",
    "cover 0.5": "in 50 %",
    "cover 0.9": "in 90 %",
    "cover 0.95": "in 95 %",
    **_PRUNED,
}
COLUMNS = {
    "digits": {
        "nll": "NLL",
        "ece": "ECE",
        "error": "error",
        "auroc own errors": "own errors",
        "auroc letters predictive_entropy": "letters",
        "auroc left-out classes predictive_entropy": "left-out classes",
        **_PRUNED,
    },
    "ecg5000": {
        "nll": "NLL",
        "ece": "ECE",
        "error": "error",
        "auroc own errors": "own errors",
        "auroc shuffled predictive_entropy": "shuffled",
        "auroc shuffled mutual_information": "shuffled, by information",
        **_PRUNED,
    },
    "concrete": _REAL,
    "energy": _REAL,
    "wine-quality-red": _REAL,
    "gap": {
        "band ratio": "band, gap over data",
        "truth in band": "truth within the 95 % band",
        "band": "band in the gap",
        "error": "RMSE at the data",
        "noise": "noise (0.1)",
    },
}
"""By task, the columns of its table: the name of a score, and what it is called."""


def table(task: str, rows: dict[str, Runs]) -> str:
    """Means over seeds of each contender, with standard errors."""
    columns = COLUMNS[task]
    lines = [
        [
            contender,
            *(_cell([run[name] for run in runs if name in run]) for name in columns),
            _warned(runs),
        ]
        for contender, runs in rows.items()
        if runs
    ]
    return measuring.table(["", *columns.values(), "warned of sigma"], lines)


def replace_tables(page: pathlib.Path, tables: dict[str, str], mark: str = MARK) -> None:
    """Write the tables into a page, in the place of all that follows the mark."""
    head, found, _ = page.read_text().partition(mark)
    if not found:
        raise ValueError(f"The page must have this line: {mark}. Received: page={page}")
    parts = [f"## {task}\n\n{text}\n" for task, text in tables.items()]
    page.write_text(head + mark + "\n\n" + "\n".join(parts))


def _warned(runs: Runs) -> str:
    """In how many runs `fit` says that sigma has not trained."""
    pulls = [(run["pull"], run["pull error"]) for run in runs if "pull" in run]
    warned = [convergence.has_not_trained(*pull) for pull in pulls]
    return f"{sum(warned)} of {len(warned)}" if warned else ""


def _cell(values: list[Any]) -> str:
    return means.in_words(values, 3) if values else ""
