"""Exports that kill their own process at one of their steps; a program of its own.

It imports one file of the package alone: a process without TensorFlow forks in no time.

The steps are what Python reports to audit hooks: whenever something is opened, made, renamed or
removed.
"""

import importlib.util
import os
import pathlib
import signal
import subprocess
import sys

_PATH = pathlib.Path(__file__).parents[2] / "tfbnn" / "export" / "files.py"
_SPEC = importlib.util.spec_from_file_location("files_alone", _PATH)
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)

SETS = {
    "file": ("m.tflite", "m.tflite.json"),
    "c": ("net.c", "net.h", "Makefile", "test_net.c", "net.json"),
    "folder": ("m", "m.json"),
}
_STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "ctypes.dlsym", "shutil.rmtree")


def write(folder: pathlib.Path, kind: str, text: str, overwrite: bool = True) -> None:
    """Write one of `SETS`, each file of it with the same text."""
    targets = [folder / name for name in SETS[kind]]
    with files.written_whole(targets, overwrite) as paths:
        for path in paths:
            if path.name != "m":
                path.write_text(text)
            else:
                (path / "variables").mkdir(parents=True)
                for part in ("saved_model.pb", "variables/data"):
                    (path / part).write_text(text)


def contents(folder: pathlib.Path) -> dict[str, str]:
    """All files below a folder, and empty folders, that a user sees or does not see."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file():
            found[name] = path.read_text()
        elif not list(path.iterdir()):
            found[name] = "an empty folder"
    return found


def table(root: str, kind: str, old: str, exchange: str) -> None:
    """Export into `root/0`, `root/1`, ..., and be killed at that step, until an export ends."""
    if exchange == "no":
        files._exchange = lambda *_: False
    step = 0
    while _killed(pathlib.Path(root) / str(step), kind, old, step):
        step += 1


def _killed(folder: pathlib.Path, kind: str, old: str, step: int) -> bool:
    folder.mkdir()
    if old:
        write(folder, kind, old)
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    sys.addaudithook(_Killer(step))
    write(folder, kind, "new")
    os._exit(0)


class _Killer:
    def __init__(self, step: int):
        self._left = step

    def __call__(self, event: str, arguments: tuple) -> None:
        del arguments
        if event in _STEPS:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1


def hold(folder: str, ready: str) -> None:
    """Begin an export, say so, and wait to be killed."""
    with files.written_whole([pathlib.Path(folder) / "m.tflite"], True) as (path,):
        path.write_text("half")
        pathlib.Path(ready).touch()
        signal.pause()


def write_file(folder: str) -> None:
    """Write a file and its manifest."""
    write(pathlib.Path(folder), "file", "new")


def start(function: str, *arguments: object) -> subprocess.Popen:
    """Call a function of this module in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, function, *map(str, arguments)])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
