"""MC dropout on MNIST beside the standard pass of the same network.

    python benchmarks/mc_dropout.py --seeds 0 1 2

The LeNet of Gal and Ghahramani 2015 ("Bayesian Convolutional Neural Networks with Bernoulli
Approximate Variational Inference", sec. 4) with dropout after each convolution and hidden layer,
trained on all 60,000 rows by Adam with a rate that falls to 0. Printed are the test errors of the
standard pass, in which dropout averages weights, and of the mean of 64 networks that dropout
leaves, with their paired difference. Each seed is kept in `--folder`: start the same command again
after an interruption.
"""

import argparse
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
from trainers import means, runs
from trainers.comparison import networks, tasks
from trainers.comparison.routes import LOSS
from trainers.comparison.tasks import Task

LENET = networks.Architecture(filters=(20, 50), window=5, padding="valid", widths=(500,))
_COLUMNS = {"standard": "standard pass, %", "dropout": "MC dropout, %", "change": "change, %"}


def main() -> None:
    """Train what is not there yet, and print a row for each seed, and their mean."""
    settings = _settings()
    settings.folder.mkdir(parents=True, exist_ok=True)
    found = [_result(settings, seed) for seed in settings.seeds]
    for one in found:
        one["change"] = one["dropout"] - one["standard"]
    rows = [
        [str(seed), *(f"{100 * one[name]:.2f}" for name in _COLUMNS)]
        for seed, one in zip(settings.seeds, found, strict=True)
    ]
    average = [means.in_words([100 * one[name] for one in found], 3) for name in _COLUMNS]
    rows.append(["mean", *average])
    print(measuring.table(["seed", *_COLUMNS.values()], rows))


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--dropout", type=float, default=0.5, help="share of units dropped")
    parser.add_argument("--passes", type=int, default=64, help="networks that are averaged")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("mc_dropout"))
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets; else TFDS_DATA_DIR")
    parser.add_argument("--smoke", action="store_true", help="a few rows: learns nothing")
    return parser.parse_args()


def _result(settings: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Errors of one seed, from its file if it is there."""
    name = f"{settings.epochs}-{settings.dropout:g}-{settings.passes}-{seed}"
    path = settings.folder / f"{name}{'-smoke' * settings.smoke}.json"
    if not path.exists():
        runs.write_json(_trained(settings, seed), path)
    return runs.read_json(path)


def _trained(settings: argparse.Namespace, seed: int) -> dict[str, Any]:
    task = tasks.load("mnist", settings.data_dir, smoke=settings.smoke)
    keras.utils.set_random_seed(seed)
    model = networks.builder(task, LENET)(settings.dropout)
    _fit(model, task, settings.epochs)
    draws = {"seed": seed, "verbose": 0}
    posterior = tfbnn.posteriors.MCDropout(model)
    dropped = tfbnn.evaluate(posterior, *task.test, settings.passes, **draws)
    standard = tfbnn.evaluate(tfbnn.posteriors.MAP(model), *task.test, 1, **draws)
    return {
        "standard": standard.error,
        "dropout": dropped.error,
        "standard_nll": standard.nll,
        "dropout_nll": dropped.nll,
    }


def _fit(model: keras.Model, task: Task, epochs: int, batch_size: int = 128) -> None:
    x, y = (np.concatenate(parts) for parts in zip(task.train, task.validation, strict=True))
    steps = epochs * -(-len(x) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss=LOSS)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=2)


if __name__ == "__main__":
    main()
