"""Kills: a process ends at any moment, by SIGKILL; what is left must be whole, and work goes on.

Half of the kills come at a random time. A rename takes microseconds, which no random time hits:
the other half come at a random operation on a file, which Python announces to its audit hooks.
"""

import collections
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from tests.fuzz.kinds import FAILED, KINDS, PASSED, Result, generator
from tests.fuzz.made import made_once
from tests.search import small_search

_RNG = np.random.default_rng(0)
_X = _RNG.normal(size=(24, 5)).astype(np.float32)
_Y = _RNG.integers(0, 3, 24)
_EPOCHS = 3
_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Seconds that no process of a case takes.
_LIMIT = 240
_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink")
_EVENTS += (
    "ctypes.dlsym",
    "shutil.rmtree",
    "shutil.move",
    "shutil.copyfile",
    "os.truncate",
    "os.chmod",
)


def run(seed: int, folder: pathlib.Path, prepared: pathlib.Path) -> Result:
    """One kill, or a few, and what is left.

    This process never uses TensorFlow: its children are forked from it.
    """
    random = generator("kills", seed)
    part = KINDS["kills"].part(seed)
    work = part.split()[0]
    whole = made_once(prepared / work, functools.partial(_make, work))
    facts = json.loads((whole / "facts.json").read_text())
    counts: collections.Counter[str] = collections.Counter()
    overwrites = "over" in part
    if overwrites:
        _copied(whole / "old", folder)
    kills = int(random.integers(1, 4)) if work in ("fit", "search") else 1
    for _ in range(kills):
        at_event = random.random() < 0.5
        moment = (
            int(random.integers(1, facts["events"] + 2))
            if at_event
            else float(random.uniform(0, 1.1) * facts["seconds"])
        )
        killed = _killed(_WORK[work], folder, moment, overwrites)
        how = "at a file operation" if at_event else "at a time"
        counts[f"{work}: killed {how}" if killed else f"{work}: ended before the kill"] += 1
        if not killed and work not in _EXPORTS:
            break
        error = ""
        counts[f"{work}: left in parts"] += _is_in_parts(folder)
        if work in _EXPORTS:
            error = _in_child(_check_export, work, folder, whole, overwrites)
        if error:
            return Result(FAILED, part, f"{how} {moment} of {facts}\n{error}", dict(counts))
    error = _in_child(_finished, work, folder, whole)
    return Result(FAILED if error else PASSED, part, error, dict(+counts))


def _killed(
    work: Callable[..., None], folder: pathlib.Path, moment: int | float, overwrites: bool
) -> bool:
    """Do some work in a child and kill it; whether the kill came before the end."""
    child = os.fork()
    if child == 0:
        # An error of the work itself will come again, when it is finished.
        with contextlib.suppress(Exception), _at_moment(moment):
            work(folder, overwrites)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@contextlib.contextmanager
def _at_moment(moment: int | float) -> Any:
    """Have this process killed at its n-th operation on a file, or after so many seconds."""
    if isinstance(moment, float):
        threading.Thread(target=_kill_after, args=(moment,), daemon=True).start()
        yield
        return
    count = 0

    def hook(event: str, arguments: Any) -> None:
        nonlocal count
        if event in _EVENTS and not _is_of_python(event, arguments):
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    yield


