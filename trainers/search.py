"""Search hyperparameters on validation rows, then score the best model once on the test rows.

    python -m trainers.search                                           # digits, no network
    python -m trainers.search --tuner hyperband --name digits-hyperband
    python -m trainers.search --objective bytes --error-budget 0.03 --name digits-bytes
    python -m trainers.search --dataset mnist --data-dir ~/tensorflow_datasets

Trains every trial on the training rows and scores it on the validation rows: by the Monte Carlo
NLL, or by the bytes of the exported file at an error budget. Prints the table of trials, scores the
best one on the test rows, writes search.json, search.png, model.keras and a checked model.tflite,
and says what the default recipe of `trainers.classification` scores on the same rows. Everything is
in saved_models/<name>/. A search that was interrupted goes on when the same command is started
again; docs/search.md says how several processes share one.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner
import tqdm

import tfbnn
from tfbnn import search
from tfbnn.training import strategies
from trainers import command, networks, report, runs
from trainers.data import Dataset, load
from trainers.search_settings import SEARCHES, SearchSettings
from trainers.settings import BY_DATASET

_RESULTS, _SETTINGS = "search.json", "settings.json"
# Ten times the largest file of the recipes: see `tfbnn.search.Bytes`.
_INFEASIBLE_BYTES = 1e7
_CHECK_ROWS = 128


def main(settings: SearchSettings) -> dict[str, Any] | None:
    """Search, or go on with a search, and score what it finds.

    Args:
        settings: See `SearchSettings`.

    Returns:
        What `search.json` holds; None in a worker, which leaves that to the chief.
    """
    settings = settings.effective()
    folder = pathlib.Path(settings.output) / (settings.name or f"{settings.dataset}-search")
    results = folder / _RESULTS
    _claim(folder, settings)
    if results.exists():
        print(f"{folder}: there already")
        found = runs.read_json(results)
        _print(found, folder)
        return found
    dataset = load(settings.dataset, settings.data_dir, smoke=settings.smoke)
    tuner = _searched(settings, dataset, folder)
    if not _has_results(tuner):
        return None
    found = _found(tuner, settings, dataset, folder)
    runs.write_json(found, results)
    _print(found, folder)
    return found


def hypermodel(settings: SearchSettings, dataset: Dataset) -> search.BayesianHyperModel:
    """The hypermodel of a search: the network of `trainers.networks`, sizes and laws searched."""
    space = search.Space(recipes=settings.recipes, beta=settings.beta or None)
    return _WithBar(
        dataset.train[0].shape[1:],
        space=space,
        network=_network(settings, len(dataset.class_names)),
        objective=_objective(settings),
    )


def _network(settings: SearchSettings, classes: int) -> Callable:
    def network(hp: Any, dense: Callable, convolution: Callable) -> list[keras.Layer]:
        filters = search.choose(hp, "filters", settings.filters)
        width = search.choose(hp, "width", settings.widths)
        return networks.stack(dense, convolution, filters, [width] * settings.depth, classes)

    return network


def _objective(settings: SearchSettings) -> Any:
    if settings.objective == "nll":
        return search.MonteCarloNLL(num_samples=settings.num_samples)
    return search.Bytes(
        settings.error_budget,
        num_samples=settings.num_samples,
        num_samples_in_file=settings.num_samples_in_file,
        infeasible_bytes=_INFEASIBLE_BYTES,
    )


class _WithBar(search.BayesianHyperModel):
    """A hypermodel that shows a progress bar over the trials of this process."""

    bar: tqdm.tqdm | None = None

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        scores = {}
        try:
            scores = super().fit(*args, **kwargs)
            return scores
        finally:
            if self.bar is not None:
                self.bar.set_postfix_str(f"{scores.get(self.objective.name, 'failed'):.6}")
                self.bar.update()


def _searched(
    settings: SearchSettings, dataset: Dataset, folder: pathlib.Path
) -> keras_tuner.Tuner:
    """The tuner after its search."""
    strategy = strategies.get(settings.strategy, settings.devices)
    model = hypermodel(settings, dataset)
    options: dict[str, Any] = {"max_trials": settings.trials, "seed": settings.seed}
    if settings.tuner == "hyperband":
        options = {"max_epochs": settings.epochs, "seed": settings.seed}
    if settings.tuner == "bayesian":
        # keras-tuner's default is three times the number of hyperparameters: more than the trials.
        options["num_initial_points"] = max(3, settings.trials // 2)
    if strategy.num_replicas_in_sync > 1:
        options["distribution_strategy"] = strategy
    tuner = search.open_tuner(settings.tuner, model, folder / "trials", **options)
    total = tuner.remaining_trials if _has_results(tuner) else None
    with tqdm.tqdm(total=total, unit="trial", disable="chief" in tuner.tuner_id) as model.bar:
        tuner.search(
            *dataset.train,
            validation_data=dataset.validation,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            verbose=0,
        )
    return tuner


def _has_results(tuner: keras_tuner.Tuner) -> bool:
    """Whether this process keeps the trials; a worker only has a connection to the chief."""
    return isinstance(tuner.oracle, keras_tuner.Oracle)


def _found(
    tuner: keras_tuner.Tuner, settings: SearchSettings, dataset: Dataset, folder: pathlib.Path
) -> dict[str, Any]:
    """What came out: the trials, and the scores and files of the best model."""
    rows = search.trials(tuner)
    row, model = search.best(tuner)
    baseline = _baseline(settings, dataset) if settings.baseline else None
    if row["scores"].get("sparsity"):
        model = tfbnn.prune(model, sparsity=row["scores"]["sparsity"])
    model.save(folder / "model.keras")
    written = tfbnn.export.tflite(
        model,
        folder / "model.tflite",
        tfbnn.export.MonteCarlo(settings.num_samples_in_file),
        inputs=tfbnn.export.Inputs(preprocessing=dataset.preprocessing),
        check_data=dataset.validation[0][:_CHECK_ROWS],
        class_names=dataset.class_names,
        overwrite=True,
    )
    reference = None
    if baseline and settings.objective == "nll":
        reference = ("default recipe", baseline["nll"])
    label = _label(settings, dataset)
    search.plot(rows, folder / "search.png", label, reference)
    return {
        "settings": dataclasses.asdict(settings),
        "trials": rows,
        "best": row["trial"],
        "validation": _scores(model, dataset.validation, settings),
        "default_recipe": baseline,
        # The only look at the test rows, after every choice has been made.
        "test": _scores(model, dataset.test, settings),
        "file": {name: written[name] for name in ("bytes", "gzip_bytes")},
    }


def _baseline(settings: SearchSettings, dataset: Dataset) -> dict[str, float]:
    """Validation scores of the default recipe, trained on the same rows."""
    recipe = dataclasses.replace(BY_DATASET[settings.dataset], smoke=settings.smoke).effective()
    print("Training the default recipe, to compare with", flush=True)
    keras.utils.set_random_seed(recipe.seed)
    model = networks.build(recipe, dataset)
    networks.train(model, dataset.train, recipe, recipe.epochs)
    return _scores(model, dataset.validation, settings)


def _scores(model: Any, part: Any, settings: SearchSettings) -> dict[str, float]:
    evaluation = tfbnn.evaluate(
        model, *part, num_samples=settings.num_samples, seed=0, verbose=0
    ).scores()
    return {
        "rows": len(part[0]),
        **{name: float(evaluation[name]) for name in ("error", "nll", "ece")},
    }


def _label(settings: SearchSettings, dataset: Dataset) -> str:
    if settings.objective == "nll":
        return f"NLL of {dataset.title('validation')} (nats)"
    return "gzipped bytes of the file"


def _claim(folder: pathlib.Path, settings: SearchSettings) -> None:
    """Make the folder, or raise an error if a search with other settings is in it."""
    path = folder / _SETTINGS
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        runs.refuse_other_settings(folder, runs.read_json(path), settings)
    else:
        runs.write_json(dataclasses.asdict(settings), path)


def _print(found: dict[str, Any], folder: pathlib.Path) -> None:
    print(f"\n{report.trials_table(found['trials'], found['best'])}\n")
    best = next(row for row in found["trials"] if row["trial"] == found["best"])
    if best["scores"].get("feasible") == 0:
        print("No trial was within the error budget; the best one is that which comes closest.")
    print(f"Best: trial {found['best']}, on {report.scores(found['validation'], 'validation')}")
    if found["default_recipe"] is not None:
        baseline = report.scores(found["default_recipe"], "validation")
        print(f"Default recipe, on the same {baseline}")
    print(f"The best trial was chosen on these rows. On untouched {report.scores(found['test'])}")
    size = found["file"]
    print(f"model.tflite: {size['bytes']:,} bytes, {size['gzip_bytes']:,} gzipped")
    runs.print_contents(folder)


if __name__ == "__main__":
    command.run(main, SEARCHES, __doc__)
