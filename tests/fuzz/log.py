"""The log of all runs: one line of JSON for each case, and the table of what came of them."""

import collections
import dataclasses
import datetime
import json
import pathlib
import threading
from collections.abc import Iterable
from typing import Any

from tests.fuzz.kinds import FAILURES, KINDS, OUTCOMES, Result

_FILE = "cases.jsonl"


class Log:
    """Cases that have ended, in a folder. A run that is killed loses the case it was at.

    Args:
        folder: Where the log is, or will be.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.path = folder / _FILE
        self._lock = threading.Lock()
        # The last result of a seed counts: a failure that was mended is tried again.
        self.cases: dict[tuple[str, int], dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_text(errors="replace").splitlines():
                self._read(line)

    def add(self, kind: str, seed: int, result: Result, seconds: float) -> None:
        """Note what came of a case."""
        case = {"kind": kind, "seed": seed, "seconds": round(seconds, 2)}
        case |= {key: value for key, value in dataclasses.asdict(result).items() if value}
        case["at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self._lock:
            self.cases[kind, seed] = case
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as file:
                # A line that a killed run left without its end.
                if file.tell() and _last_byte(file) != b"\n":
                    file.write(b"\n")
                file.write(json.dumps(case).encode() + b"\n")

    def failures(self, kinds: Iterable[str]) -> list[tuple[str, int]]:
        """Kind and seed of each case that failed."""
        kinds = set(kinds)
        return [
            key
            for key, case in sorted(self.cases.items())
            if key[0] in kinds and case["outcome"] in FAILURES
        ]

    def table(self) -> str:
        """Number of cases of each outcome, in Markdown."""
        groups = collections.defaultdict(list)
        for (kind, _), case in sorted(self.cases.items()):
            groups[kind, case.get("what", "")].append(case)
            groups[kind, "all"].append(case)
        lines = [
            f"| kind | part | cases | {' | '.join(OUTCOMES)} | seeds |",
            "|---|---|" + "---|" * (len(OUTCOMES) + 2),
        ]
        for (kind, part), cases in sorted(groups.items()):
            if part != "all" and len(KINDS[kind].parts) == 1:
                continue
            counts = collections.Counter(case["outcome"] for case in cases)
            numbers = " | ".join(str(counts[outcome]) for outcome in OUTCOMES)
            seeds = _ranges(case["seed"] for case in cases) if part == "all" else ""
            lines.append(f"| {kind} | {part} | {len(cases)} | {numbers} | {seeds} |")
        return "\n".join([*lines, "", *self._counts()])

    def _counts(self) -> list[str]:
        """How often each thing inside a case was done, over all cases."""
        counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        for (kind, _), case in self.cases.items():
            counts[kind].update(case.get("counts", {}))
        lines = []
        for kind, counter in sorted(counts.items()):
            if counter:
                lines += ["", f"| inside {kind} | times |", "|---|---|"]
                lines += [f"| {name} | {number} |" for name, number in sorted(counter.items())]
        return lines

    def _read(self, line: str) -> None:
        try:
            case = json.loads(line)
            self.cases[case["kind"], case["seed"]] = case
        except (ValueError, KeyError, TypeError):
            # The last line of a run that was killed while it wrote.
            return


def _last_byte(file: Any) -> bytes:
    file.seek(-1, 2)
    return file.read(1)


def _ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7` for 1, 2, 3, 7."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
