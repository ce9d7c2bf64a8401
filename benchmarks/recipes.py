"""Recipes beside the simplest baselines, at the same number of steps.

    python benchmarks/recipes.py --folder recipes --data <data>
    python benchmarks/recipes.py --tasks digits --contenders plain elbo --seeds 0
    python benchmarks/recipes.py --steps 0 20000 --print --page docs/recipes.md

Networks of 2 x 50 units on small real data. Every result is kept in `--folder`: start the same
command again after an interruption, or several side by side. `<data>` holds `uci/`, `ecg5000/` and
`notmnist/`.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import sys
import time
import zlib
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks.recipes_parts import page, scores, tasks
from benchmarks.recipes_parts.contenders import CONTENDERS


def main() -> None:
    """Do what is not done yet, and print a table for each task."""
    settings = _settings()
    settings.folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for steps, name in itertools.product(settings.steps, settings.tasks):
        rows = {}
        for contender in settings.contenders:
            runs = [_result(name, contender, seed, steps, settings) for seed in settings.seeds]
            rows[contender] = [run for run in runs if run]
        if any(rows.values()):
            title = f"{name}, {steps:,} steps" if steps else name
            tables[title] = page.table(name, rows)
            print(f"\n{title}\n\n{tables[title]}", flush=True)
    if settings.page:
        page.replace_tables(settings.page, tables)


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(tasks.TASKS), choices=tasks.TASKS)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument(
        "--steps", nargs="+", type=int, default=[0], help="0 stands for those of the task"
    )
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("recipes"))
    parser.add_argument("--data", default=os.environ.get("TFBNN_DATA"))
    parser.add_argument("--page", type=pathlib.Path, help="put the tables into this page, too")
    parser.add_argument("--print", action="store_true", help="only what is there")
    return parser.parse_args()


def _result(
    task_name: str, contender: str, seed: int, steps: int, settings: argparse.Namespace
) -> Any:
    name = f"{task_name}-{contender.replace(' ', '_')}"
    if steps:
        name += f"-{steps}-steps"
    path = settings.folder / f"{name}-{seed}.json"
    if not path.exists() and not settings.print:
        start = time.perf_counter()
        task = tasks.load(task_name, settings.data, seed)
        task = dataclasses.replace(task, steps=steps or task.steps)
        # Contenders must not share a start: their differences would not be independent.
        answer, facts = CONTENDERS[contender](task, seed + zlib.crc32(contender.encode()) % 10**6)
        found = {**scores.scores(task, answer), **facts}
        found["seconds"] = time.perf_counter() - start
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(partial, path)
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    main()
