"""Files with uncertainty for a device: bytes, latency, memory, and what their answers are worth.

    python benchmarks/device.py --json device.json
    python benchmarks/device.py --networks lenet --seeds 0

Trains 784-1200-1200-10 and LeNet-5 on MNIST, prunes and distills them, writes every file of
`device_parts/files.py`, runs each on all test images in LiteRT or as compiled C, and compares it
with 256 draws in Keras. Everything is kept in `--folder`: start the same command again after an
interruption. From nothing it takes some two hours on two cores; letters are read from
`<data>/notmnist`.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import measuring
import numpy as np

from benchmarks.device_parts import inputs, running, scores, tables
from benchmarks.device_parts.files import BASELINE, FILES, File, Runner, compiled
from benchmarks.device_parts.students import Students, sizes
from benchmarks.device_parts.teachers import teacher
from trainers.data import Dataset, load

_CHECKED = 64


def main() -> None:
    """Do what is not done yet, and print a table for each network."""
    settings = _settings()
    dataset = load("mnist", settings.data_dir)
    images = inputs.scored(dataset, settings.data)
    results = {"machine": measuring.machine(), "seeds": settings.seeds}
    for network in settings.networks:
        folders = [settings.folder / f"{network}-{seed}" for seed in settings.seeds]
        runs = [
            _one(network, seed, folder, dataset, images)
            for seed, folder in zip(settings.seeds, folders, strict=True)
        ]
        costs = _costs(network, folders[0], dataset.test[0][:1], settings.rounds)
        results[network] = tables.summary(runs, costs)
        print(f"\n{network}\n\n{tables.markdown(results[network])}\n", flush=True)
        if settings.json:
            pathlib.Path(settings.json).write_text(json.dumps(results, indent=2) + "\n")


def _one(
    network: str,
    seed: int,
    folder: pathlib.Path,
    dataset: Dataset,
    images: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Scores of every file of one trained network, and of Keras."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = dataset.test[1]
    students = Students(
        teacher(network, seed, dataset, folder), network, dataset.train[0], seed, folder
    )
    rows = dataset.validation[0][:_CHECKED]
    done = _Kept(folder / "scores.json")
    for name, make in (("posterior mean", scores.at_mean), ("256 draws", scores.over_draws)):
        done.get(name, lambda make=make: scores.scores(make(students.teacher), images, labels))
    for file in FILES[network]:
        done.get(file.name, lambda file=file: _scored(file, students, rows, images, labels, folder))
    return done.values


def _scored(
    file: File,
    students: Students,
    rows: np.ndarray,
    images: dict[str, np.ndarray],
    labels: np.ndarray,
    folder: pathlib.Path,
) -> dict[str, Any]:
    print(f"{folder.name}: {file.name}", flush=True)
    manifest = file.write(students, rows, folder)
    kept = ("path", "bytes", "gzip_bytes", "memory", "scratch_bytes", "stack_bytes")
    facts = {key: manifest[key] for key in kept if key in manifest}
    run = Runner(file, manifest["path"], _build(folder))
    answers = scores.scores(run, images, labels)
    return {**facts, **answers, "sizes": sizes(students.get(file.student))}


def _costs(
    network: str, folder: pathlib.Path, row: np.ndarray, rounds: int
) -> dict[str, dict[str, float]]:
    """Latency beside the dense file, and memory, of the files of the first seed."""
    done = _Kept(folder / "scores.json").values
    measures = {}
    for file in FILES[network]:
        path = done[file.name]["path"]
        if file.language == "C":
            program = compiled(path, _build(folder))
            measures[file.name] = lambda program=program: program.benchmark(200)
        else:
            measures[file.name] = running.litert(path, row)
    times = running.in_turns(measures, rounds)
    base = times[BASELINE.name]
    costs = {}
    for file in FILES[network]:
        taken = times[file.name]
        ratio = statistics.median(a / b for a, b in zip(taken, base, strict=True))
        costs[file.name] = {"microseconds": statistics.median(taken), "latency": ratio}
        if file.language == "LiteRT":
            costs[file.name]["peak_memory"] = running.peak_memory(done[file.name]["path"])
    return costs


class _Kept:
    """Results by name in a JSON file, each made once."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name: str, make: Any) -> Any:
        if name not in self.values:
            self.values[name] = make()
            partial = self._path.with_suffix(".part")
            partial.write_text(json.dumps(self.values, indent=1) + "\n")
            os.replace(partial, self._path)
        return self.values[name]


def _build(folder: pathlib.Path) -> pathlib.Path:
    build = folder / "build"
    build.mkdir(exist_ok=True)
    return build


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(FILES), choices=FILES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each file, for latency")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("saved_models/device"))
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets; else TFDS_DATA_DIR")
    parser.add_argument("--data", help="folder that holds notmnist/; else TFBNN_DATA")
    parser.add_argument("--json", metavar="PATH", help="write all numbers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
