"""Data sets of the study: small, real, and each with inputs that the network has not seen."""

import dataclasses
import functools
import gzip
import pathlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Part = tuple[Array, NDArray]

_TRAIN, _VALIDATION, _TEST = 0.55, 0.2, 0.25
_LEFT_OUT_DIGITS = (8, 9)
_LETTERS = 2000
_ECG_TRAINING_ROWS = 500
_GAP = 0.35
_GAP_NOISE = 0.1


@dataclasses.dataclass(frozen=True)
class Task:
    """Rows in three parts, in units of the training rows' standard deviation.

    Attributes:
        name: A key of `TASKS`.
        num_classes: 0 for real numbers.
        train: `(x, y)`.
        validation: The same; choices are made here.
        test: The same; for the table only.
        unseen: Inputs that no training row is like, by name.
        steps: Training steps of every contender.
    """

    name: str
    num_classes: int
    train: Part
    validation: Part
    test: Part
    unseen: dict[str, Array]
    steps: int = 2000


def load(name: str, folder: str | None, seed: int) -> Task:
    """One task, cut by a permutation that the seed decides."""
    if folder is None:
        raise SystemExit("Say where uci/, ecg5000/ and notmnist/ are: --data, or TFBNN_DATA.")
    return TASKS[name](pathlib.Path(folder), np.random.default_rng([1, seed]))


def _digits(folder: pathlib.Path, rng: np.random.Generator) -> Task:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    left_out = np.isin(labels, _LEFT_OUT_DIGITS)
    parts = _cut(images[~left_out], labels[~left_out], rng)
    return _standardised(
        "digits", 8, parts, {"letters": _letters(folder), "left-out classes": images[left_out]}
    )


def _letters(folder: pathlib.Path) -> NDArray:
    """Letters of notMNIST, averaged to 8 x 8 pixels from 0 to 16."""
    with gzip.open(folder / "notmnist" / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    padded = np.pad(pixels[:_LETTERS].astype(float), ((0, 0), (2, 2), (2, 2)))
    return padded.reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64) / 255 * 16


def _ecg5000(folder: pathlib.Path, rng: np.random.Generator) -> Task:
    tables = [
        np.loadtxt(folder / "ecg5000" / f"ECG5000_{part}.txt.gz") for part in ("TRAIN", "TEST")
    ]
    table = np.concatenate(tables)
    labels, series = table[:, 0].astype(int) - 1, table[:, 1:]
    parts = _cut(series, labels, rng, _ECG_TRAINING_ROWS)
    shuffled = rng.permuted(parts[2][0], axis=1)
    return _standardised("ecg5000", 5, parts, {"shuffled": shuffled})


def _uci(folder: pathlib.Path, rng: np.random.Generator, name: str) -> Task:
    place = folder / "uci" / name
    table = np.loadtxt(place / "data.txt")
    inputs = np.loadtxt(place / "index_features.txt").astype(int)
    target = int(np.loadtxt(place / "index_target.txt"))
    parts = _cut(table[:, inputs], table[:, target], rng)
    far = parts[2][0] + 4 * parts[0][0].std(0) * rng.choice([-1.0, 1.0], parts[2][0].shape)
    return _standardised(name, 0, parts, {"far": far})


def _gap(folder: pathlib.Path, rng: np.random.Generator) -> Task:
    """A sine with a hole in its inputs; the test rows are a grid over the hole, without noise."""
    del folder

    def rows(count: int) -> Part:
        x = rng.uniform(_GAP, 1, (count, 1)) * rng.choice([-1, 1], (count, 1))
        return x.astype("float32"), (sine(x) + rng.normal(0, _GAP_NOISE, x.shape)).astype("float32")

    grid = np.linspace(-_GAP, _GAP, 71, dtype="float32")[:, np.newaxis]
    train, validation = rows(100), rows(40)
    return Task("gap", 0, train, validation, (grid, sine(grid)), {}, 1500)


def sine(x: NDArray) -> NDArray:
    """The function of the task `gap`."""
    return np.sin(4 * x)


def _cut(
    x: NDArray, y: NDArray, rng: np.random.Generator, training_rows: int | None = None
) -> list[Part]:
    order = rng.permutation(len(x))
    first = training_rows or round(_TRAIN * len(x))
    validation, test = round(_VALIDATION * len(x)), round(_TEST * len(x))
    ends = (first, first + validation, first + validation + test)
    indices = np.split(order, ends)[:3]
    return [(x[index], y[index]) for index in indices]


def _standardised(
    name: str, num_classes: int, parts: list[Part], unseen: dict[str, NDArray]
) -> Task:
    x, y = parts[0]
    mean, deviation = x.mean(0), x.std(0)
    # Pixels that are always 0.
    deviation = np.where(deviation > 0, deviation, 1.0)

    def inputs(values: NDArray) -> Array:
        return ((values - mean) / deviation).astype("float32")

    def targets(values: NDArray) -> NDArray:
        if num_classes:
            return values.astype("int32")
        return ((values - y.mean()) / y.std())[:, np.newaxis].astype("float32")

    made = [(inputs(one), targets(other)) for one, other in parts]
    return Task(name, num_classes, *made, {key: inputs(value) for key, value in unseen.items()})


TASKS: dict[str, Callable[[pathlib.Path, np.random.Generator], Task]] = {
    "digits": _digits,
    "ecg5000": _ecg5000,
    "concrete": functools.partial(_uci, name="concrete"),
    "energy": functools.partial(_uci, name="energy"),
    "wine-quality-red": functools.partial(_uci, name="wine-quality-red"),
    "gap": _gap,
}
