"""Laplace's approximation of networks trained on MNIST: what it costs, and what it is worth.

    python benchmarks/laplace.py --seeds 0 1 2 --data <data>

`<data>` holds `notmnist/`. A fit is timed in turns with an epoch of training, and 32 linearised
networks in turns with one pass of the network; a ratio is the median of those of all turns. Scores
are of 64 networks, and the area under the ROC curve is that of telling letters from test digits by
predictive entropy.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras
import numpy as np

import tfbnn
from benchmarks import measuring
from benchmarks.device_parts import inputs, scores
from trainers import means
from trainers.data import load

K = keras.layers
CHOICES = ("consistent", "marginal_likelihood", "validation")
SCORES = {"error": "error", "NLL": "nll", "ECE": "ece", "letters": "auroc_letters"}
DRAWS, TIMED_DRAWS, TIMED_ROWS = 64, 32, 2048


def mlp() -> list[Any]:
    """784-300-100-10."""
    return [K.Flatten(), K.Dense(300, "relu"), K.Dense(100, "relu"), K.Dense(10)]


def lenet() -> list[Any]:
    """LeNet-5."""
    convolutions = [K.Conv2D(6, 5, padding="same", activation="relu"), K.MaxPooling2D()]
    convolutions += [K.Conv2D(16, 5, activation="relu"), K.MaxPooling2D(), K.Flatten()]
    return [*convolutions, K.Dense(120, "relu"), K.Dense(84, "relu"), K.Dense(10)]


NETWORKS: dict[str, Callable[[], list[Any]]] = {"mlp": mlp, "lenet": lenet}


def main() -> None:
    """Print both tables."""
    settings = _settings()
    data = load("mnist", settings.data_dir)
    strange = inputs.letters(settings.data)
    costs, found = [], {}
    for name in settings.network:
        for seed in settings.seeds:
            model = _trained(name, seed, data, settings.epochs)
            if seed == settings.seeds[0] and settings.turns:
                costs += [[name, *row] for row in _costs(model, data, settings.turns)]
            for row, values in _worth(model, data, strange).items():
                found.setdefault((name, *row), []).append(values)
    header = ["network", "what", "seconds", "of", "ratio"]
    print(measuring.table(header, costs))
    header = ["network", "structure", "prior precision", *SCORES, "seconds"]
    print("\n" + measuring.table(header, [[*row, *_mean(v)] for row, v in found.items()]))


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3, help="of what is timed; 0: none")
    parser.add_argument("--data", help="folder that holds notmnist/; else TFBNN_DATA")
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets; else TFDS_DATA_DIR")
    return parser.parse_args()


def _trained(name: str, seed: int, data: Any, epochs: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((28, 28, 1)), *NETWORKS[name]()])
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data.train, batch_size=128, epochs=epochs, verbose=0)
    return model


def _costs(model: keras.Model, data: Any, turns: int) -> list[list[Any]]:
    """Seconds and ratios: fits over epochs, and linearised networks over passes."""
    copy = keras.models.clone_model(model)
    copy.compile("adam", loss=model.loss)
    posteriors: dict[str, Any] = {}

    def fit(structure: str) -> Callable[[], Any]:
        def once() -> None:
            posteriors[structure] = tfbnn.posteriors.Laplace(
                model, *data.train, structure, prior_precision=1.0, verbose=0
            )

        return once

    rows = data.test[0][:TIMED_ROWS]
    points = tfbnn.posteriors.MAP(model)
    fits = {f"fit, {one}": fit(one) for one in ("last_layer", "kronecker", "diagonal")}
    epoch = lambda: copy.fit(*data.train, batch_size=128, verbose=0)  # noqa: E731
    found = _in_turns("epoch", epoch, fits, turns)
    draws = {
        f"{TIMED_DRAWS} networks, {one}": lambda one=one: tfbnn.predict(
            posteriors[one], rows, TIMED_DRAWS, seed=0, verbose=0
        )
        for one in ("last_layer", "kronecker")
    }
    return found + _in_turns("pass", lambda: tfbnn.predict(points, rows, verbose=0), draws, turns)


def _in_turns(
    unit: str, base: Callable[[], Any], others: dict[str, Callable[[], Any]], turns: int
) -> list[list[Any]]:
    times: dict[str, list[float]] = {name: [] for name in (unit, *others)}
    for _ in range(turns + 1):
        for name, function in {unit: base, **others}.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    # The first turn traces an epoch and a pass, as training has; a fit traces itself each time.
    first, rows = times.pop(unit)[1:], []
    for name, seconds in times.items():
        ratio = statistics.median(s / f for s, f in zip(seconds[1:], first, strict=True))
        rows.append([name, statistics.median(seconds[1:]), unit, ratio])
    return rows


def _worth(model: keras.Model, data: Any, strange: np.ndarray) -> dict[tuple[str, str], list[Any]]:
    """Scores by structure and choice of the prior."""
    asked = {"test": data.test[0], "letters": strange}
    found = {("map", ""): _scored(tfbnn.posteriors.MAP(model), asked, data.test[1], 0.0)}
    for structure in ("last_layer", "kronecker"):
        for choice in CHOICES:
            held_out = data.validation if choice == "validation" else None
            start = time.perf_counter()
            posterior = tfbnn.posteriors.Laplace(
                model,
                *data.train,
                structure,
                prior_precision=choice,
                validation_data=held_out,
                verbose=0,
            )
            seconds = time.perf_counter() - start
            found[structure, choice] = _scored(posterior, asked, data.test[1], seconds)
    return found


def _scored(posterior: Any, asked: Any, labels: np.ndarray, seconds: float) -> list[float]:
    def run(x: np.ndarray) -> Any:
        answer = tfbnn.predict(posterior, x, DRAWS, seed=0, keep_samples=False, verbose=0)
        return (*answer, answer.mutual_information)

    row = scores.scores(run, asked, labels)
    return [*(row[name] for name in SCORES.values()), seconds]


def _mean(rows: list[list[float]]) -> list[str]:
    columns = list(zip(*rows, strict=True))
    if len(rows) == 1:
        return [f"{one:.4f}" for (one,) in columns[:-1]] + [f"{columns[-1][0]:.1f}"]
    return [means.in_words(one, 4) for one in columns[:-1]] + [f"{np.mean(columns[-1]):.1f}"]


if __name__ == "__main__":
    main()
