"""Broken files: each reader answers as for the whole file, or names the file in a clear error."""

import dataclasses
import pathlib
import re
import shutil
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

import tfbnn
from tests.export import flat
from tests.fuzz import damage
from tests.fuzz.kinds import FAILED, KINDS, PASSED, REFUSED, UNSEEN, Result, generator
from tests.fuzz.made import made_once
from tests.search import small_search

_X = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
_Y = np.array([0, 1, 2, 0, 1, 2])
_LOG_FILE = "sigma.csv"


def run(seed: int, folder: pathlib.Path, prepared: pathlib.Path) -> Result:
    """One broken file, through its reader."""
    random = generator("files", seed)
    part = KINDS["files"].part(seed)
    broken = _broken(part, random, folder, _whole(part, prepared))
    names = [file.name for file in broken]
    try:
        found = _READERS[part.split()[0]].read(folder, _source(part, names))
    except Exception as error:
        return _judged(part, error, broken)
    expected = _expected(part, prepared, names)
    if _equal(found, expected):
        return Result(PASSED, part)
    # Nothing in these says what they should hold.
    carries_no_checksum = part.split()[-1] in ("alone", "contents", _LOG_FILE, "search")
    if carries_no_checksum:
        return Result(UNSEEN, part)
    return Result(FAILED, part, f"{names}: {found} in place of {expected}")


_TFLITE = {
    "moments.tflite": {"uncertainty": "moments"},
    "ensemble.tflite": {"uncertainty": "ensemble", "precision": "int8"},
    "none.tflite": {"uncertainty": "none", "precision": "float16"},
}
_answers: dict[tuple[str, ...], Any] = {}


def _make_keras(folder: pathlib.Path) -> None:
    _trained().save(folder / "model.keras")


def _make_tflite(folder: pathlib.Path) -> None:
    for name, options in _TFLITE.items():
        flat.tflite(_trained(), folder / name, check_data=_X, num_samples=2, **options)


def _make_search(folder: pathlib.Path) -> None:
    # One less than `_read_search` asks for, so that there is something to go on with.
    tuner = small_search.opened(folder / "search", max_trials=small_search.TRIALS - 1)
    small_search.run(tuner, epochs=1)


def _whole(part: str, prepared: pathlib.Path) -> pathlib.Path:
    """The folder of a whole file of the kind that a part is about."""
    kind = _READERS[part.split()[0]]
    return made_once(prepared / kind.name, kind.make)


def _expected(part: str, prepared: pathlib.Path, names: Sequence[str]) -> Any:
    """What the reader says of the whole files; read once in a process."""
    kind, name = _READERS[part.split()[0]], _source(part, names)
    if (kind.name, name) not in _answers:
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(_whole(part, prepared), copy, dirs_exist_ok=True)
            _answers[kind.name, name] = kind.read(pathlib.Path(copy), name)
    return _answers[kind.name, name]


def _source(part: str, names: Sequence[str]) -> str:
    """The file that is opened; a manifest is read with the file that it stands beside."""
    return names[0].removesuffix(".json") if "tflite" in names[0] else names[0]


def _broken(
    part: str, random: np.random.Generator, folder: pathlib.Path, whole: pathlib.Path
) -> list[pathlib.Path]:
    """Copy the files of a part to the folder, and damage one; the damaged files."""
    if part == "search":
        shutil.copytree(whole / "search", folder / "search")
        files = sorted((folder / "search").rglob("*.json"))
        file = files[random.integers(len(files))]
        _damage(random, file, damage.damaged_json if random.random() < 0.5 else None)
        return [file]
    if part.startswith(("tflite", "manifest")):
        return _broken_tflite(part, random, folder, whole)
    name = {"keras": "model.keras", "state": "training.npz"}.get(part.split()[0], _LOG_FILE)
    shutil.copy(whole / name, folder / name)
    _damage(random, folder / name, damage.damaged_archive if "contents" in part else None)
    return [folder / name]


def _broken_tflite(
    part: str, random: np.random.Generator, folder: pathlib.Path, whole: pathlib.Path
) -> list[pathlib.Path]:
    name = list(_TFLITE)[random.integers(len(_TFLITE))]
    file, manifest = folder / name, folder / f"{name}.json"
    shutil.copy(whole / name, file)
    if part != "tflite alone":
        shutil.copy(whole / manifest.name, manifest)
    broken = []
    if part.startswith("tflite"):
        _damage(random, file, None)
        broken.append(file)
    if part.endswith("manifest"):
        _damage(random, manifest, damage.damaged_json if random.random() < 0.6 else None)
        broken.append(manifest)
    return broken


