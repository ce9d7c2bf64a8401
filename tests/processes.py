"""Processes that need not import TensorFlow, which takes longer than most of what they do.

They are forked from one process that has imported it and has never used it.
"""

import multiprocessing
import os
from collections.abc import Callable

# Not from the process of the tests: there TensorFlow has threads, which a fork would lose.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training.programs", "tests.search.small_search"])


def start(
    function: Callable[..., None], *arguments: str, log: os.PathLike | None = None, **environment
) -> multiprocessing.Process:
    """A process that calls a function of an importable module, and prints to the file `log`."""
    process = _CONTEXT.Process(target=_run, args=(function, arguments, log, environment))
    process.start()
    return process


def _run(function, arguments, log, environment) -> None:
    os.environ.update(environment)
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(file, stream)
    function(*arguments)
