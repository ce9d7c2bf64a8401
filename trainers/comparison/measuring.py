"""One run, and what it took: time, memory and bytes.

It has a process of its own, so that its memory and what it traces are its own. Seconds are those of
all threads on the processor, which do not change with what else a machine does.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import pathlib
import resource
import sys
import time
from typing import Any

import keras

import tfbnn
from trainers import runs
from trainers.comparison.networks import builder
from trainers.comparison.routes import ROUTES
from trainers.comparison.scores import scores
from trainers.comparison.settings import CompareSettings
from trainers.comparison.tasks import load

FILE = "network.posterior"
_TIMED = 3


def measured_apart(settings: CompareSettings, route: str, seed: int, folder: pathlib.Path) -> None:
    """`measured` in a new process, which ends with it."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        pool.submit(measured, settings, route, seed, folder).result()


def measured(settings: CompareSettings, route: str, seed: int, folder: pathlib.Path) -> None:
    """Train one route, score it, and keep the posterior and its metrics.

    Args:
        settings: Of the comparison.
        route: A key of `ROUTES`.
        seed: Of the run.
        folder: The folder of the run, which appears when all is there.
    """
    task = load(settings.dataset, settings.data_dir, settings.letters, settings.smoke)
    with runs.run_folder(folder.parent, folder.name) as working:
        keras.utils.set_random_seed(seed)
        start = time.process_time()
        posterior = ROUTES[route](builder(task), task, settings)
        training = time.process_time() - start
        posterior.save(working / FILE)
        metrics = {
            "settings": dataclasses.asdict(settings),
            "route": route,
            "seed": seed,
            "scores": scores(posterior, task, settings.num_samples),
            "training_seconds": training,
            "prediction_seconds": _prediction_seconds(posterior, task.test[0], settings),
            "memory_bytes": _peak_memory(),
            "bytes": (working / FILE).stat().st_size,
        }
        runs.write_json(metrics, working / runs.METRICS)


def _prediction_seconds(posterior: Any, x: Any, settings: CompareSettings) -> float:
    """Of the fastest of some calls; scores have traced it before."""
    times = []
    for _ in range(_TIMED):
        start = time.process_time()
        tfbnn.predict(posterior, x, settings.num_samples, seed=0, verbose=0)
        times.append(time.process_time() - start)
    return min(times)


def _peak_memory() -> int:
    """Largest size of the process so far, libraries and data included, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
