"""Shipping: exported files, and what they measure on the machine they were made on."""

import pathlib
import statistics
import time
from typing import Any

import numpy as np

import tfbnn
from tfbnn.export.modes import MODES
from tfbnn.likelihoods.class_results import ClassEvaluation
from tfbnn.pruning import masks
from tfbnn.scores import class_scores
from trainers.data import Dataset, Part
from trainers.settings import Settings

_CHECK_ROWS = 128
# The median of so many calls moves by a few per cent from run to run on a busy machine.
_LATENCY_CALLS = 300

Row = dict[str, Any]


def table_row(
    model: tfbnn.Sequential,
    evaluation: ClassEvaluation,
    sparsity: float,
    dataset: Dataset,
    settings: Settings,
    path: pathlib.Path,
) -> Row:
    """A row of the table.

    Args:
        model: A pruned model.
        evaluation: What it scores on the test rows.
        sparsity: Share of its kernel weights that was removed.
        dataset: The data set.
        settings: The settings of the run.
        path: Where its `.tflite` goes.

    Returns:
        `sparsity`, `weights`, `error`, `nll`, `ece`, `bytes`, `gzip_bytes` and `latency_us`; the
        last three are None without `settings.export`.
    """
    row: Row = {
        "sparsity": sparsity,
        "weights": masks.num_weights(model),
        **{name: getattr(evaluation, name) for name in ("error", "nll", "ece")},
        **dict.fromkeys(("bytes", "gzip_bytes", "latency_us")),
    }
    if settings.export:
        manifest = tfbnn.export.tflite(
            model,
            path,
            _mode(settings),
            tfbnn.export.Storage(settings.precision, standard_deviations=settings.scale),
            **_facts(dataset),
        )
        row |= {name: manifest[name] for name in ("bytes", "gzip_bytes")}
        row["latency_us"] = latency_us(tfbnn.lite.Model(path), dataset.test[0][:1])
    return row


def export_saved_model(
    model: tfbnn.Sequential, path: pathlib.Path, dataset: Dataset, settings: Settings
) -> None:
    """Write the SavedModel, with its manifest."""
    mode = tfbnn.export.MonteCarlo(settings.num_samples_in_file)
    tfbnn.export.saved_model(model, path, mode, **_facts(dataset))


def scores_of_file(path: pathlib.Path, part: Part) -> Row:
    """What a `.tflite` scores, run by LiteRT alone: `rows`, `error`, `nll`, `ece`."""
    x, labels = part
    probabilities, _ = tfbnn.lite.Model(path).predict(x)
    return {
        "rows": len(labels),
        "error": class_scores.error(probabilities, labels),
        "nll": class_scores.negative_log_likelihood(probabilities, labels),
        "ece": class_scores.expected_calibration_error(probabilities, labels),
    }


def latency_us(model: tfbnn.lite.Model, row: np.ndarray, calls: int = _LATENCY_CALLS) -> float:
    """Median time of a prediction with its uncertainty for one row, one thread, microseconds."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        model.predict(row)
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def _facts(dataset: Dataset) -> dict[str, Any]:
    return {
        "check_data": dataset.validation[0][:_CHECK_ROWS],
        "class_names": dataset.class_names,
        "inputs": tfbnn.export.Inputs(preprocessing=dataset.preprocessing),
    }


def _mode(settings: Settings) -> Any:
    """How a file is uncertain: one that draws has the number of networks of the settings."""
    mode = MODES[settings.uncertainty]
    draws = "num_samples" in mode.__dataclass_fields__
    return mode(settings.num_samples_in_file) if draws else mode()
