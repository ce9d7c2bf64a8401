"""Data sets of the trainers, as arrays in three parts: training, validation, test.

| name | from | rows | inputs |
|---|---|---|---|
| `digits` | scikit-learn, no network | 1,077 / 360 / 360 | `(8, 8, 1)`, pixels / 16 |
| `mnist` | tensorflow-datasets | 50,000 / 10,000 / 10,000 | `(28, 28, 1)`, pixels / 126 |
| `cifar10` | tensorflow-datasets | 45,000 / 5,000 / 10,000 | `(32, 32, 3)`, pixels / 255 |

Choices are made on the validation part; the test part is for the last number only.
"""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Part = tuple[np.ndarray, np.ndarray]

# The split is part of the data set: the seed of a run does not change it.
_SPLIT_SEED = 0
# For an answer, before the download: what waits longer than a page is no network.
_NETWORK_SECONDS = 5
_SMOKE_ROWS = 64


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and labels.

    Attributes:
        train: `(x, y)`: float32 images `(rows, height, width, channels)`, int32 labels `(rows,)`.
        validation: The same; part of `train` if that was asked for.
        test: The same.
        class_names: Names of the labels, in order.
        preprocessing: What the pixels have gone through, in words.
    """

    train: Part
    validation: Part
    test: Part
    class_names: list[str]
    preprocessing: str

    def title(self, part: str) -> str:
        """`360 test rows`, for a picture of them."""
        return f"{len(getattr(self, part)[1]):,} {part} rows"


def load(
    name: str, data_dir: str | None = None, train_on_all: bool = False, smoke: bool = False
) -> Dataset:
    """A data set by name.

    Args:
        name: A key of `DATASETS`.
        data_dir: Folder of tensorflow-datasets; by default `TFDS_DATA_DIR`, or its own default.
        train_on_all: Whether the validation rows are trained on too; they then validate nothing.
        smoke: Whether to keep only a few rows of each part.

    Returns:
        The data set.

    Raises:
        ValueError: If the name is unknown.
        OSError: If the data are not there and cannot be downloaded.

    Example:

    >>> data = load("digits")
    >>> data.train[0].shape, data.validation[0].shape, data.test[0].shape
    ((1077, 8, 8, 1), (360, 8, 8, 1), (360, 8, 8, 1))
    """
    if name not in DATASETS:
        raise ValueError(f"`name` must be one of {sorted(DATASETS)}. Received: name={name!r}")
    dataset = DATASETS[name](data_dir)
    if train_on_all:
        parts = zip(dataset.train, dataset.validation, strict=True)
        dataset = dataclasses.replace(dataset, train=tuple(map(np.concatenate, parts)))
    if smoke:
        parts = ("train", "validation", "test")
        few = {part: tuple(a[:_SMOKE_ROWS] for a in getattr(dataset, part)) for part in parts}
        dataset = dataclasses.replace(dataset, **few)
    return dataset


def digits(data_dir: str | None = None) -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels, split 60 / 20 / 20 %, each class in proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    del data_dir
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    y = labels.astype(np.int32)
    held_out = 2 * (len(y) // 5 + 1)
    train_x, x, train_y, y = train_test_split(
        x, y, test_size=held_out, random_state=_SPLIT_SEED, stratify=y
    )
    validation_x, test_x, validation_y, test_y = train_test_split(
        x, y, test_size=held_out // 2, random_state=_SPLIT_SEED, stratify=y
    )
    return Dataset(
        (train_x, train_y),
        (validation_x, validation_y),
        (test_x, test_y),
        [str(digit) for digit in range(10)],
        "pixels (0 to 16) / 16",
    )


def mnist(data_dir: str | None = None) -> Dataset:
    """70,000 handwritten digits; the last 10,000 training rows validate.

    Pixels are divided by 126, as in Blundell et al. 2015, sec. 5.1.
    """
    address = "https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz"
    names = [str(digit) for digit in range(10)]
    return _from_tfds("mnist", address, 126, 10_000, names, data_dir)


def cifar10(data_dir: str | None = None) -> Dataset:
    """60,000 photographs of ten kinds of things; the last 5,000 training rows validate."""
    address = "https://www.cs.toronto.edu/~kriz/cifar.html"
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    return _from_tfds("cifar10", address, 255, 5_000, names, data_dir)


DATASETS: dict[str, Callable[[str | None], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "cifar10": cifar10,
}


def _from_tfds(
    name: str,
    address: str,
    largest: int,
    held_out: int,
    class_names: list[str],
    data_dir: str | None,
) -> Dataset:
    """A set of tensorflow-datasets: pixels over `largest`, the last rows of `train` held out."""
    arrays = _tfds_arrays(name, address, data_dir)
    (x, y), test = [(x / np.float32(largest), y.astype(np.int32)) for x, y in arrays]
    return Dataset(
        (x[:-held_out], y[:-held_out]),
        (x[-held_out:], y[-held_out:]),
        test,
        class_names,
        f"pixels (0 to 255) / {largest}",
    )


def _tfds_arrays(name: str, address: str, data_dir: str | None) -> list[Part]:
    """Training and test rows of a tensorflow-datasets set, prepared if it is not there."""
    import tensorflow_datasets as tfds

    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
    folder = pathlib.Path(folder).expanduser()
    try:
        if not (folder / name).is_dir():
            _check_reachable(address)
            _prepare(tfds, name, folder)
        options = {"batch_size": -1, "as_supervised": True, "download": False}
        sets = tfds.load(name, split=["train", "test"], data_dir=folder, **options)
        return list(tfds.as_numpy(sets))
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise OSError(
            f"The data set {name!r} is not in {folder} (a folder {name}/<version>) and could not "
            "be downloaded or read. Without a network, set the variable TFDS_DATA_DIR or the flag "
            "--data-dir to a folder where tensorflow-datasets has prepared it. "
            f"Received: {type(error).__name__}: {reason}"
        ) from error


def _check_reachable(address: str) -> None:
    """Raise an `OSError` in seconds where a download would be tried again for minutes."""
    # What tensorflow-datasets downloads with: the same proxies and certificates.
    import requests

    print(f"Asking {address} for the data set", flush=True)
    requests.get(address, stream=True, timeout=_NETWORK_SECONDS).close()


def _prepare(tfds: Any, name: str, folder: pathlib.Path) -> None:
    """Download and prepare beside the final place, then move: half a data set is never there."""
    with _temporary_folder(folder) as temporary:
        builder = tfds.builder(name, data_dir=temporary)
        builder.download_and_prepare(download_dir=temporary / "downloads")
        os.replace(temporary / name, folder / name)


@contextlib.contextmanager
def _temporary_folder(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder in `parent` that is gone afterwards, as are the parents made for it."""
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".tfbnn-", dir=parent) as temporary:
            yield pathlib.Path(temporary)
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # Not empty: the data set is in it.
                path.rmdir()
