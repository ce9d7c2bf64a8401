"""Several devices: what mirroring a step costs, and what workers send each other.

    python benchmarks/distribute.py --json distribute.json
    python benchmarks/distribute.py --model distribute.json

The first measures. One step on one device and on two halves of the CPU, with the same global batch
and with the same batch for each replica: both halves share the cores, so that everything above the
time of one device is the price of mirroring. Then two real workers train over loopback, and the
bytes that pass it are counted. The second prints the model of `docs/scaling.md` with the bytes that
were measured.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

import measuring

HERE = pathlib.Path(__file__).parent
CONTENDERS = (
    {"contender": "deterministic"},
    {"contender": "ours", "estimator": "reparameterization", "prior": "normal"},
    {"contender": "ours", "estimator": "flipout", "prior": "mixture"},
)
# Steps between which the bytes are counted.
_FIRST_STEP, _LAST_STEP = 5, 25

# What the model takes from elsewhere; `docs/scaling.md` says from where.
IMAGES_PER_SECOND = 909  # ResNet-50, TensorFlow, TF32, one A100
IMAGES_PER_SECOND_OF_EIGHT = 7000  # the same, eight A100 of one machine
BATCH = 256  # on each GPU
RESNET_PARAMETERS = 25.6e6
NETWORK_BYTES_PER_SECOND = 25e9  # of each GPU between machines: 200 Gb/s
GPUS_OF_A_MACHINE = 8


def main() -> None:
    """Measure, or print the model of what was measured."""
    settings = _settings()
    if settings.as_worker:
        _work(json.loads(settings.as_worker))
    elif settings.model:
        _print_model(json.loads(pathlib.Path(settings.model).read_text()))
    else:
        _measure(settings)


def _settings() -> argparse.Namespace:
    parser = measuring.arguments(__doc__, network=["mlp", "lenet"], rounds=7)
    parser.add_argument("--batch", type=int, default=128, help="examples in a global batch")
    parser.add_argument("--repeats", type=int, default=5, help="steps in a turn")
    parser.add_argument("--model", metavar="JSON", help="print the scaling that follows from it")
    parser.add_argument("--as-worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(settings: argparse.Namespace) -> None:
    result: dict[str, Any] = {"machine": measuring.machine(), "settings": vars(settings)}
    for network in settings.network:
        print(f"\n## {network}, batch {settings.batch}\n")
        rows = _steps(network, settings)
        keys = ["name", "ms", "two_devices", "slow_down", "over_deterministic", "twice_the_batch"]
        header = ["what", "ms on 1", "ms on 2", "slow-down", "over Keras'", "2 x batch on 2, ms"]
        print(measuring.table(header, [[row[key] for key in keys] for row in rows]))
        traffic = [_bytes_of(network, case, settings) for case in CONTENDERS]
        print("\n" + measuring.table(list(traffic[0]), [list(row.values()) for row in traffic]))
        result[network] = {"steps": rows, "bytes": traffic}
    if settings.json:
        pathlib.Path(settings.json).write_text(json.dumps(result, indent=1) + "\n")


def _steps(network: str, settings: argparse.Namespace) -> list[dict[str, Any]]:
    common = {"network": network, "width": settings.width, "jit": "default"}
    variants = [(1, settings.batch), (2, settings.batch), (2, 2 * settings.batch)]
    cases = [
        {**common, **case, "devices": devices, "batch": batch}
        for case in CONTENDERS
        for devices, batch in variants
    ]
    workers = measuring.start(cases, {})
    measuring.take_turns(workers, settings.rounds, settings.repeats)
    rows = []
    for number, case in enumerate(CONTENDERS):
        one, two, double = workers[3 * number : 3 * number + 3]
        rows.append(
            {
                "name": _name(case),
                "ms": one.median,
                "two_devices": two.median,
                "slow_down": measuring.ratio(two, one),
                "twice_the_batch": double.median,
            }
        )
    for row in rows:
        row["over_deterministic"] = row["slow_down"] / rows[0]["slow_down"]
    for worker in workers:
        worker.close()
    return rows


def _name(case: dict[str, Any]) -> str:
    if case["contender"] == "deterministic":
        return "deterministic Keras"
    return f"tfbnn {case['estimator']} {case['prior']}"


def _bytes_of(network: str, case: dict[str, Any], settings: argparse.Namespace) -> dict[str, Any]:
    """Bytes that pass the loopback in a step of two workers, beside those of the gradients."""
    case = {**case, "network": network, "width": settings.width, "batch": settings.batch}
    command = [sys.executable, str(HERE / "distribute.py"), "--as-worker", json.dumps(case)]
    launch = [sys.executable, "-m", "tfbnn.launch", "--workers", "2", "--restarts", "0", "--"]
    done = subprocess.run([*launch, *command], capture_output=True, text=True, check=True)
    answers = [line for line in done.stdout.splitlines() if line.startswith("[0] {")]
    answer = json.loads(answers[-1].removeprefix("[0] "))
    gradients = 4 * answer["parameters"]
    return {
        "what": _name(case),
        "parameters": answer["parameters"],
        "gradients MB": gradients / 1e6,
        # With two workers, each sends as much as its gradients are.
        "sent by a worker MB": answer["bytes"] / 2 / 1e6,
        "sent / gradients": answer["bytes"] / 2 / gradients,
    }


def _work(case: dict[str, Any]) -> None:
    """Train a little as one of two workers; print the bytes of a step and the parameters."""
    import keras
    import numpy as np
    from contenders import deterministic, ours

    from tfbnn.training import distribution, strategies

    strategy = strategies.get("multi_worker", time_limit=60)
    make = ours.Contender if case["contender"] == "ours" else deterministic.Contender
    contender = make({**case, "jit": "default"}, strategy)

    class Traffic(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == _FIRST_STEP:
                self.start = _loopback_bytes()
            if batch == _LAST_STEP:
                self.bytes = (_loopback_bytes() - self.start) / (_LAST_STEP - _FIRST_STEP)

    traffic = Traffic()
    rows = np.concatenate([contender.rows] * (_LAST_STEP + 1))
    labels = np.concatenate([contender.labels] * (_LAST_STEP + 1))
    batch = len(contender.rows)
    options = {"batch_size": batch, "verbose": 0, "callbacks": [traffic], "shuffle": False}
    if case["contender"] == "deterministic":
        # Keras' own faults with several workers; see `tfbnn/training/distribution.py`.
        contender.model._maybe_symbolic_build = lambda *_, **__: None
        step = contender.model.train_step
        contender.model.train_step = lambda data: distribution.worker_results(step(data))
        contender.model.train_function = None
    contender.model.fit(rows, labels, **options)
    parameters = sum(int(np.prod(v.shape)) for v in contender.model.trainable_variables)
    print(json.dumps({"bytes": traffic.bytes, "parameters": parameters}), flush=True)


def _loopback_bytes() -> int:
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    raise RuntimeError("There is no loopback device to count bytes of.")


def _print_model(measured: dict[str, Any]) -> None:
    """The scaling of ResNet-50 to 8 and 64 GPUs, ordinary and Bayesian."""
    one = BATCH / IMAGES_PER_SECOND
    # All that eight GPUs take longer than one counts as communication.
    within = GPUS_OF_A_MACHINE * BATCH / IMAGES_PER_SECOND_OF_EIGHT - one
    rows = []
    for name, steps, sent in _kinds(measured):
        for number in (1, 8, 64):
            machines = number // GPUS_OF_A_MACHINE
            between = 2 * (machines - 1) / machines if machines > 1 else 0.0
            between *= 4 * RESNET_PARAMETERS * sent / GPUS_OF_A_MACHINE / NETWORK_BYTES_PER_SECOND
            time = steps * one + (sent * within if number > 1 else 0.0) + between
            rate = number * BATCH / time
            ideal = number * BATCH / (steps * one)
            rows.append([name, number, 1e3 * time, rate, rate / ideal])
    print(measuring.table(["what", "GPUs", "ms a step", "images/s", "of the ideal"], rows))


def _kinds(measured: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Name, step over an ordinary one, and bytes over ordinary ones: measured on the LeNet."""
    steps, traffic = measured["lenet"]["steps"], measured["lenet"]["bytes"]
    base, sent = steps[0]["ms"], traffic[0]["sent by a worker MB"]
    return [
        (step["name"], step["ms"] / base, row["sent by a worker MB"] / sent)
        for step, row in zip(steps, traffic, strict=True)
    ]


if __name__ == "__main__":
    main()
