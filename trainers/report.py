"""Reports: the tables of a run and of a search, and a picture of what a model is sure of."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfbnn.likelihoods.class_results import ClassEvaluation
from tfbnn.scores import class_uncertainty
from tfbnn.whole_files import save_figure

_COLUMNS = {
    "sparsity": ("sparsity", "{:.4g} %", 100.0),
    "weights": ("weights left", "{:,}", 1),
    "error": ("error", "{:.2f} %", 100.0),
    "nll": ("NLL", "{:.4f}", 1.0),
    "ece": ("ECE", "{:.2f} %", 100.0),
    "bytes": ("bytes", "{:,}", 1),
    "gzip_bytes": ("gzipped", "{:,}", 1),
    "latency_us": ("latency", "{:.0f} us", 1.0),
}
_TRIAL_SCORES = {
    "deployment_bytes": ("gzipped", "{:,.0f}", 1),
    "sparsity": _COLUMNS["sparsity"],
    "validation_nll": _COLUMNS["nll"],
    "validation_error": _COLUMNS["error"],
    "validation_ece": _COLUMNS["ece"],
    "seconds": ("seconds", "{:.0f}", 1),
}
_SHOWN = 10
# Told apart by red-green blind readers (Wong 2011).
_RIGHT, _WRONG = "#0072b2", "#d55e00"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, a line each, under a header."""
    lines = [[title for title, _, _ in _COLUMNS.values()]]
    for row in rows:
        lines.append([_cell(row[name], *_COLUMNS[name][1:]) for name in _COLUMNS])
    return _aligned(lines)


def trials_table(rows: list[dict[str, Any]], best: str) -> str:
    """The trials of a search as text, a line each, under a header; failed ones say why below.

    Hyperparameters that are the same in all trials are left out. The arguments of the prior are in
    one column with it.

    Args:
        rows: As `tfbnn.search.trials` gives them.
        best: The trial to mark.
    """
    given = {name for row in rows for name in row["scores"]}
    scores = [name for name in _TRIAL_SCORES if name in given]
    names = dict.fromkeys(name for row in rows for name in row["hyperparameters"])
    priors = {row["hyperparameters"]["prior"] for row in rows}
    arguments = {name for name in names if name.startswith(tuple(f"{p}_" for p in priors))}
    laws = [{**row["hyperparameters"], "prior": _prior(row["hyperparameters"])} for row in rows]
    shown = [name for name in names if name not in arguments and _varies(laws, name)]
    lines = [["", "trial", "status", *(_TRIAL_SCORES[name][0] for name in scores), *shown]]
    for row, law in zip(rows, laws, strict=True):
        cells = [_trial_cell(row["scores"], name) for name in scores]
        cells += [_short(law.get(name)) for name in shown]
        mark = "*" if row["trial"] == best else ""
        lines.append([mark, row["trial"], row["status"].lower(), *cells])
    failed = [f"trial {row['trial']}: {row['message']}" for row in rows if row["message"]]
    return "\n".join([_aligned(lines), *failed])


def _varies(hyperparameters: list[dict[str, Any]], name: str) -> bool:
    # keras-tuner's own, such as the bracket of Hyperband, are of no use here but for the epochs.
    known = not name.startswith("tuner/") or name == "tuner/epochs"
    return known and len({values.get(name) for values in hyperparameters}) > 1


def _prior(hyperparameters: dict[str, Any]) -> str:
    """`scale_mixture 0.5 1 0.0067`: the prior and its arguments in order."""
    name = hyperparameters["prior"]
    arguments = [v for key, v in hyperparameters.items() if key.startswith(f"{name}_")]
    return " ".join([name, *(f"{value:.2g}" for value in arguments)])


def _trial_cell(scores: dict[str, float], name: str) -> str:
    if name == "deployment_bytes" and scores.get("feasible") == 0:
        return "over budget"
    return _cell(scores.get(name), *_TRIAL_SCORES[name][1:])


def _short(value: Any) -> str:
    """A number with four digits, a name as it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _aligned(lines: list[list[str]]) -> str:
    """Lines of cells in columns, the first line a header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def scores(row: dict[str, Any], part: str = "test") -> str:
    """The scores of one row, on a part of the data, as a sentence."""
    parts = [
        f"{title} {_cell(row[name], form, factor)}"
        for name, (title, form, factor) in _COLUMNS.items()
        if name in ("error", "nll", "ece")
    ]
    return f"{row['rows']:,} {part} rows: " + ", ".join(parts)


def _cell(value: Any, form: str, factor: float) -> str:
    return "-" if value is None else form.format(value * factor)


def draw_extremes(
    evaluation: ClassEvaluation,
    images: np.ndarray,
    class_names: list[str],
    path: pathlib.Path,
    of: str,
) -> None:
    """A picture of the rows the model is surest of and least sure of, with what it says of them.

    Args:
        evaluation: What the model says about the images.
        images: Images `(rows, height, width, channels)`, of 1 channel or of 3 from 0 to 1.
        class_names: Names of the labels.
        path: The `.png` to write.
        of: Which rows the images are.
    """
    probabilities, labels = evaluation.probabilities, evaluation.labels
    entropy = class_uncertainty.entropy(probabilities)
    order = np.argsort(entropy, kind="stable")
    shown = min(_SHOWN, len(order))
    rows = {"most": order[:shown], "least": order[::-1][:shown]}
    figure = Figure(figsize=(1.15 * shown + 0.4, 3.8), layout="constrained")
    for panel, (title, chosen) in zip(figure.subfigures(2, 1), rows.items(), strict=True):
        heading = f"{title} certain of {of}: prediction (its probability), entropy"
        panel.suptitle(heading, fontsize=10)
        for axes, row in zip(panel.subplots(1, shown, squeeze=False)[0], chosen, strict=True):
            # The colours of the map are for one channel; three are colours themselves.
            axes.imshow(images[row].squeeze(-1) if images.shape[-1] == 1 else images[row], "gray_r")
            axes.set(xticks=[], yticks=[])
            said = int(probabilities[row].argmax())
            wrong = said != labels[row]
            text = f"{class_names[said]} ({probabilities[row, said]:.2f})"
            text += f"\nis {class_names[labels[row]]}" if wrong else ""
            text += f"\n{entropy[row]:.3f} nats"
            axes.set_xlabel(text, fontsize=8, color=_WRONG if wrong else _RIGHT)
            for spine in axes.spines.values():
                spine.set(color=_WRONG if wrong else "#bbbbbb", linewidth=2 if wrong else 1)
    save_figure(figure, path, dpi=150)
