import pytest

from tests import processes
from tests.search import small_search as program


@pytest.fixture(scope="session")
def small_search():
    """The module `small_search.py`."""
    return program


@pytest.fixture
def start():
    """Runs `small_search.main` in a process: `start(folder, hold=None, **environment)`.

    What it printed is in the file `process.log`. A process that is still there after the test is
    killed.
    """
    started = []

    def start(folder, *hold, **environment):
        log = folder.with_suffix(f".{len(started)}.log")
        process = processes.start(program.main, str(folder), *hold, log=log, **environment)
        process.log = log
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
