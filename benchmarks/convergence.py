"""How often `fit` is right where it says that a posterior has not trained, and where it does not.

    python benchmarks/convergence.py --folder convergence --data <data> --page docs/convergence.md

Networks of 2 x 50 units on the data of `benchmarks/recipes.py`, with settings drawn at random. Each
is trained three times from the same start: for some steps, ten times and a hundred times as many.
The longest run is the judge of the others. Results are kept in `--folder`, as in `recipes.py`.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import pathlib
import sys
import warnings
from collections.abc import Iterable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras
import numpy as np

import tfbnn
from benchmarks import measuring
from benchmarks.recipes_parts import contenders, page, scores, tasks
from tfbnn.training import convergence, held_out_noise

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
    "normal": {"kernel_prior": "normal"},
    "fan-in": {"kernel_prior": "fan_in"},
    "mixture": {"kernel_prior": "scale_mixture"},
    "Laplace": {"kernel_prior": "laplace"},
}
_TIMES = (1, 10, 100)
# Of the shortest of three runs. The first settings are cheap, the others get further.
_SHORT, _LONG, _FIRST_LONG = (40, 150), (150, 400), 36
# Of `|log(sigma / sigma after training for longer)|`, the median over weights.
WRONG = 0.25
_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
_GAINS = (
    ("no better than a constant, within 0.01 nats", -math.inf, 0.01),
    ("better by 0.01 to 0.1 nats", 0.01, 0.1),
    ("better by more", 0.1, math.inf),
)
# Of the mean square of the errors over that of the learned scale, further from 1 in either way.
_NOISE_RATIOS = (("by less than 1.5", 1, 1.5), ("by 1.5 to 2.5", 1.5, 2.5), ("more", 2.5, math.inf))
# Of the scale that fits test rows best over the learned one.
_OVERFITS = (("below 1.2", 0, 1.2), ("1.2 to 1.6", 1.2, 1.6), ("above 1.6", 1.6, math.inf))

_COMMAND = "python benchmarks/convergence.py --page docs/convergence.md"
MARK = f"<!-- What follows is printed: `{_COMMAND}` -->"


def main() -> None:
    """Do what is not done yet, and print how often the warnings were right."""
    settings = _settings()
    settings.folder.mkdir(parents=True, exist_ok=True)
    numbers = range(settings.first, settings.count)
    for number in numbers if not settings.print else ():
        path = settings.folder / f"{number}.json"
        if not path.exists():
            path.write_text(json.dumps(_chain(number, settings.data), indent=1) + "\n")
            print(f"{number + 1 - numbers[0]} of {len(numbers)} settings", flush=True)
    tables = _tables(settings.folder)
    print("\n\n".join(f"{name}\n\n{table}" for name, table in tables.items()))
    if settings.page:
        page.replace_tables(settings.page, tables, MARK)


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="number of the first setting")
    parser.add_argument("--count", type=int, default=50, help="number after that of the last")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("convergence"))
    parser.add_argument("--data", default=os.environ.get("TFBNN_DATA"))
    parser.add_argument("--page", type=pathlib.Path, help="put the tables into this page, too")
    parser.add_argument("--print", action="store_true", help="only what is there")
    return parser.parse_args()


def _chain(number: int, folder: str | None) -> dict[str, Any]:
    """One setting, trained three times."""
    rng = np.random.default_rng([7, number])
    name, how, layer = (str(rng.choice(list(one))) for one in (TASKS, OPTIMIZERS, LAYERS))
    shortest = np.log(_SHORT if number < _FIRST_LONG else _LONG)
    steps = round(float(np.exp(rng.uniform(*shortest))))
    task = tasks.load(name, folder, number)
    runs = [
        _run(dataclasses.replace(task, steps=times * steps), number, how, layer) for times in _TIMES
    ]
    for run in runs[:-1]:
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
    return {
        "steps": task.steps,
        "pull": last.mean_pull(),
        "gain": last.gain(),
        "train nll": scores.nll(task, answer(task.train[0]), task.train[1]),
        "constant nll": _constant_nll(task),
        "log sigma": [np.log(np.ravel(weight.scale)) for weight in last.weights],
        "noise": None if task.num_classes else _noise(task, answer, last.noise_ratio()),
    }


def _noise(task: tasks.Task, answer: contenders.Answer, ratio: Any) -> dict[str, Any]:
    """What `fit` knows of the learned noise, and what is true of it."""
    x, y = task.train
    found = answer(x)
    # Of all targets together, and so the same for all rows.
    scale = np.mean(found.scale)
    fits = {}
    for part, (rows, targets) in {"held-out": task.validation, "test": task.test}.items():
        squares = np.square(targets - answer(rows).values).astype(float)
        best = held_out_noise.best_scale(squares, np.ones(targets.shape))
        fits[part] = float(best[0] / scale)
    true_ratio = float(np.square(y - found.values).mean() / scale**2)
    return {"ratio": ratio, "true ratio": true_ratio, "best over learned": fits}


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


@dataclasses.dataclass(frozen=True)
class Judged:
    """A run, and whether sigma is what it is after training for longer."""

    setting: dict[str, Any]
    run: dict[str, Any]
    is_wrong: bool

    def warned(self, threshold: float) -> bool:
        pull, error = self.run["pull"]
        return abs(pull) > threshold + 2 * error


def _tables(folder: pathlib.Path) -> dict[str, str]:
    paths = sorted(folder.glob("*.json"), key=lambda path: int(path.stem))
    chains = [(int(path.stem), json.loads(path.read_text())) for path in paths]
    judged = [
        (number, Judged(chain, run, run["distance to longest"] > WRONG))
        for number, chain in chains
        for run in chain["runs"][:-1]
    ]
    # Even ones are for choosing.
    halves = [[one for number, one in judged if number % 2 == half] for half in (0, 1)]
    choice = [[f"{t:g}", *_rates(halves[0], t)] for t in _THRESHOLDS]
    groups = {"all": halves[1]}
    for key in ("optimizer", "layers"):
        for name in sorted({one.setting[key] for one in halves[1]}):
            groups[name] = [one for one in halves[1] if one.setting[key] == name]
    rates = [[name, *_rates(runs, convergence.LARGEST_PULL)] for name, runs in groups.items()]
    header = ["sigma wrong, warned", "sigma right, warned"]
    noises = _noises(chain for _, chain in chains)
    # Below beta 1 there is no warning: the noise is refit. The test rows of `gap` lie elsewhere.
    of_elbo = _noises(
        chain
        for _, chain in chains
        if "calibrated" not in chain["optimizer"] and chain["task"] != "gap"
    )
    return {
        "Thresholds of the pull, on one half of the settings": measuring.table(
            ["threshold", *header], choice
        ),
        f"Threshold {convergence.LARGEST_PULL:g}, on the other half": measuring.table(
            ["", *header], rates
        ),
        "Nothing was learnt": measuring.table(
            ["", "warned"], _of_learning([one.run for _, one in judged])
        ),
        "The noise has not trained": measuring.table(
            ["mean square of errors over that of the scale, or its inverse", "warned"],
            _of_noise(noises),
        ),
        "The noise overfits": measuring.table(
            ["scale that fits test rows best over the learned one", "warned"],
            _of_overfitting(of_elbo),
        ),
    }


def _noises(chains: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run["noise"] for chain in chains for run in chain["runs"] if run["noise"]]


def _rates(runs: list[Judged], threshold: float) -> list[str]:
    return [
        _share([one.warned(threshold) for one in runs if one.is_wrong is wrong])
        for wrong in (True, False)
    ]


def _of_learning(runs: list[dict[str, Any]]) -> list[list[str]]:
    """How often the gain was none, where the training rows are predicted better than by a
    constant, and where not."""
    pairs = [(r["constant nll"] - r["train nll"], r["gain"]) for r in runs]
    return _by_range(_GAINS, [(better, gain <= 2 * error) for better, (gain, error) in pairs])


def _of_noise(noises: list[dict[str, Any]]) -> list[list[str]]:
    pairs = [(n["true ratio"], convergence.noise_is_off(*n["ratio"])) for n in noises]
    return _by_range(_NOISE_RATIOS, [(max(true, 1 / true), warned) for true, warned in pairs])


def _of_overfitting(noises: list[dict[str, Any]]) -> list[list[str]]:
    fits = [n["best over learned"] for n in noises]
    largest = held_out_noise.LARGEST_FACTOR
    return _by_range(_OVERFITS, [(fit["test"], fit["held-out"] > largest) for fit in fits])


def _by_range(ranges: Any, runs: list[tuple[float, bool]]) -> list[list[str]]:
    """How often there was a warning, for what is true in each of the ranges."""
    return [
        [name, _share([warned for true, warned in runs if low <= true < high])]
        for name, low, high in ranges
    ]


def _share(hits: list[bool]) -> str:
    return f"{sum(hits)} of {len(hits)}" if hits else "-"


if __name__ == "__main__":
    main()
