"""One contender in a process of its own, which does what lines on its standard input say.

A process for each makes memory and the first step comparable, and lets libraries that cannot live
together be measured in turns. `measuring.Worker` is the other end.
"""

import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    """Build what the argument says, then answer one line with one line."""
    case = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the error output
    module = __import__(f"contenders.{case['contender']}", fromlist=["Contender"])
    imported = _resident("VmRSS")
    start = time.perf_counter()
    contender = module.Contender(case)
    built = time.perf_counter()
    task = case.get("task", "step")
    rows = _rows(case) if task == "predict" else None
    _do(contender, task, rows)
    first = {"build_seconds": built - start, "first_seconds": time.perf_counter() - built}
    print(json.dumps(first), file=answers, flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "run":
            answer: Any = _times(contender, task, rows, int(arguments[0]))
        elif command == "fit":
            answer = _fit_time(contender, int(arguments[0]))
        elif command == "memory":
            answer = _peak_memory(contender, task, rows, imported)
        else:
            answer = contender.describe()
        print(json.dumps(answer), file=answers, flush=True)


def _do(contender: Any, task: str, rows: Any) -> None:
    if task == "predict":
        contender.predict(rows)
    else:
        contender.step()


def _times(contender: Any, task: str, rows: Any, repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        _do(contender, task, rows)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def _fit_time(contender: Any, steps: int) -> float:
    """Milliseconds per step of `fit`, the median of three; a first one is not counted."""
    contender.fit(steps)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        contender.fit(steps)
        times.append(1e3 * (time.perf_counter() - start) / steps)
    return statistics.median(times)


def _peak_memory(contender: Any, task: str, rows: Any, imported: int) -> int | None:
    """Largest resident bytes while running, above what the imports took; None if unknown."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak of compilation
    except OSError:
        return None
    for _ in range(1 if task == "predict" else 5):
        _do(contender, task, rows)
    return _resident("VmHWM") - imported


def _resident(name: str) -> int:
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.split(f"{name}:")[1].split()[0])


def _rows(case: dict[str, Any]) -> Any:
    import networks
    import numpy as np

    shape = networks.input_shape(case["network"])
    return np.random.default_rng(1).normal(size=(case["rows"], *shape)).astype("float32")


if __name__ == "__main__":
    main()
