"""The predictive distribution: `tfbnn.predict` beside single passes of an ordinary network.

    python benchmarks/predict.py --json predict.json
    python benchmarks/predict.py --scaling --json predict_scaling.json

One deterministic pass is the network's forward function over all rows, in the fastest of several
batch sizes and of jit on and off. `tfp.layers` and bayesian-torch draw a network in every call, so
they are given all rows in one, once for each sample: in batches they draw again for each.
"""

import argparse
import json
import pathlib
from typing import Any

import measuring
from measuring import Worker


def main() -> None:
    """Measure, print the table, and write the JSON file."""
    settings = _settings()
    result: dict[str, Any] = {"machine": measuring.machine(), "settings": vars(settings)}
    samples = [1, 8, 32, 128, 256] if settings.scaling else [settings.num_samples]
    for network in settings.network[:1] if settings.scaling else settings.network:
        print(f"\n## {network}, {settings.rows} rows\n")
        result[network] = _compare(network, samples, settings)
    if settings.json:
        pathlib.Path(settings.json).write_text(json.dumps(result, indent=1) + "\n")


def _settings() -> argparse.Namespace:
    parser = measuring.arguments(__doc__, network=["mlp"], rounds=3)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--num-samples", type=int, default=32)
    parser.add_argument("--scaling", action="store_true", help="1 to 256 samples, without peers")
    return parser.parse_args()


def _compare(
    network: str, samples: list[int], settings: argparse.Namespace
) -> list[dict[str, Any]]:
    cases = _cases(network, samples, settings)
    workers = measuring.start(cases, measuring.pythons(settings))
    measuring.take_turns(workers, settings.rounds, repeats=1, warm_up=0)
    base = measuring.fastest([w for w in workers if w.case["contender"] == "deterministic"])
    rows = [_row(worker, base) for worker in workers]
    header = ["what", "samples", "batch", "jit", "s", "deterministic passes", "first s", "peak MB"]
    print(measuring.table(header, [list(row.values())[:8] for row in rows]))
    for worker in workers:
        worker.close()
    return rows


def _cases(network: str, samples: list[int], settings: argparse.Namespace) -> list[dict[str, Any]]:
    common = {"task": "predict", "network": network, "width": settings.width, "rows": settings.rows}
    bayesian = {"estimator": "reparameterization", "prior": "normal", "batch": 256}
    cases: list[dict[str, Any]] = [
        {"contender": "deterministic", "jit": jit, "batch": batch}
        for jit in ("off", "on")
        for batch in (256, 1000)
    ]
    cases += [
        {"contender": "ours", **bayesian, "batch": 1024, "jit": "default", "num_samples": number}
        for number in samples
    ]
    if not settings.scaling:
        number = settings.num_samples
        for peer in settings.peers:
            for jit in ("off", "on") if peer == "tfp_layers" else ("off",):
                # All rows at once: these draw new weights for every batch.
                case = {"contender": peer, **bayesian, "batch": settings.rows, "jit": jit}
                cases.append({**case, "num_samples": number})
    return [{**common, **case} for case in cases]


def _row(worker: Worker, base: Worker) -> dict[str, Any]:
    case = worker.case
    peak = worker.ask("memory")
    return {
        "name": "tfbnn.predict" if case["contender"] == "ours" else case["contender"],
        "num_samples": case.get("num_samples"),
        "batch": case["batch"],
        "jit": case["jit"],
        "seconds": worker.median / 1e3,
        "passes": measuring.ratio(worker, base),
        "first_seconds": worker.first["first_seconds"],
        "peak_megabytes": peak and peak / 1e6,
        "case": case,
        "describe": worker.ask("describe"),
    }


if __name__ == "__main__":
    main()
