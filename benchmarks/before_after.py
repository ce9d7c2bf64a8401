"""Training steps and device files of two checkouts of this repository, in turns.

    git worktree add ../before <commit>
    python benchmarks/before_after.py --before ../before

A process for each checkout; a ratio is the median of the ratios within a turn, after over before.
The files are those of one untrained network, whose `.keras` file the older checkout has written.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import measuring
import networks
import numpy as np
import train_step
from measuring import Worker

HERE = pathlib.Path(__file__).parents[1]
MODES = ("none", "moments", "monte_carlo", "ensemble")
CALLS = 30
# What both checkouts understand.
WRITE = """
import sys, keras, tfbnn
shape = (784,) if sys.argv[2] == "mlp" else (28, 28, 1)
hidden = [tfbnn.layers.DenseFlipout(400, activation="relu") for _ in range(2)]
if sys.argv[2] == "lenet":
    convolution = tfbnn.layers.Convolution2DReparameterization
    pool = keras.layers.MaxPooling2D
    hidden = [convolution(16, 5, activation="relu"), pool(), convolution(32, 5), pool()]
    hidden += [keras.layers.Flatten(), tfbnn.layers.DenseFlipout(100, activation="relu")]
keras.utils.set_random_seed(0)
model = tfbnn.Sequential([keras.Input(shape), *hidden, tfbnn.layers.DenseFlipout(10)])
model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.save(sys.argv[1])
"""
EXPORT = """
import pathlib, sys, numpy, tfbnn
folder = pathlib.Path(sys.argv[2])
model = tfbnn.load_model(sys.argv[1])
rows = numpy.random.default_rng(0).normal(size=(8, *model.input_shape[1:]))
for mode in sys.argv[3:]:
    tfbnn.export.tflite(model, folder / f"{mode}.tflite", mode, check_data=rows)
"""


def main() -> None:
    """Measure and print the tables."""
    settings = _settings()
    checkouts = [pathlib.Path(settings.before).resolve(), HERE]
    if settings.only != "files":
        header = ["network", "what", "jit", "before ms", "after ms", "time", "first step", "memory"]
        print(measuring.table(header, _steps(settings, checkouts)))
    if settings.only != "steps":
        header = ["network", "file", "before ms", "after ms", "time", "bytes"]
        print("\n" + measuring.table(header, _files(settings, checkouts)))


def _settings() -> argparse.Namespace:
    parser = measuring.arguments(__doc__, network=["mlp", "lenet"], rounds=9)
    parser.add_argument("--before", required=True, help="the other checkout")
    parser.add_argument("--batch", type=int, default=128, help="examples in a batch")
    parser.add_argument("--only", choices=["steps", "files"], help="one of the tables")
    return parser.parse_args()


def _steps(settings: argparse.Namespace, checkouts: list[pathlib.Path]) -> list[list[Any]]:
    rows = []
    without_peers = argparse.Namespace(**{**vars(settings), "peers": []})
    for network in settings.network:
        for case in train_step._cases(network, without_peers):
            if case["contender"] == "ours":
                numbers = _compared(case, checkouts, settings.rounds)
                rows.append([network, train_step._name(case), case["jit"], *numbers])
    return rows


def _compared(case: dict[str, Any], checkouts: list[pathlib.Path], rounds: int) -> list[float]:
    """Milliseconds, and ratios of time, time of the first step and memory."""
    before, after = workers = [_worker(case, checkout) for checkout in checkouts]
    measuring.take_turns(workers, rounds, repeats=7)
    peaks = [worker.ask("memory") for worker in workers]
    firsts = [worker.first["first_seconds"] for worker in workers]
    for worker in workers:
        worker.close()
    ratio = measuring.ratio(after, before)
    return [before.median, after.median, ratio, firsts[1] / firsts[0], peaks[1] / peaks[0]]


def _worker(case: dict[str, Any], checkout: pathlib.Path) -> Worker:
    """A contender whose `tfbnn` is that of a checkout."""
    os.environ["PYTHONPATH"] = str(checkout)
    return Worker(case, worker=checkout / "benchmarks" / "worker.py")


def _files(settings: argparse.Namespace, checkouts: list[pathlib.Path]) -> list[list[Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in settings.network:
            model = f"{folder}/{network}.keras"
            _run(checkouts[0], WRITE, model, network)
            folders = [pathlib.Path(folder, network, name) for name in ("before", "after")]
            for checkout, one in zip(checkouts, folders, strict=True):
                one.mkdir(parents=True)
                _run(checkout, EXPORT, model, str(one), *MODES)
            rows += [[network, mode, *_answers(network, mode, folders)] for mode in MODES]
    return rows


def _run(checkout: pathlib.Path, code: str, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", code, *arguments], env=environment, check=True)


def _answers(network: str, mode: str, folders: list[pathlib.Path]) -> list[float]:
    """Milliseconds for one row, and ratios of time and bytes."""
    from ai_edge_litert.interpreter import Interpreter

    files = [folder / f"{mode}.tflite" for folder in folders]
    row = np.random.default_rng(0).normal(size=(1, *networks.input_shape(network)))
    turns: list[list[float]] = [[], []]
    interpreters = [Interpreter(str(file), num_threads=1) for file in files]
    for interpreter in interpreters:
        interpreter.allocate_tensors()
        index = interpreter.get_input_details()[0]["index"]
        interpreter.set_tensor(index, row.astype(np.float32))
        interpreter.invoke()
    for _ in range(CALLS):
        for interpreter, times in zip(interpreters, turns, strict=True):
            start = time.perf_counter()
            interpreter.invoke()
            times.append(1e3 * (time.perf_counter() - start))
    before, after = map(statistics.median, turns)
    ratio = statistics.median(b / a for a, b in zip(*turns, strict=True))
    return [before, after, ratio, files[1].stat().st_size / files[0].stat().st_size]


if __name__ == "__main__":
    main()
