"""Broken files: each reader answers as for the whole file, or names the file in a clear error."""

import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

import tfbnn
from tests.fuzz import damage
from tests.fuzz.kinds import FAILED, KINDS, PASSED, REFUSED, UNSEEN, Result, generator
from tests.search import small_search

_X = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
_Y = np.array([0, 1, 2, 0, 1, 2])
_LOG_FILE = "sigma.csv"


def prepare(folder: pathlib.Path) -> None:
    """Write one whole file of each kind."""
    model = _model()
    model.fit(_X, _Y, epochs=2, verbose=0)
    model.save(folder / "model.keras")
    for name, options in _TFLITE.items():
        tfbnn.export.tflite(model, folder / name, check_data=_X, num_samples=2, **options)
    _fit(folder, epochs=1)
    _logged(folder)
    small_search.run(small_search.opened(folder / "search"), epochs=1)


def run(seed: int, folder: pathlib.Path, prepared: pathlib.Path) -> Result:
    """One broken file, through its reader."""
    random = generator("files", seed)
    part = KINDS["files"].part(seed)
    broken = _broken(part, random, folder, prepared)
    names = [file.name for file in broken]
    read = _READERS[part.split()[0]]
    try:
        found = read(folder, _source(part, names))
    except Exception as error:
        return _judged(part, error, broken)
    expected = _expected(part, read, prepared, names)
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


def _expected(part: str, read: Callable, prepared: pathlib.Path, names: Sequence[str]) -> Any:
    """What the reader says of the whole files; read once in a process."""
    name = _source(part, names)
    key = (part.split()[0], name)
    if key not in _answers:
        copy = prepared.with_name(f"{prepared.name}-read-{id(_answers)}")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(prepared, copy)
        _answers[key] = read(copy, name)
        shutil.rmtree(copy)
    return _answers[key]


def _source(part: str, names: Sequence[str]) -> str:
    """The file that is opened; a manifest is read with the file that it stands beside."""
    return names[0].removesuffix(".json") if "tflite" in names[0] else names[0]


def _broken(
    part: str, random: np.random.Generator, folder: pathlib.Path, prepared: pathlib.Path
) -> list[pathlib.Path]:
    """Copy the files of a part to the folder, and damage one; the damaged files."""
    if part == "search":
        shutil.copytree(prepared / "search", folder / "search")
        files = sorted((folder / "search").rglob("*.json"))
        file = files[random.integers(len(files))]
        _damage(random, file, damage.damaged_json if random.random() < 0.5 else None)
        return [file]
    if part.startswith(("tflite", "manifest")):
        return _broken_tflite(part, random, folder, prepared)
    name = {"keras": "model.keras", "state": "training.npz"}.get(part.split()[0], _LOG_FILE)
    shutil.copy(prepared / name, folder / name)
    _damage(random, folder / name, damage.damaged_archive if "contents" in part else None)
    return [folder / name]


def _broken_tflite(
    part: str, random: np.random.Generator, folder: pathlib.Path, prepared: pathlib.Path
) -> list[pathlib.Path]:
    name = list(_TFLITE)[random.integers(len(_TFLITE))]
    file, manifest = folder / name, folder / f"{name}.json"
    shutil.copy(prepared / name, file)
    if part != "tflite alone":
        shutil.copy(prepared / manifest.name, manifest)
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
    named = any(file.name in str(error) for file in broken)
    if part == "search":
        # keras-tuner's files belong together; an error may name the folder.
        named = named or str(broken[0].parent) in str(error)
    if isinstance(error, ValueError | OSError) and named:
        return Result(REFUSED, part)
    import traceback

    kept = traceback.format_exception(error)
    return Result(FAILED, part, f"{[f.name for f in broken]}\n{''.join(kept)[-3000:]}")


def _equal(found: Any, expected: Any) -> bool:
    return len(found) == len(expected) and all(
        np.array_equal(one, other) for one, other in zip(found, expected, strict=True)
    )


def _model() -> Any:
    keras.utils.set_random_seed(1)
    model = tfbnn.Sequential(
        [
            keras.Input((5,)),
            tfbnn.layers.DenseFlipout(4, activation="relu", prior="scale_mixture", seed=1),
            keras.layers.BatchNormalization(),
            tfbnn.layers.DenseReparameterization(3, seed=2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Eagerly: every case would trace its own model.
    model.compile(keras.optimizers.Adam(0.01), loss=loss, run_eagerly=True)
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


_READERS = {
    "keras": _read_keras,
    "tflite": _read_tflite,
    "manifest": _read_tflite,
    "state": _read_state,
    _LOG_FILE: _read_log,
    "search": _read_search,
}