def _damage(random: np.random.Generator, file: pathlib.Path, how: Any) -> None:
    content = file.read_bytes()
    if how is None:
        others = [p.read_bytes() for p in sorted(file.parent.iterdir()) if p.is_file()]
        content = damage.damaged(random, content, others)
    else:
        content = how(random, content)
    file.write_bytes(content)


def _judged(part: str, error: Exception, broken: list[pathlib.Path]) -> Result:
    """An error is clear if it is of the expected class and names what is damaged."""
    # Of a log or a search, the folder will do.
    names = {name for file in broken for name in (file.name, str(file.parent))}
    if isinstance(error, ValueError | OSError) and any(name in str(error) for name in names):
        return Result(REFUSED, part)
    # Of a class that is not known, what Keras says of it.
    notes = " ".join(getattr(error, "__notes__", []))
    of_keras = re.search("could not (locate|deserialize)", str(error), re.IGNORECASE)
    if of_keras and any(name in notes for name in names):
        return Result(REFUSED, part)
    kept = traceback.format_exception(error)
    return Result(FAILED, part, f"{[f.name for f in broken]}\n{''.join(kept)[-3000:]}")


def _equal(found: Any, expected: Any) -> bool:
    """Whether two structures of lists, tuples and arrays hold the same, NaN like NaN."""
    if isinstance(found, list | tuple):
        same = type(found) is type(expected) and len(found) == len(expected)
        return same and all(map(_equal, found, expected))
    return np.array_equal(found, expected, equal_nan=np.asarray(found).dtype.kind == "f")


def _model() -> Any:
    keras.utils.set_random_seed(1)
    model = tfbnn.Sequential(
        [
            keras.Input((5,)),
            tfbnn.layers.DenseFlipout(4, activation="relu", kernel_prior="scale_mixture", seed=1),
            keras.layers.BatchNormalization(),
            tfbnn.layers.DenseReparameterization(3, seed=2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Eagerly: every case would trace its own model.
    model.compile(keras.optimizers.Adam(0.01), loss=loss, run_eagerly=True)
    return model


def _trained() -> Any:
    model = _model()
    model.fit(_X, _Y, epochs=2, verbose=0)
    return model


def _read_keras(folder: pathlib.Path, name: str) -> list[np.ndarray]:
    keras.utils.clear_session(free_memory=False)
    model = tfbnn.load_model(folder / name)
    return [np.asarray(model(_X)), *map(np.asarray, model.weights)]


def _read_tflite(folder: pathlib.Path, name: str) -> list[np.ndarray]:
    answer = tfbnn.lite.Model(folder / name).predict(_X)
    return [answer.outputs[key] for key in sorted(answer.outputs)]


def _read_state(folder: pathlib.Path, name: str) -> list[np.ndarray]:
    del name
    return [np.asarray(weight) for weight in _fit(folder, epochs=2).weights]


def _fit(folder: pathlib.Path, epochs: int) -> Any:
    """Fit, or go on from the state in the folder."""
    keras.utils.clear_session(free_memory=False)
    model = _model()
    resume = tfbnn.callbacks.ResumeTraining(folder, every=1, keep=True)
    model.fit(_X, _Y, batch_size=2, epochs=epochs, callbacks=[resume], verbose=0)
    return model


def _read_log(folder: pathlib.Path, name: str) -> list[Any]:
    before = (folder / name).read_bytes()
    _logged(folder)
    after = (folder / name).read_bytes()
    if not after.startswith(before):
        raise AssertionError("rows of the earlier log are lost")
    # The picture and the steps depend on what was read.
    return after[len(before) :].decode().split("\n")


def _logged(folder: pathlib.Path) -> None:
    keras.utils.clear_session(free_memory=False)
    logger = tfbnn.callbacks.SigmaLogger(folder, append=True, tensorboard=False, picture=False)
    _model().fit(_X, _Y, epochs=1, callbacks=[logger], verbose=0)


def _read_search(folder: pathlib.Path, name: str) -> list[Any]:
    del name
    tuner = small_search.opened(folder / "search")
    small_search.run(tuner, epochs=1)
    trials = sorted(tuner.oracle.trials.items())
    return [
        (key, sorted(trial.hyperparameters.values.items()), trial.score) for key, trial in trials
    ]


@dataclasses.dataclass(frozen=True)
class Reader:
    """A public reader, and how a file that it reads is made."""

    name: str
    read: Callable[[pathlib.Path, str], Any]
    make: Callable[[pathlib.Path], None]


_READERS = {
    "keras": Reader("keras", _read_keras, _make_keras),
    "tflite": Reader("tflite", _read_tflite, _make_tflite),
    "manifest": Reader("tflite", _read_tflite, _make_tflite),
    "state": Reader("state", _read_state, lambda folder: _fit(folder, epochs=1)),
    _LOG_FILE: Reader("log", _read_log, lambda folder: _logged(folder)),
    "search": Reader("search", _read_search, _make_search),
}
