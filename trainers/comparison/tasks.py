"""Tasks of `trainers.compare`: data in parts, and inputs that no network has seen.

| name | from | inputs | unseen |
|---|---|---|---|
| `digits` | scikit-learn | `(8, 8, 1)` | test rows with their pixels shuffled; letters |
| `moons` | scikit-learn | `(2,)` | points around the data, some radii away |
| `mnist` | tensorflow-datasets | `(28, 28, 1)` | as of digits |

Letters are those of notMNIST, and left out where it is not there.
"""

import dataclasses
import gzip
import os
import pathlib
from collections.abc import Callable

import numpy as np

from trainers import data
from trainers.data import Part

_SEED = 0
_SMOKE_ROWS = 48
_LETTERS = 2000
_MOONS = {"train": 200, "validation": 100, "test": 1000}
_MOONS_NOISE = 0.2
# In units of the data's standard deviation: they end at 2 to 3.
_UNSEEN_RADII = 5.0, 8.0


@dataclasses.dataclass(frozen=True)
class Task:
    """Rows in three parts, and others.

    Attributes:
        name: A key of `TASKS`.
        train: `(x, y)`, float32 and int32.
        validation: The same; for choices.
        test: The same; for the table only.
        unseen: Inputs that are unlike the training rows, by name.
        num_classes: Number of classes.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    unseen: dict[str, np.ndarray]
    num_classes: int


def load(
    name: str, data_dir: str | None = None, letters: str | None = None, smoke: bool = False
) -> Task:
    """A task by name; `smoke` keeps only a few rows of each part.

    Example:

    >>> task = load("moons")
    >>> task.train[0].shape, sorted(task.unseen)
    ((200, 2), ['far away'])
    """
    task = TASKS[name](data_dir, letters)
    if not smoke:
        return task
    parts = ("train", "validation", "test")
    few = {part: tuple(a[:_SMOKE_ROWS] for a in getattr(task, part)) for part in parts}
    unseen = {name: x[:_SMOKE_ROWS] for name, x in task.unseen.items()}
    return dataclasses.replace(task, **few, unseen=unseen)


def _moons(data_dir: str | None, letters: str | None) -> Task:
    from sklearn.datasets import make_moons

    del data_dir, letters
    x, y = make_moons(sum(_MOONS.values()), noise=_MOONS_NOISE, random_state=_SEED)
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    ends = np.cumsum(list(_MOONS.values()))[:-1]
    parts = zip(np.split(x, ends), np.split(y.astype(np.int32), ends), strict=True)
    rng = np.random.default_rng(_SEED)
    angle, radius = rng.uniform(0, 2 * np.pi, 1000), rng.uniform(*_UNSEEN_RADII, 1000)
    far = (radius * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)
    return Task("moons", *parts, {"far away": far}, 2)


def _images(name: str) -> Callable[[str | None, str | None], Task]:
    def made(data_dir: str | None, letters: str | None) -> Task:
        found = data.load(name, data_dir)
        x, _ = found.test
        pixels = x.reshape(len(x), -1)
        shuffled = np.random.default_rng(_SEED).permuted(pixels, axis=1).reshape(x.shape)
        unseen = {"shuffled": shuffled, **_letters(letters, x.shape[1], float(x.max()))}
        count = len(found.class_names)
        return Task(name, found.train, found.validation, found.test, unseen, count)

    return made


def _letters(folder: str | None, size: int, brightest: float) -> dict[str, np.ndarray]:
    """Letters of notMNIST in images of this size, if there are any."""
    folder = folder or os.environ.get("TFBNN_DATA")
    path = pathlib.Path(folder or "") / "notmnist" / "t10k-images-idx3-ubyte.gz"
    if not path.exists():
        return {}
    with gzip.open(path) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:_LETTERS]
    # Smaller ones are means of squares, of an image that the squares fill.
    side = -(-28 // size)
    margin = (side * size - 28) // 2
    padded = np.pad(pixels / 255 * brightest, ((0, 0), (margin, margin), (margin, margin)))
    images = padded.reshape(-1, size, side, size, side).mean(axis=(2, 4))
    return {"letters": images[..., np.newaxis].astype(np.float32)}


TASKS: dict[str, Callable[[str | None, str | None], Task]] = {
    "digits": _images("digits"),
    "moons": _moons,
    "mnist": _images("mnist"),
}
