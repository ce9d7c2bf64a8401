"""Train a Bayesian classifier, prune it, ship it, and measure what was shipped.

    python -m trainers.classification                                   # digits, no network
    python -m trainers.classification --dataset mnist --data-dir ~/tensorflow_datasets
    python -m trainers.classification --dataset cifar10
    python -m trainers.classification --sparsity 0.95 --json table.json
    python -m tfbnn.launch --workers 2 -- python -m trainers.classification --resume state
    tensorboard --logdir saved_models

Fits by a recipe, watches sigma, draws the pruning curve on rows that were not trained on (the
validation rows, or with --train-on-all the test rows), prunes to several sparsities, scores each on
the test rows and exports it as a .tflite that answers with uncertainty, runs the one that ships in
LiteRT, and prints one table. Everything is in saved_models/<run>/.
"""

import dataclasses
import pathlib
import time
from typing import Any

import keras
import tensorflow as tf

import tfbnn
from tfbnn.pruning.curves import PruningCurve
from tfbnn.training import strategies
from trainers import command, networks, report, runs, shipping
from trainers.data import Dataset, load
from trainers.settings import BY_DATASET, Settings


def main(settings: Settings) -> dict[str, Any]:
    """Run the whole road once.

    Args:
        settings: See `trainers.settings`.

    Returns:
        What `metrics.json` holds; its `table` is what is printed.
    """
    settings = settings.effective()
    # First, because devices cannot be configured once TensorFlow has run.
    strategy = strategies.get(settings.strategy, settings.devices)
    name = settings.name or runs.default_name(settings.dataset)
    if settings.json is not None:
        runs.check_writable(settings.json)
    dataset = load(settings.dataset, settings.data_dir, settings.train_on_all, settings.smoke)
    if not strategies.is_chief(strategy):
        # The chief writes what they have trained together, and does the rest.
        _trained(settings, dataset, strategy, None)
        return {}
    with runs.run_folder(settings.output, name) as folder:
        metrics = _run(settings, dataset, strategy, folder)
        runs.write_json(metrics, folder / runs.METRICS)
    if settings.resume is not None:
        tfbnn.callbacks.ResumeTraining(settings.resume).path.unlink(missing_ok=True)
    if settings.json is not None:
        runs.write_json(metrics["table"], settings.json)
    _print(metrics, pathlib.Path(settings.output) / name)
    return metrics


def _run(
    settings: Settings,
    dataset: Dataset,
    strategy: tf.distribute.Strategy,
    folder: pathlib.Path,
) -> dict[str, Any]:
    start = time.perf_counter()
    model, last_epoch = _trained(settings, dataset, strategy, folder)
    model.save(folder / "model.keras")
    trained = time.perf_counter()
    print("Scoring, pruning, exporting", flush=True)
    draws = {"num_samples": settings.num_samples, "seed": settings.seed}
    # A curve on rows that were trained on would show no price. Where all are, nothing is chosen by
    # it: --sparsity was given before, and the table has the same scores.
    part = "test" if settings.train_on_all else "validation"
    curve = tfbnn.pruning_curve(model, *getattr(dataset, part), settings.all_sparsities, **draws)
    curve.plot(folder / "pruning_curve.png", dataset.title(part))
    shipped = _pruned(model, settings, dataset)
    shipped.save(folder / "pruned.keras")
    metrics = {
        "settings": dataclasses.asdict(settings),
        "last_epoch": last_epoch,
        "pruning_curve": {"part": part, "points": curve.rows},
        "table": _table(model, shipped, settings, dataset, folder, _reached(curve, settings)),
        "file": _ship(shipped, settings, dataset, folder) if settings.export else None,
    }
    end = time.perf_counter()
    return {**metrics, "seconds": {"training": trained - start, "total": end - start}}


def _trained(
    settings: Settings,
    dataset: Dataset,
    strategy: tf.distribute.Strategy,
    folder: pathlib.Path | None,
) -> tuple[tfbnn.Sequential, dict[str, float]]:
    """The trained model and its last epoch's metrics; sigma is logged if there is a folder."""
    keras.utils.set_random_seed(settings.seed)
    with strategy.scope():
        model = networks.build(settings, dataset)
    print(networks.describe(model, settings, len(dataset.train[0])), flush=True)
    callbacks = []
    if settings.resume is not None:
        # Kept until all is done: a run that is killed while it scores need not train again.
        callbacks.append(tfbnn.callbacks.ResumeTraining(settings.resume, keep=True))
    if folder is not None:
        callbacks.append(networks.sigma_logger(folder, settings, len(dataset.train[0])))
    return model, networks.train(model, dataset.train, settings, settings.epochs, callbacks)


def _pruned(model: tfbnn.Sequential, settings: Settings, dataset: Dataset) -> tfbnn.Sequential:
    pruned = tfbnn.prune(model, sparsity=settings.sparsity)
    if settings.fine_tune_epochs:
        networks.train(pruned, dataset.train, settings, settings.fine_tune_epochs)
    return pruned


def _reached(curve: PruningCurve, settings: Settings) -> list[float]:
    """The sparsities of the table at which no layer is left without a weight."""
    reached = [row["sparsity"] for row in curve.rows]
    for sparsity in settings.all_sparsities:
        if sparsity not in reached:
            print(f"No row at sparsity {sparsity:g}: a layer would be left without a weight")
    return reached


def _table(
    model: tfbnn.Sequential,
    shipped: tfbnn.Sequential,
    settings: Settings,
    dataset: Dataset,
    folder: pathlib.Path,
    sparsities: list[float],
) -> list[shipping.Row]:
    rows = []
    for sparsity in sparsities:
        final = sparsity == settings.sparsity
        pruned = shipped if final else tfbnn.prune(model, sparsity=sparsity)
        evaluation = tfbnn.evaluate(
            pruned, *dataset.test, num_samples=settings.num_samples, seed=settings.seed
        )
        path = folder / ("model.tflite" if final else f"tflite/sparsity-{sparsity:g}.tflite")
        rows.append(shipping.table_row(pruned, evaluation, sparsity, dataset, settings, path))
        if final:
            title = f"{dataset.title('test')}, {100 * sparsity:.4g} % of the weights removed"
            evaluation.reliability_diagram(folder / "reliability.png", title)
            images, names = dataset.test[0], dataset.class_names
            report.draw_extremes(evaluation, images, names, folder / "extremes.png", title)
    return rows


def _ship(
    shipped: tfbnn.Sequential, settings: Settings, dataset: Dataset, folder: pathlib.Path
) -> dict[str, Any]:
    shipping.export_saved_model(shipped, folder / "saved_model", dataset, settings)
    return shipping.scores_of_file(folder / "model.tflite", dataset.test)


def _print(metrics: dict[str, Any], folder: pathlib.Path) -> None:
    print(f"\n{report.table(metrics['table'])}\n")
    if metrics["file"] is not None:
        print(f"model.tflite in LiteRT, {report.scores(metrics['file'])}")
    seconds = metrics["seconds"]
    print(f"{seconds['total']:.0f} s, of which training {seconds['training']:.0f} s")
    runs.print_contents(folder)


if __name__ == "__main__":
    command.run(main, BY_DATASET, __doc__)
