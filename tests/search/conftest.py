import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name("small_search.py")


@pytest.fixture(scope="session")
def small_search():
    """The module `small_search.py`, which is beside the tests and in no package."""
    specification = importlib.util.spec_from_file_location("small_search", PROGRAM)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def start():
    """Starts `small_search.py` in a process: `start(folder, hold=None, **environment)`.

    What it printed is in `<process>.log`. A process that is still there after the test is killed.
    """
    processes = []

    def start(folder, *hold, **environment):
        log = open(folder.with_suffix(f".{len(processes)}.log"), "w+")
        root = str(PROGRAM.parents[2])
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        processes.append(
            subprocess.Popen(
                [sys.executable, str(PROGRAM), str(folder), *hold],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": paths, **environment},
            )
        )
        processes[-1].log = log
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.log.close()
