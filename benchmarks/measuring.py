"""Measuring contenders in turns, so that a machine that slows down slows all of them."""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import tqdm

_WORKER = pathlib.Path(__file__).with_name("worker.py")


class Worker:
    """A contender's process. Its first step is done when the constructor returns."""

    def __init__(
        self,
        case: dict[str, Any],
        python: str = sys.executable,
        worker: pathlib.Path = _WORKER,
    ):
        self.case = case
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, str(worker), json.dumps(case)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.first = self._answer()
        self.times: list[list[float]] = []

    def ask(self, line: str) -> Any:
        """The worker's answer to one line."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._errors.close()

    @property
    def median(self) -> float:
        """Median milliseconds over all rounds."""
        return statistics.median(time for round_ in self.times for time in round_)

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            self._errors.seek(0)
            message = f"{self.case} ended: {self._errors.read().splitlines()[-1:]}"
            self._errors.close()
            raise RuntimeError(message)
        return json.loads(line)


def arguments(description: str, network: list[str], rounds: int) -> argparse.ArgumentParser:
    """The options that every comparison has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=network, help="mlp, lenet")
    parser.add_argument("--width", type=int, default=1200, help="units of the MLP's hidden layers")
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each contender")
    parser.add_argument("--peers", nargs="*", default=["tfp_layers", "bayesian_torch"])
    parser.add_argument("--torch-python", help="an interpreter that has bayesian-torch")
    parser.add_argument("--json", metavar="PATH", help="write all numbers")
    return parser


def pythons(settings: argparse.Namespace) -> dict[str, str]:
    """The interpreter of each contender that does not run in this one."""
    return {"bayesian_torch": settings.torch_python} if settings.torch_python else {}


def start(cases: list[dict[str, Any]], pythons: dict[str, str]) -> list[Worker]:
    """A worker for each case, one after the other; those that cannot run are named and left out."""
    workers = []
    for case in tqdm.tqdm(cases, desc="start", unit="contender"):
        try:
            workers.append(Worker(case, pythons.get(case["contender"], sys.executable)))
        except RuntimeError as error:
            tqdm.tqdm.write(f"skipped: {error}")
    return workers


def take_turns(workers: list[Worker], rounds: int, repeats: int, warm_up: int = 2) -> None:
    """`rounds` times, let each worker run `warm_up` uncounted and `repeats` counted times."""
    for _ in tqdm.tqdm(range(rounds), desc="measure", unit="round"):
        for worker in workers:
            worker.times.append(worker.ask(f"run {warm_up + repeats}")[warm_up:])


def ratio(worker: Worker, base: Worker) -> float:
    """Median over the rounds of the ratio of the two medians in a round."""
    pairs = zip(worker.times, base.times, strict=True)
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs)


def fastest(workers: list[Worker]) -> Worker:
    """The worker with the smallest median."""
    return min(workers, key=lambda worker: worker.median)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "threads": {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")},
    }


def table(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
