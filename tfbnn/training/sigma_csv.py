"""The file `sigma.csv`: one row for each random weight tensor and each time."""

import csv
import os
from typing import Any, TextIO

Records = list[tuple[int, dict[str, dict[str, float]]]]
"""What was logged: `(step, {weight name: statistics})`, in the order of time."""


class SigmaFile:
    """Rows `step, epoch, layer, weight, <statistics>`; rows are added, never replaced."""

    def __init__(self, path: str, statistics: list[str]):
        self.path = path
        self.statistics = statistics
        self.columns = ["step", "epoch", "layer", "weight", *statistics]

    def read(self) -> Records:
        """What the file holds; nothing if there is no file.

        It is a `ValueError` if it has other columns, or a line that is not its own, which is named.
        """
        if not os.path.exists(self.path):
            return []
        by_step: dict[int, dict[str, dict[str, float]]] = {}
        # What is not UTF-8 is no number either, and is then named with its line.
        with open(self.path, newline="", encoding="utf-8", errors="replace") as file:
            lines = csv.reader(file)
            columns = next(lines, [])
            if columns != self.columns:
                raise ValueError(
                    "The file has other columns than this log, so its rows cannot be continued; "
                    f"choose another `log_dir`. Received: {self.path} with columns={columns}, "
                    f"expected {self.columns}"
                )
            try:
                for line in lines:
                    if len(line) != len(columns):
                        # The last line of a run that was killed while it wrote.
                        continue
                    values = zip(self.statistics, map(float, line[4:]), strict=True)
                    by_step.setdefault(int(line[0]), {})[f"{line[2]}/{line[3]}"] = dict(values)
            except (ValueError, csv.Error) as error:
                raise ValueError(
                    f"The log {self.path} is damaged in line {lines.line_num}; choose another "
                    f"`log_dir`. Received: {error}"
                ) from error
        return sorted(by_step.items(), key=lambda item: item[0])

    def add(self, step: int, epoch: int, statistics: dict[str, dict[str, float]]) -> None:
        """Add a row for each weight tensor."""
        rows: list[list[Any]] = []
        for name, values in statistics.items():
            layer, weight = name.rsplit("/", 1)
            numbers = [f"{values[statistic]:.6g}" for statistic in self.statistics]
            rows.append([step, epoch, layer, weight, *numbers])
        with open(self.path, "a+", newline="", encoding="utf-8") as file:
            if file.tell() == 0:
                rows.insert(0, self.columns)
            elif _is_cut_off(file):
                file.write("\n")
            csv.writer(file, lineterminator="\n").writerows(rows)


def _is_cut_off(file: TextIO) -> bool:
    """Whether the last line has no end. Leaves the position where the next text is added."""
    size = file.tell()
    file.seek(size - 1)
    return file.read(1) != "\n"
