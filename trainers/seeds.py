"""Train with several seeds, and say how far the numbers can be trusted.

    python -m trainers.seeds --seeds 0 1 2
    python -m trainers.seeds --dataset mnist --seeds 0 1 2 --json seeds.json

Runs `trainers.classification` once for each seed, into saved_models/<name>-<seed>/, and prints for
each sparsity the mean test error with its standard error, and the paired difference to the unpruned
model of the same seed. A seed whose run is there already is not run again: start the same command
again after an interruption.
"""

import dataclasses
import pathlib
from typing import Any

from trainers import classification, command, runs
from trainers.means import mean_and_error
from trainers.settings import BY_DATASET, Settings, check, check_seeds, option


@dataclasses.dataclass(frozen=True)
class SeedSettings(Settings):
    """Settings of `trainers.classification`, and the seeds in place of one.

    Raises:
        ValueError: If a value is out of its range.
    """

    seed: int = option(0, None)
    name: str | None = option(None, "start of the names of the runs; else <dataset>-seed")
    json: str | None = option(None, "file for the summary; else <output>/<name>.json")
    seeds: tuple[int, ...] = option((0, 1, 2), "seeds to run")
    export: bool = option(False, "write and run the SavedModel and the .tflite files")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seeds(self, "seeds")
        # A run that counts twice would make the standard error smaller than it is.
        different = len(set(self.seeds)) == len(self.seeds) > 0
        check(self, "seeds", different, "one or more, all different")


def main(settings: SeedSettings) -> dict[str, Any]:
    """Run every seed that has no results yet.

    Args:
        settings: See `SeedSettings`.

    Returns:
        The summary, which is also written as JSON: `runs`, and `rows`, one for each sparsity.
    """
    name = settings.name or f"{settings.dataset}-seed"
    path = pathlib.Path(settings.json or pathlib.Path(settings.output) / f"{name}.json")
    if settings.json is not None:
        runs.check_writable(path)
    names = [f"{name}-{seed}" for seed in settings.seeds]
    pairs = zip(names, settings.seeds, strict=True)
    results = [_metrics(_one(settings, run, seed)) for run, seed in pairs]
    summary = {"runs": names, "rows": summarise([result["table"] for result in results])}
    runs.write_json(summary, path)
    print(f"\n{_as_text(summary['rows'], len(names))}\nWritten to {path}")
    return summary


def summarise(tables: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Means over seeds, at each sparsity.

    Args:
        tables: The table of each run, rows in the same order, the unpruned model first.

    Returns:
        For each sparsity `errors` (one for each run), and `error`, `difference` (to the unpruned
        model of the same run), `nll` and `ece`, each as `(mean, standard error)`; the standard
        error is None with one run.

    Example:

    >>> scores = {"nll": 0.1, "ece": 0.01}
    >>> run = [{"sparsity": s, "error": e, **scores} for s, e in [(0, 0.02), (0.9, 0.03)]]
    >>> [round(row["difference"][0], 3) for row in summarise([run, run])]
    [0.0, 0.01]
    """
    rows = []
    for same in zip(*tables, strict=True):
        errors = [row["error"] for row in same]
        differences = [e - table[0]["error"] for e, table in zip(errors, tables, strict=True)]
        row = {"sparsity": same[0]["sparsity"], "errors": errors}
        row |= {"error": mean_and_error(errors), "difference": mean_and_error(differences)}
        row |= {score: mean_and_error([other[score] for other in same]) for score in ("nll", "ece")}
        rows.append(row)
    return rows


def _one(settings: SeedSettings, name: str, seed: int) -> Settings:
    """The settings of one run."""
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(Settings)}
    return Settings(**{**values, "name": name, "seed": seed, "json": None})


def _metrics(one: Settings) -> dict[str, Any]:
    """The results of a run, from its folder if it is there."""
    path = pathlib.Path(one.output) / str(one.name) / runs.METRICS
    if not path.exists():
        return classification.main(one)
    metrics = runs.read_json(path)
    places = (*runs.PLACES, "seed")
    runs.refuse_other_settings(path.parent, metrics["settings"], one.effective(), places)
    print(f"{path.parent}: there already")
    return metrics


def _as_text(rows: list[dict[str, Any]], num_runs: int) -> str:
    lines = [
        f"{num_runs} seeds; test error and its change by pruning, mean and standard error in %"
    ]
    for row in rows:
        error, change = (_percent(row[name]) for name in ("error", "difference"))
        nll = f"NLL {row['nll'][0]:.4f}  ECE {100 * row['ece'][0]:.2f} %"
        lines.append(f"sparsity {100 * row['sparsity']:5.4g} %  {error}  change {change}  {nll}")
    return "\n".join(lines)


def _percent(pair: tuple[float, float | None]) -> str:
    mean, spread = pair
    return f"{100 * mean:6.3f}" + ("" if spread is None else f" +- {100 * spread:.3f}")


if __name__ == "__main__":
    recipes = {
        key: SeedSettings(**{**vars(recipe), "export": False}) for key, recipe in BY_DATASET.items()
    }
    command.run(main, recipes, __doc__)
