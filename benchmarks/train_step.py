"""One training step: tfbnn beside deterministic Keras 3, `tfp.layers` and bayesian-torch.

    python benchmarks/train_step.py --json train_step.json
    python benchmarks/train_step.py --scaling --json scaling.json

Every contender runs in a process of its own. They take turns, so that a slow moment of the machine
hits all; a number is a median, a ratio the median of the ratios within a turn. `bound` is the
measured cost of the products, the random numbers and a fused Adam alone. Contenders whose library
is not installed are skipped with a message (`pip install bayesian-torch` for the last).
"""

import argparse
import json
import pathlib
from typing import Any

import measuring
from measuring import Worker

ESTIMATORS = ("reparameterization", "local", "flipout")
PRIORS = ("normal", "mixture")


def main() -> None:
    """Measure, print the tables, and write the JSON file."""
    settings = _settings()
    result: dict[str, Any] = {"machine": measuring.machine(), "settings": vars(settings)}
    if settings.scaling:
        result["scaling"] = [*_sweep(settings, "width"), *_sweep(settings, "batch")]
        print(
            measuring.table(
                list(result["scaling"][0]), [list(row.values()) for row in result["scaling"]]
            )
        )
    else:
        for network in settings.network:
            print(f"\n## {network}, batch {settings.batch}\n")
            result[network] = _compare(network, settings)
    if settings.json:
        pathlib.Path(settings.json).write_text(json.dumps(result, indent=1) + "\n")


def _settings() -> argparse.Namespace:
    parser = measuring.arguments(__doc__, network=["mlp", "lenet"], rounds=9)
    parser.add_argument("--batch", type=int, default=128, help="examples in a batch")
    parser.add_argument("--repeats", type=int, default=7, help="steps in a turn")
    parser.add_argument("--scaling", action="store_true", help="width and batch instead of peers")
    return parser.parse_args()


def _compare(network: str, settings: argparse.Namespace) -> list[dict[str, Any]]:
    workers = _run(_cases(network, settings), settings)
    base = measuring.fastest(_find(workers, contender="deterministic"))
    rows = [_row(worker, base, workers) for worker in workers]
    header = [
        "what",
        "jit",
        "ms",
        "x deterministic",
        "x bound",
        "first step s",
        "peak MB",
        "fit ms",
    ]
    keys = ["name", "jit", "ms", "ratio", "over_bound", "first_step", "peak_megabytes", "fit_ms"]
    print(measuring.table(header, [[row[key] for key in keys] for row in rows]))
    print("\n" + measuring.table(["tfbnn against", "times faster"], _speedups(workers)))
    for worker in workers:
        worker.close()
    return rows


def _cases(network: str, settings: argparse.Namespace) -> list[dict[str, Any]]:
    common = {"network": network, "width": settings.width, "batch": settings.batch}
    cases = [
        {"contender": "deterministic", "jit": "default"},
        {"contender": "deterministic", "jit": "on"},
        {"contender": "deterministic", "jit": "off", "update": "fast"},
        {"contender": "deterministic", "jit": "default", "precision": "mixed_bfloat16"},
        {"contender": "bound", "estimator": "deterministic", "prior": None},
    ]
    for estimator in ESTIMATORS:
        for prior in PRIORS:
            case = {"estimator": estimator, "prior": prior}
            cases.append({"contender": "ours", **case, "jit": "default"})
            if prior == "normal":
                cases.append({"contender": "ours", **case, "jit": "on"})
            cases.append({"contender": "bound", **case})
    flipout = {"contender": "ours", "estimator": "flipout", "prior": "normal", "jit": "default"}
    cases.append({**flipout, "precision": "mixed_bfloat16"})
    if "tfp_layers" in settings.peers:
        for estimator, prior in [*((e, "normal") for e in ESTIMATORS), ("flipout", "mixture")]:
            if network == "lenet" and estimator == "local":
                continue  # tfp.layers has no such convolution
            case = {"contender": "tfp_layers", "estimator": estimator, "prior": prior}
            cases += [{**case, "jit": "off"}, {**case, "jit": "on"}]
    if "bayesian_torch" in settings.peers:
        for estimator in ("reparameterization", "flipout"):
            case = {"contender": "bayesian_torch", "estimator": estimator, "prior": "normal"}
            cases.append({**case, "jit": "off"})
    return [{**common, **case} for case in cases]


