"""What running a file costs: time in turns with all others, and memory in a process of its own."""

import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import tqdm
from ai_edge_litert.interpreter import Interpreter

_MEASUREMENTS = 200
# Loads the file named by its argument, runs it once and prints by how many bytes the process grew.
# Not `getrusage`: its maximum goes back to the process that started this one. Linux only.
_MEMORY = """
import re, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
def status(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
start = status("VmRSS")
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
print(status("VmHWM") - start)
"""


def litert(path: str, row: np.ndarray) -> Callable[[], float]:
    """Median microseconds of a call, one thread and one row."""
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row)

    def measure() -> float:
        times = []
        for _ in range(_MEASUREMENTS):
            start = time.perf_counter()
            interpreter.invoke()
            times.append(time.perf_counter() - start)
        return 1e6 * statistics.median(times)

    return measure


def in_turns(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each measured in each round."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    for _ in tqdm.tqdm(range(rounds), desc="latency", unit="round"):
        for name, measure in measures.items():
            times[name].append(measure())
    return times


def peak_memory(path: pathlib.Path) -> int:
    """Bytes by which a process grows that loads a LiteRT file and runs it."""
    command = [sys.executable, "-c", _MEMORY, str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
