"""Where the log of a run goes: into `log_dir`, or beside the logs of the runs that are there."""

import contextlib
import os
import re
from typing import NamedTuple

from tfbnn.training.sigma_csv import Records, SigmaFile

LOG, PICTURE = "sigma.csv", "sigma.png"


class Run(NamedTuple):
    """The log of one run, and what an earlier `fit` has written to it."""

    file: SigmaFile
    records: Records


def find_run(
    log_dir: str,
    statistics: list[str],
    tensors: set[str],
    step: int,
    append: bool = False,
    claim: bool = True,
) -> Run:
    """The log that this `fit` continues, or a place of its own for a new one.

    Runs are in `log_dir`, `log_dir/run_2`, `log_dir/run_3` and so on: TensorBoard takes each folder
    for a run, and draws no line from the end of one to the start of another. A log of the same
    `tensors` that ends at `step`, where the model was when this `fit` began, is its own; `append`
    continues the last log, whosever it is; `claim` makes the file of a new log at once, so that no
    other process takes its place.

    Raises:
        ValueError: If the log to be appended to has other columns.
    """
    there = _runs(log_dir)
    if append:
        file = _file(log_dir, max(there, default=1), statistics)
        return Run(file, file.read())
    for number in reversed(there):
        file = _file(log_dir, number, statistics)
        with contextlib.suppress(ValueError):
            records = file.read()
            if step > 0 and records and records[-1][0] == step and set(records[-1][1]) == tensors:
                return Run(file, records)
    return _new_run(log_dir, max(there, default=0) + 1, statistics, claim)


def _new_run(log_dir: str, number: int, statistics: list[str], claim: bool) -> Run:
    file = _file(log_dir, number, statistics)
    os.makedirs(os.path.dirname(file.path), exist_ok=True)
    try:
        if claim:
            open(file.path, "x").close()
    except FileExistsError:
        # Another process looked at the same time, and was quicker.
        return _new_run(log_dir, number + 1, statistics, claim)
    return Run(file, [])


def _runs(log_dir: str) -> list[int]:
    """Numbers of the runs that are there, rising."""
    matches = [re.fullmatch(r"\.|run_([1-9]\d*)", folder) for folder in (".", *os.listdir(log_dir))]
    return sorted(
        int(match[1] or 1)
        for match in matches
        if match and any(os.path.exists(os.path.join(log_dir, match[0], f)) for f in (LOG, PICTURE))
    )


def _file(log_dir: str, number: int, statistics: list[str]) -> SigmaFile:
    folder = log_dir if number == 1 else os.path.join(log_dir, f"run_{number}")
    return SigmaFile(os.path.join(folder, LOG), statistics)