def _run(cases: list[dict[str, Any]], settings: argparse.Namespace) -> list[Worker]:
    workers = measuring.start(cases, measuring.pythons(settings))
    measuring.take_turns(workers, settings.rounds, settings.repeats)
    return workers


def _row(worker: Worker, base: Worker, workers: list[Worker]) -> dict[str, Any]:
    case = worker.case
    is_keras = case["contender"] in ("deterministic", "ours")
    bound = []
    if "precision" in case:
        # Only with its like, and there is no bound in this precision.
        base = measuring.fastest(_find(workers, "mixed_bfloat16", contender="deterministic"))
    elif case["contender"] == "ours":
        bound = _find(workers, contender="bound", **_same(case))
    peak = None if case["contender"] == "bound" else worker.ask("memory")
    describe = worker.ask("describe")  # before `fit`, whose batches may vary in size
    return {
        "name": _name(case),
        "jit": case.get("jit", "-"),
        "ms": worker.median,
        "ratio": measuring.ratio(worker, base),
        "over_bound": measuring.ratio(worker, bound[0]) if bound else None,
        "first_step": worker.first["first_seconds"],
        "peak_megabytes": peak and peak / 1e6,
        "fit_ms": worker.ask("fit 40") if is_keras and case["jit"] == "default" else None,
        "case": case,
        "describe": describe,
    }


def _speedups(workers: list[Worker]) -> list[list[Any]]:
    """How many times faster the best of ours is than the best of each peer, case by case."""
    rows = []
    for peer in ("tfp_layers", "bayesian_torch"):
        theirs = [worker for worker in workers if worker.case["contender"] == peer]
        for key in dict.fromkeys(tuple(_same(worker.case).items()) for worker in theirs):
            best = measuring.fastest([w for w in theirs if tuple(_same(w.case).items()) == key])
            ours = measuring.fastest(_find(workers, contender="ours", **dict(key)))
            rows.append([_name(best.case), measuring.ratio(best, ours)])
    return rows


def _same(case: dict[str, Any]) -> dict[str, Any]:
    return {key: case[key] for key in ("estimator", "prior")}


def _find(workers: list[Worker], precision: str | None = None, **wanted: Any) -> list[Worker]:
    """The workers of a precision (float32: None) whose case has what is wanted."""
    return [
        worker
        for worker in workers
        if all(worker.case.get(key) == value for key, value in wanted.items())
        and worker.case.get("precision") == precision
    ]


def _name(case: dict[str, Any]) -> str:
    parts = ["tfbnn" if case["contender"] == "ours" else case["contender"].replace("_", "-")]
    if case["contender"] == "tfp_layers":
        parts = ["tfp.layers"]
    parts += [case[key] for key in ("estimator", "prior", "precision") if case.get(key)]
    return " ".join(parts) + (", fast update" if case.get("update") else "")


def _sweep(settings: argparse.Namespace, axis: str) -> list[dict[str, Any]]:
    values = {"width": [200, 600, 1200, 4800], "batch": [32, 128, 512, 1024]}
    rows = []
    for value in values[axis]:
        common = {"network": "mlp", "width": settings.width, "batch": settings.batch, axis: value}
        cases = [{"contender": "deterministic", "jit": jit} for jit in ("default", "on")]
        for estimator in ESTIMATORS:
            case = {"contender": "ours", "estimator": estimator, "prior": "normal"}
            cases.append({**case, "jit": "default"})
        workers = _run([{**common, **case} for case in cases], settings)
        base = measuring.fastest(workers[:2])
        row = {"axis": axis, "value": value, "deterministic ms": base.median}
        for worker in workers[2:]:
            row[worker.case["estimator"]] = measuring.ratio(worker, base)
        rows.append(row)
        for worker in workers:
            worker.close()
    return rows


if __name__ == "__main__":
    main()
