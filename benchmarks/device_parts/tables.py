"""Tables: means over seeds, as JSON rows and as Markdown."""

from typing import Any

import measuring
import numpy as np

_SCORES = (
    "error",
    "nll",
    "ece",
    "auroc_letters",
    "auroc_letters_information",
    "auroc_errors",
    "auroc_errors_information",
)
_BYTES = ("bytes", "gzip_bytes", "scratch_bytes", "stack_bytes")


def summary(runs: list[dict[str, Any]], costs: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """One row for each file, and for Keras at the posterior mean and over draws.

    Args:
        runs: The results of each seed, by name.
        costs: Latency and memory of the files of the first seed.

    Returns:
        Rows with means over the seeds; `excess` is the mean, over seeds, of the error above that of
        the unpruned posterior mean, in points.
    """
    rows = []
    for name, first in runs[0].items():
        seeds = [run[name] for run in runs]
        row = {"name": name, "sizes": first.get("sizes")}
        row |= {key: float(np.mean([s[key] for s in seeds])) for key in _SCORES}
        row |= {key: int(np.mean([s[key] for s in seeds])) for key in _BYTES if first.get(key)}
        above = [
            s["error"] - run["posterior mean"]["error"] for s, run in zip(seeds, runs, strict=True)
        ]
        row["excess"] = 100 * float(np.mean(above))
        row["excesses"] = [100 * float(a) for a in above]
        changed = first["entropy"]
        row["entropy"] = {k: float(np.mean([s["entropy"][k] for s in seeds])) for k in changed}
        row["tensors"] = first.get("memory")
        rows.append(row | costs.get(name, {}))
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Two tables: what the files cost with what they are worth, and the entropy of odd inputs."""
    header = ["file", "units", "kB", "gzip", "latency", "memory kB", "error %", "above mean"]
    header += ["NLL", "ECE %", "AUROC letters", "by MI", "AUROC errors"]
    lines = [
        [
            row["name"],
            row["sizes"],
            _thousands(row.get("bytes")),
            _thousands(row.get("gzip_bytes")),
            row.get("latency") and f"{row['latency']:.3f}",
            _thousands(row.get("peak_memory") or row.get("scratch_bytes")),
            100 * row["error"],
            f"{row['excess']:+.2f}",
            f"{row['nll']:.4f}",
            100 * row["ece"],
            f"{row['auroc_letters']:.3f}",
            f"{row['auroc_letters_information']:.3f}",
            f"{row['auroc_errors']:.3f}",
        ]
        for row in rows
    ]
    sets = list(rows[0]["entropy"])
    entropies = [[row["name"], *(row["entropy"][s] for s in sets)] for row in rows]
    return (
        measuring.table(header, lines)
        + "\n\nMean entropy in nats:\n\n"
        + measuring.table(["file", *sets], entropies)
    )


def _thousands(number: float | None) -> str | None:
    return None if number is None else f"{number / 1000:,.0f}"
