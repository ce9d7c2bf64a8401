"""IVON: what a step costs, and what the posterior of MNIST is worth.

    python benchmarks/ivon.py --only steps
    python benchmarks/ivon.py --only mnist --data <data> --seeds 0 1 2
    python benchmarks/ivon.py --only mnist --held-out --prior-scale 0.1 0.3

Steps are those of 784-width-width-10 at 128 rows, over those of the same plain network under Adam
in one pass: processes in turns, a ratio is the median of the ratios within a turn. On MNIST a
network of 2 x 400 units is trained with the settings that the optimizer has by default and a rate
that falls to 0, on all 60,000 rows; `--held-out` trains on fewer and scores the others, which is
where settings are chosen. `<data>` holds `notmnist/`. Every run is kept in `--folder`: start the
same command again after an interruption.
"""

import argparse
import itertools
import os
import pathlib
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras
import numpy as np

import tfbnn
from benchmarks import measuring
from benchmarks.device_parts import inputs, scores
from tfbnn.scores import class_scores
from trainers import data, means, runs

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
COLUMNS = {
    "mean_error": "mean, %",
    "error": "draws, %",
    "nll": "NLL",
    "ece": "ECE, %",
    "auroc_letters": "letters",
    "pruned_error": "90 % removed, %",
}
PERCENT = ("mean_error", "error", "ece", "pruned_error")
# Settings of the optimizer that may be compared.
CHOICES = ("learning_rate", "prior_scale", "initial_hessian", "clip", "examples_per_weight")


def main() -> None:
    """Measure and print the tables."""
    settings = _settings()
    if settings.only != "mnist":
        header = ["784-width-width-10", "Adam ms", "IVON ms", "ratio"]
        print(measuring.table(header, [_steps(width, settings) for width in settings.widths]))
    if settings.only != "steps":
        settings.folder.mkdir(parents=True, exist_ok=True)
        print("\n" + measuring.table(["", *COLUMNS.values()], _rows(settings)))


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["steps", "mnist"], help="one of the tables")
    parser.add_argument("--widths", nargs="+", type=int, default=[1200, 400])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contender")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=64, help="networks drawn")
    for name in CHOICES:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, nargs="+", type=float, default=[None], help="of the optimizer")
    parser.add_argument("--held-out", action="store_true", help="score 10,000 training rows")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("ivon"))
    parser.add_argument("--data", help="folder that holds notmnist/; else TFBNN_DATA")
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets; else TFDS_DATA_DIR")
    parser.add_argument("--smoke", action="store_true", help="a few rows: learns nothing")
    return parser.parse_args()


def _steps(width: int, settings: argparse.Namespace) -> list[Any]:
    common = {"network": "mlp", "width": width, "batch": 128}
    cases = [
        {**common, "contender": "deterministic", "jit": "off", "update": "fast"},
        {**common, "contender": "ivon", "jit": "default"},
    ]
    workers = measuring.start(cases, {})
    measuring.take_turns(workers, settings.rounds, repeats=7)
    adam, ivon = workers
    for worker in workers:
        worker.close()
    return [width, adam.median, ivon.median, measuring.ratio(ivon, adam)]


def _rows(settings: argparse.Namespace) -> list[list[str]]:
    rows = []
    for values in itertools.product(*(getattr(settings, name) for name in CHOICES)):
        given = {n: v for n, v in zip(CHOICES, values, strict=True) if v is not None}
        name = ", ".join(f"{n} {v:g}" for n, v in given.items()) or "defaults"
        found = [_result(settings, given, seed) for seed in settings.seeds]
        table = [[(1 + 99 * (n in PERCENT)) * one[n] for one in found] for n in COLUMNS]
        if len(found) > 1:
            rows += [
                [f"{name}, seed {seed}", *(f"{column[i]:.3f}" for column in table)]
                for i, seed in enumerate(settings.seeds)
            ]
        rows.append([name, *(means.in_words(column, 3) for column in table)])
    return rows


def _result(settings: argparse.Namespace, given: dict[str, float], seed: int) -> dict[str, Any]:
    """The scores of one run, from its file if it is there."""
    parts = [f"{settings.epochs}-{settings.samples}", *(f"{n}-{v:g}" for n, v in given.items())]
    parts += ["held-out"] * settings.held_out + ["smoke"] * settings.smoke + [str(seed)]
    path = settings.folder / f"{'-'.join(parts)}.json"
    if not path.exists():
        runs.write_json(_scored(settings, given, seed), path)
    return runs.read_json(path)


def _scored(settings: argparse.Namespace, given: dict[str, float], seed: int) -> dict[str, Any]:
    dataset = data.load("mnist", settings.data_dir, not settings.held_out, settings.smoke)
    images, labels = dataset.validation if settings.held_out else dataset.test
    model = _trained(dataset.train, settings.epochs, given, seed)
    asked = {"test": images, "letters": inputs.letters(settings.data)}
    if settings.smoke:
        asked = {name: rows[:64] for name, rows in asked.items()}
    draws = {"num_samples": settings.samples, "seed": seed, "verbose": 0}
    found = scores.scores(_drawn(model, draws), asked, labels)
    mean = scores.at_mean(model)(images)[0]
    pruned = tfbnn.predict(tfbnn.prune(model, sparsity=0.9), images, **draws)
    return {
        **found,
        "mean_error": class_scores.error(mean, labels),
        "pruned_error": class_scores.error(pruned.prediction, labels),
    }


def _drawn(model: tfbnn.Sequential, draws: dict[str, Any]) -> Any:
    def run(x: np.ndarray) -> scores.Answers:
        answer = tfbnn.predict(model, x, keep_samples=False, **draws)
        return (*answer, answer.mutual_information)

    return run


def _trained(train: Any, epochs: int, given: dict[str, float], seed: int) -> tfbnn.Sequential:
    keras.utils.set_random_seed(seed)
    hidden = [keras.layers.Dense(400, "relu") for _ in range(2)]
    layers = [keras.layers.Flatten(), *hidden, keras.layers.Dense(10)]
    model = tfbnn.Sequential([keras.Input(train[0].shape[1:]), *layers])
    first = given.get("learning_rate", 0.1)
    rate = keras.optimizers.schedules.CosineDecay(first, epochs * -(-len(train[0]) // 128))
    others = {name: value for name, value in given.items() if name != "learning_rate"}
    model.compile(tfbnn.optimizers.IVON(rate, seed=seed, **others), loss=LOSS)
    model.fit(*train, batch_size=128, epochs=epochs, verbose=0)
    return model


if __name__ == "__main__":
    main()
