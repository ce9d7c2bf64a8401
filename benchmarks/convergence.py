"""How often `fit` is right where it says that the posterior has not trained, and where it does not.

    python benchmarks/convergence.py --folder convergence --data <data>

Networks of 2 x 50 units on the data of `benchmarks/recipes.py`, with settings drawn at random. Each
is trained three times from the same start: for some steps, for ten times and for a hundred times as
many. The first two are judged by the next longer one: sigma is wrong where the median over weights
of `|log(sigma / sigma of the longer run)|` is above 0.25. Thresholds are looked for in every other
setting, and the table is that of the rest. Results are kept in `--folder`, as in `recipes.py`.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import sys
import warnings
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras
import numpy as np

import tfbnn
from benchmarks.recipes_parts import contenders, scores, tasks

TASKS = ("digits", "ecg5000", "concrete", "energy", "wine-quality-red", "gap")
OPTIMIZERS: dict[str, Any] = {
    "adam": {},
    "calibrated": {"recipe": "calibrated"},
    "sparse": {"recipe": "sparse"},
    "Adam 1e-3": {"optimizer": functools.partial(keras.optimizers.Adam, 1e-3)},
    "Adam 1e-2": {"optimizer": functools.partial(keras.optimizers.Adam, 1e-2)},
    "RMSprop 1e-3": {"optimizer": functools.partial(keras.optimizers.RMSprop, 1e-3)},
    "SGD": {"optimizer": functools.partial(keras.optimizers.SGD, 1e-2, momentum=0.9)},
    "AdamW, calibrated": {
        "optimizer": functools.partial(keras.optimizers.AdamW, 3e-3),
        "recipe": "calibrated",
    },
}
LAYERS: dict[str, Any] = {
    "defaults": {},
    "normal, from 0.0067": contenders.FORMER,
    "normal": {"prior": "normal"},
    "fan-in": {"prior": "fan_in"},
    "mixture": {"prior": "scale_mixture"},
    "Laplace": {"prior": "laplace"},
}
_TIMES = (1, 10, 100)


def main() -> None:
    settings = _settings()
    settings.folder.mkdir(parents=True, exist_ok=True)
    for number in range(settings.first, settings.count):
        path = settings.folder / f"{number}.json"
        if not path.exists():
            path.write_text(json.dumps(_chain(number, settings.data), indent=1) + "\n")
            print(number, flush=True)


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=96, help="how many settings")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("convergence"))
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("TFBNN_DATA"))
    return parser.parse_args()


def _chain(number: int, folder: pathlib.Path) -> dict[str, Any]:
    """One setting, trained three times."""
    rng = np.random.default_rng([7, number])
    name, how, layer = (str(rng.choice(list(one))) for one in (TASKS, OPTIMIZERS, LAYERS))
    steps = round(float(np.exp(rng.uniform(np.log(40), np.log(150)))))
    task = tasks.load(name, pathlib.Path(folder), number)
    runs = [
        _run(dataclasses.replace(task, steps=times * steps), number, how, layer) for times in _TIMES
    ]
    for run, longer in itertools.pairwise(runs):
        run["distance"] = _distance(run, longer)
        run["distance to longest"] = _distance(run, runs[-1])
    for run in runs:
        del run["log sigma"]
    return {"task": name, "optimizer": how, "layers": layer, "steps": steps, "runs": runs}


def _run(task: tasks.Task, seed: int, how: str, layer: str) -> dict[str, Any]:
    compiled = {key: one() if callable(one) else one for key, one in OPTIMIZERS[how].items()}
    make = functools.partial(tfbnn.layers.DenseFlipout, **LAYERS[layer])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = contenders.trained(task, seed, make, **compiled)
    answer = contenders.sampled(model, task)
    last = model.objective.last_steps
    found = {
        "steps": task.steps,
        "pull": last.mean_pull(),
        "noise ratio": last.noise_ratio(),
        "gain": last.gain(),
        "train nll": scores.nll(task, answer(task.train[0]), task.train[1]),
        "validation nll": scores.nll(task, answer(task.validation[0]), task.validation[1]),
        "kl": model.history.history["kl"][-1],
        "constant nll": _constant_nll(task),
        "rows": len(task.train[0]),
        "beta": model.objective.beta,
        "seed": seed,
    }
    if not task.num_classes:
        found["noise"] = float(np.ravel(model.likelihood.loss.constant_scale())[0])
    found["log sigma"] = [np.log(np.ravel(weight.scale)) for weight in last.weights]
    return found


def _distance(run: dict[str, Any], other: dict[str, Any]) -> float:
    """The median over weights of `|log(sigma / other sigma)|`."""
    pairs = zip(run["log sigma"], other["log sigma"], strict=True)
    return float(np.median(np.concatenate([np.abs(np.subtract(*pair)) for pair in pairs])))


def _constant_nll(task: tasks.Task) -> float:
    """NLL of the best prediction that does not look at the inputs."""
    y = task.train[1]
    if not task.num_classes:
        return float(0.5 * np.log(2 * np.pi * np.e * np.var(y)))
    shares = np.bincount(y.astype(int)) / len(y)
    return float(-np.sum(shares[shares > 0] * np.log(shares[shares > 0])))


if __name__ == "__main__":
    main()
