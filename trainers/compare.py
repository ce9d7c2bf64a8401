"""Compare every inference route on the same data, with the same budget of training steps.

    python -m trainers.compare                                    # digits, three seeds
    python -m trainers.compare --dataset moons --seeds 0 1 2 3 4  # with answers over the plane
    python -m trainers.compare --dataset mnist --data-dir ~/tensorflow_datasets
    python -m trainers.compare --routes deterministic swag --seeds 0

Trains each route for each seed, in a process of its own, into saved_models/<name>/<route>-<seed>/,
and prints one table of means with their standard errors over seeds: error, NLL, Brier score and
calibration error on the test rows; how well the predictive entropy tells wrong answers and unseen
inputs; what training and prediction took, in units of the deterministic network's; memory and
bytes. Beside the runs are table.md, table.json, scores.png and, of moons, plane.png. A run that is
there already is not run again: start the same command again after an interruption, with more seeds
or with other routes.
"""

import pathlib
from typing import Any

from trainers import command, runs
from trainers.comparison import measuring, page, pictures
from trainers.comparison.settings import BY_DATASET, CompareSettings

# What may differ between runs of one comparison, beside the settings of other routes.
_MAY_DIFFER = (*runs.PLACES, "letters", "routes", "seeds")


def main(settings: CompareSettings) -> dict[str, Any]:
    """Run what has no results yet, and summarise all that was asked for.

    Args:
        settings: See `trainers.comparison.settings`.

    Returns:
        What `table.json` holds: for each route the values of each column, one for each seed.
    """
    settings = settings.effective()
    folder = pathlib.Path(settings.output) / (settings.name or f"{settings.dataset}-compare")
    results = {
        route: [_metrics(settings, folder, route, seed) for seed in settings.seeds]
        for route in settings.routes
    }
    summary = page.summary(results)
    table = page.table(summary)
    runs.write_json(summary, folder / "table.json")
    (folder / "table.md").write_text(table + "\n")
    pictures.draw_scores(summary, folder / "scores.png", _title(settings))
    if settings.dataset == "moons":
        first = {r: folder / f"{r}-{settings.seeds[0]}" / measuring.FILE for r in settings.routes}
        pictures.draw_plane(first, settings, folder / "plane.png")
    print(f"\n{_title(settings)}\n\n{table}\n")
    runs.print_contents(folder)
    return summary


def _metrics(
    settings: CompareSettings, folder: pathlib.Path, route: str, seed: int
) -> dict[str, Any]:
    """The results of a run, from its folder if it is there."""
    path = folder / f"{route}-{seed}"
    if path.exists():
        print(f"{path}: there already", flush=True)
    else:
        print(f"{path}: running", flush=True)
        measuring.measured_apart(settings, route, seed, path)
    metrics = runs.read_json(path / runs.METRICS)
    runs.refuse_other_settings(
        path, metrics["settings"], settings, (*_MAY_DIFFER, *settings.of_others(route))
    )
    return metrics


def _title(settings: CompareSettings) -> str:
    count = len(settings.seeds)
    return (
        f"{settings.dataset}, {settings.epochs} epochs, {settings.num_samples} networks drawn, "
        f"{count} {'seed' if count == 1 else 'seeds'}"
    )


if __name__ == "__main__":
    command.run(main, BY_DATASET, __doc__)
