"""Bytes of every export of a pruned 784-1200-1200-10 network, beside those of Keras' own export.

    python benchmarks/export_size.py
    python benchmarks/export_size.py --sparsity 0.98 --json sizes.json

The weights are random and the inputs noise: sizes depend on the shapes and the sparsity alone.
`keras_model.export` of Keras 3.15 writes every variable twice; `one copy` is the share of the bytes
of the weights written once.
"""

import argparse
import json
import math
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfbnn
from tfbnn.export import Mean, MonteCarlo, Storage, files

# Name, and how the file is written. `dense` and `sparse` are how zeros are stored.
TFLITE = [
    ("tflite, dense, mean", Mean(), Storage(sparse=False)),
    ("tflite, sparse, mean", Mean(), Storage(sparse=True)),
    ("tflite, float16, mean", Mean(), Storage("float16")),
    ("tflite, int8, mean", Mean(), Storage("int8")),
    ("tflite, dense, Monte Carlo", MonteCarlo(4), Storage(sparse=False)),
    ("tflite, sparse, Monte Carlo", MonteCarlo(4), Storage(sparse=True)),
    ("tflite, float16, Monte Carlo", MonteCarlo(4), Storage("float16")),
    ("tflite, int8, Monte Carlo", MonteCarlo(4), Storage("int8")),
]
SAVED_MODEL = [
    ("SavedModel, sparse, mean", Mean()),
    ("SavedModel, sparse, Monte Carlo", MonteCarlo(4)),
]


def main() -> None:
    """Write every export, and print one row for each."""
    settings = _settings()
    sizes = [784, *settings.hidden, 10]
    model = _pruned(sizes, settings.sparsity)
    rows = np.random.default_rng(0).uniform(size=(16, 784)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        plain = _plain(sizes)
        plain.export(path / "keras", verbose=False)
        baseline = files.num_bytes(path / "keras"), 4 * plain.count_params()
        table = [_row("keras_model.export", path / "keras", baseline)]
        for number, (name, mode) in enumerate(SAVED_MODEL):
            tfbnn.export.saved_model(model, path / f"{number}", mode, check_data=rows)
            table.append(_row(name, path / f"{number}", baseline))
        for number, (name, mode, storage) in enumerate(TFLITE):
            file = path / f"{number}.tflite"
            tfbnn.export.tflite(model, file, mode, storage, check_data=rows)
            table.append(_row(name, file, baseline))
    print(f"{'x'.join(map(str, sizes))}, sparsity {settings.sparsity}")
    print(f"{'export':34}{'bytes':>12}{'gzip':>12}{'share':>9}{'one copy':>10}")
    for row in table:
        print(
            f"{row['export']:34}{row['bytes']:12,}{row['gzip_bytes']:12,}{row['share']:9.1%}"
            f"{row['share_of_one_copy']:10.1%}"
        )
    if settings.json:
        pathlib.Path(settings.json).write_text(json.dumps(table, indent=2) + "\n")


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sparsity", type=float, default=0.95, help="share of weights removed")
    parser.add_argument("--hidden", type=int, nargs="+", default=[1200, 1200])
    parser.add_argument("--json", metavar="PATH", help="write the table, a list of rows")
    return parser.parse_args()


def _pruned(sizes: list[int], sparsity: float) -> tfbnn.Sequential:
    keras.utils.set_random_seed(0)
    # The sizes do not depend on the prior, but files hold the standard deviations.
    laws = {
        "kernel_posterior": tfbnn.families.Normal(math.log1p(math.exp(-5))),
        "bias_posterior": "point",
    }
    layers = [
        tfbnn.layers.DenseFlipout(units, activation=activation, **laws)
        for units, activation in _units(sizes)
    ]
    model = tfbnn.Sequential([keras.Input(sizes[:1]), *layers])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    for layer in layers:
        # Trained standard deviations differ, which matters for gzip.
        rho = layer.kernel.rho_variable
        rho.assign(rho + 0.5 * rng.normal(size=rho.shape))
    return tfbnn.prune(model, sparsity=sparsity)


def _plain(sizes: list[int]) -> keras.Sequential:
    layers = [
        keras.layers.Dense(units, activation=activation) for units, activation in _units(sizes)
    ]
    return keras.Sequential([keras.Input(sizes[:1]), *layers])


def _units(sizes: list[int]) -> list[tuple[int, str | None]]:
    return [(units, "relu") for units in sizes[1:-1]] + [(sizes[-1], None)]


def _row(name: str, path: pathlib.Path, baseline: tuple[int, int]) -> dict[str, object]:
    size = files.num_bytes(path)
    return {
        "export": name,
        "bytes": size,
        "gzip_bytes": files.num_gzip_bytes(path),
        "share": size / baseline[0],
        "share_of_one_copy": size / baseline[1],
    }


if __name__ == "__main__":
    main()
