"""Fuzzing: random networks, broken files, bad arguments and kills, for as long as you like.

    python -m tests.fuzz --minutes 10                  # all kinds, two processes
    python -m tests.fuzz --minutes 10 --only networks  # one kind
    python -m tests.fuzz --again                       # the cases that failed, once more
    python -m tests.fuzz --replay networks 17          # one case, here, with all it prints
    python -m tests.fuzz --table                       # what came of all runs so far, in Markdown

A case is a function of its kind and its seed. Results are added to LOG/cases.jsonl; the next run
goes on after the seeds that are there, also when the last one was killed. docs/reliability.md says
what the kinds try and what counts as a failure. The exit code is 1 if a case of the run failed.
"""

import argparse
import pathlib
import sys
import tempfile
import time

import tqdm

from tests.fuzz.kinds import FAILURES, KINDS
from tests.fuzz.log import Log
from tests.fuzz.running import Run, prepared
from tests.fuzz.workers import run_case


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parser().parse_args(arguments)
    if options.replay:
        kind, seed = options.replay
        return _replay(kind, int(seed), pathlib.Path(options.log))
    log = Log(pathlib.Path(options.log))
    if options.table:
        print(log.table())
        return 0
    if options.minutes is None and not options.again:
        _parser().error("say how long: --minutes N (or --again, --replay, --table)")
    kinds = [options.only] if options.only else list(KINDS)
    if options.again:
        cases = log.failures(kinds)
        with _Progress(len(cases), "case") as progress:
            Run(log, sorted({k for k, _ in cases}), 0, progress.ended).these(cases, options.jobs)
    else:
        seconds = 60 * options.minutes
        with _Progress(seconds, "s") as progress:
            run = Run(log, kinds, options.seed, progress.ended)
            run.for_seconds(seconds, options.jobs)
    print(log.table())
    return 1 if progress.failures else 0


class _Progress:
    """A bar, of cases or of seconds, and a line for each failure with the command to repeat it."""

    def __init__(self, total: float, unit: str):
        self.failures = self.cases = 0
        self._of_time = unit == "s"
        # Of the first case: what cases need is made before.
        self._start: float | None = None
        self._bar = tqdm.tqdm(total=round(total), unit=unit)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def ended(self, kind: str, seed: int, case: dict) -> None:
        self.cases += 1
        if case["outcome"] in FAILURES:
            self.failures += 1
            lines = case.get("detail", "").strip().splitlines() or [""]
            self._bar.write(
                f"{case['outcome']}: {kind} {seed} ({case.get('what', '')}): {lines[-1][:200]}\n"
                f"    python -m tests.fuzz --replay {kind} {seed}"
            )
        if self._start is None:
            self._start = time.monotonic()
        passed = round(time.monotonic() - self._start) if self._of_time else self.cases
        self._bar.update(min(passed, self._bar.total) - self._bar.n)
        self._bar.set_postfix(cases=self.cases, failures=self.failures)


def _replay(kind: str, seed: int, log: pathlib.Path) -> int:
    import tests.fuzz.warm  # noqa: F401

    made = prepared(Log(log), kind)
    with tempfile.TemporaryDirectory(prefix="tfbnn-fuzz-") as folder:
        result = run_case(kind, seed, pathlib.Path(folder), made)
    print(f"{kind} {seed}: {result.outcome} ({result.what})\n{result.detail}")
    for name, count in sorted(result.counts.items()):
        print(f"  {count} x {name}")
    return 1 if result.outcome in FAILURES else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="how long to try new cases")
    parser.add_argument("--only", choices=KINDS, help="one kind of case; all by default")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="take seeds from S on (default: 0)"
    )
    parser.add_argument(
        "--log", default=".fuzz", metavar="FOLDER", help="where results are (default: .fuzz)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="processes at a time (default: 2)"
    )
    parser.add_argument("--again", action="store_true", help="try the cases that failed once more")
    parser.add_argument("--table", action="store_true", help="print the table of all runs")
    parser.add_argument(
        "--replay", nargs=2, metavar=("KIND", "SEED"), help="run one case in this process"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