def _kill_after(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_of_python(event: str, arguments: Any) -> bool:
    """Modules that are imported late, and what is only read."""
    path = str(arguments[0]) if arguments else ""
    if event == "open" and len(arguments) > 1:
        mode = arguments[1]
        if isinstance(mode, str) and not set(mode) & set("wax+"):
            return True
        if mode is None and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return True
    return path.endswith((".py", ".pyc", ".so")) or path.startswith(("/proc", "/sys", "/dev"))


def _in_child(function: Callable[..., None], *arguments: Any) -> str:
    """Call a function in a child; its traceback, or nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(_LIMIT)
        try:
            function(*arguments)
        except BaseException:
            os.write(writing, traceback.format_exc()[-4000:].encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if status:
        return text or f"a process ended with status {status}"
    return text


# What is done, each in a folder of its own. ------------------------------------------------------


def _model(seed: int = 1) -> Any:
    # Names of models and layers are in files: they must not depend on what was made before.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    model = tfbnn.Sequential(
        [
            keras.Input((5,)),
            tfbnn.layers.DenseFlipout(6, activation="relu", seed=1),
            keras.layers.Dropout(0.2, seed=2),
            tfbnn.layers.DenseReparameterization(3, kernel_prior="scale_mixture", seed=3),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), loss=_LOSS, run_eagerly=True)
    return model


def _do_fit(folder: pathlib.Path, overwrites: bool) -> None:
    del overwrites
    keras.utils.set_random_seed(1)
    model = _model()
    resume = tfbnn.callbacks.ResumeTraining(folder / "state", every=1)
    model.fit(_X, _Y, batch_size=7, epochs=_EPOCHS, callbacks=[resume], verbose=0)
    np.savez(folder / "weights.npz", *model.get_weights())


def _do_search(folder: pathlib.Path, overwrites: bool) -> None:
    del overwrites
    small_search.run(small_search.opened(folder / "search"), epochs=1)


def _do_export(name: str) -> Callable[[pathlib.Path, bool], None]:
    def export(folder: pathlib.Path, overwrites: bool) -> None:
        exporter, path, options = _EXPORTS[name]
        # The old files are of a larger network than the new ones: sizes in them differ.
        model = _model(2) if overwrites else _model(1)
        getattr(tfbnn.export, exporter)(
            model, folder / path, check_data=_X, overwrite=overwrites, **options
        )

    return export


_EXPORTS = {
    "tflite": ("tflite", "out/model.tflite", {"uncertainty": "moments"}),
    "saved_model": ("saved_model", "out/saved", {"uncertainty": "none"}),
    "c": ("c", "out/network", {}),
}
_WORK = {
    "fit": _do_fit,
    "search": _do_search,
    **{name: _do_export(name) for name in _EXPORTS},
}


def _make(work: str, folder: pathlib.Path) -> None:
    if error := _in_child(_do_whole, work, folder):
        raise RuntimeError(error)


def _do_whole(work: str, folder: pathlib.Path) -> None:
    """Do the work once without a kill; note what came out, and what it took."""
    old, whole = folder / "old", folder / "whole"
    old.mkdir()
    if work in _EXPORTS:
        # Old files lie there, as in half of the cases.
        _WORK[work](old, False)
    _copied(old, whole)
    count = 0

    def hook(event: str, arguments: Any) -> None:
        nonlocal count
        count += event in _EVENTS and not _is_of_python(event, arguments)

    sys.addaudithook(hook)
    start = time.monotonic()
    _WORK[work](whole, work in _EXPORTS)
    facts = {"events": int(count), "seconds": time.monotonic() - start}
    (folder / "facts.json").write_text(json.dumps(facts))


# What must be true after a kill, and in the end. -------------------------------------------------


def _check_export(
    work: str, folder: pathlib.Path, prepared: pathlib.Path, overwrites: bool
) -> None:
    """Nothing or a whole export; of an overwritten one the old or the new."""
    out, states = folder / "out", [prepared / state / "out" for state in ("old", "whole")]
    visible, whole = _visible(out), _visible(states[0])
    if not visible and not overwrites:
        return
    if _is_in_parts(folder):
        _check_parts(work, out, states, overwrites)
        return
    if visible != whole:
        raise AssertionError(f"{visible} in place of {whole}")
    found = _read(work, out)
    if found not in [_read(work, state) for state in states]:
        raise AssertionError(f"neither the old nor the new files: {sorted(found)}")


def _is_in_parts(folder: pathlib.Path) -> bool:
    """Whether new files are complete, and some of them not yet in their places."""
    return any(folder.rglob(".*.unfinished/whole"))


def _check_parts(
    work: str, out: pathlib.Path, states: list[pathlib.Path], overwrites: bool
) -> None:
    """No file is lost or half written, and a reader says that they do not belong together."""
    if overwrites and _visible(out) != _visible(states[0]):
        raise AssertionError(f"{_visible(out)} is not all that was there")
    if work != "saved_model":
        for name in _visible(out):
            if not any(_same(out, state, name) for state in states):
                raise AssertionError(f"{name} is neither the old nor the new one")
    try:
        found = _read(work, out)
    except (ValueError, FileNotFoundError):
        return
    if work != "c" and found not in [_read(work, state) for state in states]:
        raise AssertionError(f"other answers from files that are in parts: {sorted(found)}")


def _same(one: pathlib.Path, other: pathlib.Path, name: str) -> bool:
    return (one / name).read_bytes() == (other / name).read_bytes()


def _finished(work: str, folder: pathlib.Path, prepared: pathlib.Path) -> None:
    """The same work, not killed, comes to the same end as if nothing had happened."""
    _WORK[work](folder, True)
    left = [str(p) for p in folder.rglob("*") if p.name.startswith(".") or "unfinished" in p.name]
    if left:
        raise AssertionError(f"left behind: {left}")
    if work == "fit":
        found, expected = (np.load(p / "weights.npz") for p in (folder, prepared / "whole"))
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
    elif work == "search":
        found, expected = (_trials(p / "search") for p in (folder, prepared / "whole"))
        if found != expected:
            raise AssertionError(f"trials {found} in place of {expected}")
    elif _read(work, folder / "out") != _read(work, prepared / "whole" / "out"):
        raise AssertionError("another export than without the kill")


def _trials(folder: pathlib.Path) -> list[Any]:
    tuner = small_search.opened(folder)
    return [
        (name, sorted(trial.hyperparameters.values.items()), trial.score, trial.status)
        for name, trial in sorted(tuner.oracle.trials.items())
    ]


def _read(work: str, out: pathlib.Path) -> dict[str, bytes]:
    """What an export holds: its answers, or where those would take a compiler, its text."""
    if work == "c":
        return {name: (out / name).read_bytes() for name in _visible(out)}
    if work == "tflite":
        answers = tfbnn.lite.Model(out / "model.tflite").predict(_X).outputs
        json.loads((out / "model.tflite.json").read_text())
    else:
        loaded = tf.saved_model.load(str(out / "saved"))
        answers = loaded.signatures["serving_default"](inputs=tf.constant(_X))
        json.loads((out / "saved.json").read_text())
    return {name: np.asarray(value).tobytes() for name, value in answers.items()}


def _visible(folder: pathlib.Path) -> list[str]:
    """The files in a folder, without those that are hidden."""
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    return sorted(str(n) for n in names if not any(part.startswith(".") for part in n.parts))


def _copied(source: pathlib.Path, target: pathlib.Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
