"""Runs: jobs that work on cases until the time is over, and note what comes of them."""

import contextlib
import itertools
import pathlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tests.fuzz.kinds import KINDS
from tests.fuzz.log import Log
from tests.fuzz.made import version
from tests.fuzz.workers import Worker

Report = Callable[[str, int, dict], None]


class Run:
    """Cases of several kinds, in several processes.

    Args:
        log: Where results go; seeds that are in it are not tried again.
        kinds: Names of the kinds; each gets its share of the time.
        first_seed: Seeds are taken from here on.
        report: Called with kind, seed and the logged case after each.
    """

    def __init__(self, log: Log, kinds: Sequence[str], first_seed: int, report: Report):
        self.log = log
        self.kinds = list(kinds)
        self.report = report
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(kinds, 0.0)
        self._seeds = {kind: self._new_seeds(kind, first_seed) for kind in kinds}

    def for_seconds(self, seconds: float, jobs: int) -> None:
        """Work on new seeds for a time."""
        end = time.monotonic() + seconds
        self._work(jobs, lambda: self._next_stint(end), lambda: time.monotonic() < end)

    def these(self, cases: Sequence[tuple[str, int]], jobs: int) -> None:
        """Work on given cases, whether or not they are in the log."""
        stints = [
            (kind, [seed for other, seed in cases if other == kind])
            for kind in self.kinds
            if any(other == kind for other, _ in cases)
        ]
        self._work(jobs, lambda: stints.pop() if stints else None, lambda: True)

    def _work(self, jobs: int, next_stint: Callable, go_on: Callable[[], bool]) -> None:
        with tempfile.TemporaryDirectory(prefix="tfbnn-fuzz-") as name:
            folder = pathlib.Path(name)
            threads = [
                threading.Thread(
                    target=self._job, args=(folder, str(number), next_stint, go_on), daemon=True
                )
                for number in range(jobs)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _job(self, folder: pathlib.Path, name: str, next_stint: Callable, go_on: Callable) -> None:
        while True:
            with self._lock:
                stint = next_stint()
            if stint is None:
                return
            kind, seeds = stint
            worker = Worker(kind, folder / name, prepared(self.log, kind))
            with contextlib.ExitStack() as stack:
                stack.callback(worker.stop)
                for seed in seeds:
                    if not go_on():
                        return
                    result, seconds = worker.run(seed)
                    if worker.cases >= KINDS[kind].cases_per_process:
                        worker.stop()
                    self.log.add(kind, seed, result, seconds)
                    with self._lock:
                        self._seconds[kind] += seconds
                        self.report(kind, seed, self.log.cases[kind, seed])

    def _next_stint(self, end: float) -> tuple[str, Iterator[int]] | None:
        """As many cases as one process takes, of the kind that is farthest behind its share."""
        if time.monotonic() >= end:
            return None
        kind = min(self.kinds, key=lambda name: self._seconds[name] / KINDS[name].share)
        # So that the other jobs look elsewhere, until the real seconds are known.
        self._seconds[kind] += 1.0
        return kind, list(itertools.islice(self._seeds[kind], KINDS[kind].cases_per_process))

    def _new_seeds(self, kind: str, first: int) -> Iterator[int]:
        return (seed for seed in itertools.count(first) if (kind, seed) not in self.log.cases)


def prepared(log: Log, kind: str) -> pathlib.Path:
    """Where the cases of a kind find what others have made, with the same code."""
    folder = log.folder / "prepared" / version() / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
