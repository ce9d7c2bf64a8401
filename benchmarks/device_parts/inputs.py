"""Inputs: those that a student is taught with, and those that scores are taken on."""

import dataclasses
import gzip
import os
import pathlib

import keras
import numpy as np
from numpy.typing import NDArray

import tfbnn
from tfbnn.likelihoods.class_results import ClassPrediction
from trainers.data import Dataset

Images = NDArray[np.float32]

# Degrees, pixels, shear and zoom of a slight and of a strong change.
_SLIGHT = ((8, 1, 0.05, 0.05), (15, 2, 0.1, 0.1))
_STRONG = (90, 6, 0.3, 0.3)
_TEACHER_SAMPLES = 16
# Of the inputs that no class fits, half are looked at while choosing, and half only in the table.
_LETTERS = 5000
_ROTATED = 1000
_BRIGHTEST = np.float32(255 / 126)


def taught(
    teacher: tfbnn.Sequential, images: Images, seed: int, folder: pathlib.Path
) -> tuple[Images, ClassPrediction]:
    """Images to teach with, and what the teacher says of them; kept in `folder`.

    A quarter are the images themselves, half are changed slightly, and a quarter are two images in
    one, at least one of them changed beyond recognition: there the teacher is unsure.
    """
    path = folder / "taught.npz"
    if not path.exists():
        keras.utils.set_random_seed(seed)
        x = np.concatenate([images, *(_changed(images, *c) for c in _SLIGHT), _mixed(images, seed)])
        answers = tfbnn.predict(teacher, x, _TEACHER_SAMPLES, seed=seed, keep_samples=False)
        fields = ("prediction", "uncertainty", "expected_entropy", "mutual_information")
        fields += ("variation_ratio", "variance")
        arrays = {name: getattr(answers, name) for name in fields}
        with open(path.with_suffix(".part"), "wb") as file:
            np.savez(file, x=np.rint(x * 126).astype(np.uint8), **arrays)
        os.replace(path.with_suffix(".part"), path)
    with np.load(path) as kept:
        arrays = dict(kept)
    x = arrays.pop("x") / np.float32(126)
    return x, ClassPrediction(num_samples=_TEACHER_SAMPLES, samples=None, **arrays)


def rows_of(answers: ClassPrediction, chosen: np.ndarray) -> ClassPrediction:
    """Some rows of a prediction."""
    arrays = {k: v[chosen] for k, v in vars(answers).items() if isinstance(v, np.ndarray)}
    return dataclasses.replace(answers, **arrays)


def letters(folder: str | None) -> Images:
    """Letters of notMNIST that were not looked at while choosing, `(rows, 28, 28, 1)`."""
    folder = folder or os.environ.get("TFBNN_DATA")
    if not folder:
        raise SystemExit("Say where notmnist/ is: --data or the variable TFBNN_DATA.")
    path = pathlib.Path(folder) / "notmnist" / "t10k-images-idx3-ubyte.gz"
    pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    return (pixels.reshape(-1, 28, 28, 1) / np.float32(126))[_LETTERS:]


def scored(dataset: Dataset, folder: str | None) -> dict[str, Images]:
    """Everything that a file is run on, by name."""
    test = dataset.test[0]
    some = test[:_ROTATED]
    rng = np.random.default_rng(0)
    noise = {f"noise {s:g}": some + s * rng.normal(size=some.shape) for s in (0.5, 1.0)}
    turned = {f"rotated {d}": _rotated(some, d) for d in (30, 60, 90)}
    images = {"test": test, "letters": letters(folder), **turned, **noise}
    return {name: np.clip(x, 0, _BRIGHTEST).astype(np.float32) for name, x in images.items()}


def _rotated(images: Images, degrees: float) -> Images:
    from scipy.ndimage import rotate

    return rotate(images, degrees, axes=(1, 2), reshape=False, order=1)


def _changed(images: Images, degrees: float, pixels: float, shear: float, zoom: float) -> Images:
    layers = keras.layers
    empty = {"fill_mode": "constant"}
    change = keras.Sequential(
        [
            layers.RandomRotation(degrees / 360, **empty),
            layers.RandomTranslation(pixels / 28, pixels / 28, **empty),
            layers.RandomShear(shear, shear, **empty),
            layers.RandomZoom(zoom, **empty),
        ]
    )
    parts = np.array_split(images, -(-len(images) // 1000))
    return np.concatenate([change(part, training=True).numpy() for part in parts]).clip(
        0, _BRIGHTEST
    )


def _mixed(images: Images, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    other = _changed(images, *_STRONG)[rng.permutation(len(images))]
    one = (len(images), 1, 1, 1)
    share = rng.uniform(0.2, 0.8, one).astype(np.float32)
    faded = share * images + (1 - share) * other
    laid_over = np.maximum(images * (rng.uniform(size=one) < 0.5), other)
    return np.where(rng.uniform(size=one) < 0.5, faded, laid_over).astype(np.float32)
