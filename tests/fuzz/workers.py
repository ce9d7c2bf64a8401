"""Workers: processes that have TensorFlow imported and work on one case after another.

A case may take its process down, or never end: the parent sees it, and the next case gets another
process.
"""

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import pathlib
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any

from tests.fuzz.kinds import CRASHED, FAILED, HUNG, KINDS, UNPROTECTED, Result

# Forked from a process that has imported TensorFlow and never used it: a fork would lose threads.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.fuzz.warm"])
# A process that is told to stop ends in less; one that hangs is killed.
_SECONDS_TO_STOP = 5
_TAIL = 3000


class Worker:
    """A process for the cases of one kind.

    Args:
        kind: Name of the kind.
        folder: Where the worker may write; it must be its own.
        prepared: Where cases find what others have made.
        work: What the process does with the tasks that it is sent.
        seconds: Time limit of a case; that of its kind by default.
    """

    def __init__(
        self,
        kind: str,
        folder: pathlib.Path,
        prepared: pathlib.Path,
        work: Callable[..., None] | None = None,
        seconds: float | None = None,
    ):
        self.kind = kind
        self._work = work or _work
        self._seconds = seconds or KINDS[kind].seconds
        self.folder = folder
        self.prepared = prepared
        self.cases = 0
        self._process: Any = None
        self._connection: Any = None

    def run(self, seed: int) -> tuple[Result, float]:
        """The result of one case, whatever becomes of the process; and the seconds it took."""
        if self._process is None:
            self._start()
        start = time.monotonic()
        self.cases += 1
        self._connection.send(seed)
        result = self._received(seed, self._seconds)
        return result, time.monotonic() - start

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(_SECONDS_TO_STOP)
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._process = None

    def _start(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.cases = 0
        self._connection, theirs = _CONTEXT.Pipe()
        arguments = (theirs, self.kind, str(self.folder), str(self.prepared))
        self._process = _CONTEXT.Process(target=self._work, args=arguments)
        self._process.start()
        theirs.close()

    def _received(self, seed: int, seconds: float) -> Result:
        try:
            if self._connection.poll(seconds):
                return self._connection.recv()
            outcome, detail = HUNG, f"no answer in {seconds} s"
        except (EOFError, OSError):
            self._process.join(_SECONDS_TO_STOP)
            outcome, detail = CRASHED, f"the process ended with code {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._process = None
        printed = (self.folder / "printed.txt").read_text(errors="replace")[-_TAIL:]
        part = KINDS[self.kind].part(seed)
        if part in KINDS[self.kind].unprotected:
            outcome = UNPROTECTED
        return Result(outcome, part, f"{detail}\n{printed}")


def run_case(kind: str, seed: int, folder: pathlib.Path, prepared: pathlib.Path) -> Result:
    """One case in this process. An error that the case did not expect is a failure."""
    try:
        result = KINDS[kind].load().run(seed, folder, prepared)
    except Exception:
        result = Result(FAILED, detail=traceback.format_exc())
    result.what = result.what or KINDS[kind].part(seed)
    return result


def _work(connection: Any, kind: str, folder: str, prepared: str) -> None:
    printed = os.open(f"{folder}/printed.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(printed, stream)
    faulthandler.enable()
    # The server that this is forked from may be another test's, which imports less.
    importlib.import_module("tests.fuzz.warm")
    while (task := connection.recv()) is not None:
        os.ftruncate(printed, 0)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            # What libraries leave behind when they crash lies there as well.
            tempfile.tempdir = own
            os.chdir(own)
            connection.send(run_case(kind, task, pathlib.Path(own), pathlib.Path(prepared)))
            tempfile.tempdir = folder
            os.chdir(folder)
