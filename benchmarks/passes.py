"""What each pass over the weights costs: where the time of a step goes besides its products.

    python benchmarks/passes.py --json passes.json

One tensor of weights, each pass on its own, in turns. `arrays` counts the tensors of this size that
a pass must read and write, and GB/s is what follows from it; `copy` is what the machine does with
memory at best. Passes near it are bound by memory, the others by arithmetic.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import measuring
import tensorflow as tf
import tqdm

from tfbnn.training.updates import apply_gradients
from tfbnn.weights import noise, priors
from tfbnn.weights.realisation import Realisation

Passes = dict[str, tuple[int, Callable[[], Any]]]


def main() -> None:
    """Measure all passes in turns, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=2, default=[1200, 1200])
    parser.add_argument("--batch", type=int, default=128, help="of the product, for comparison")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", metavar="PATH", help="write all numbers")
    settings = parser.parse_args()
    passes = _passes(settings.shape, settings.batch)
    times = {name: [] for name in passes}
    for number in tqdm.tqdm(range(settings.rounds + 5), unit="round"):
        for name, (_, function) in passes.items():
            start = time.perf_counter()
            function()
            if number >= 5:
                times[name].append(1e3 * (time.perf_counter() - start))
    size = 4 * math.prod(settings.shape)
    rows = [
        {"pass": name, "ms": statistics.median(times[name]), "arrays": arrays}
        for name, (arrays, _) in passes.items()
    ]
    for row in rows:
        row["gigabytes_per_second"] = row["arrays"] * size / row["ms"] / 1e6 or None
    print(measuring.table(["pass", "ms", "arrays", "GB/s"], [list(row.values()) for row in rows]))
    if settings.json:
        result = {"machine": measuring.machine(), "settings": vars(settings), "passes": rows}
        pathlib.Path(settings.json).write_text(json.dumps(result, indent=1) + "\n")


def _passes(shape: list[int], batch: int) -> Passes:
    """Name, number of arrays read and written, and function of each pass."""
    loc, normals, upstream = (tf.random.normal(shape, stddev=s) for s in (0.03, 1.0, 1.0))
    rho = tf.random.normal(shape, -5.0, 0.5)
    rows, outputs = tf.random.normal((batch, shape[0])), tf.random.normal((batch, shape[1]))
    seed = tf.constant([1, 2], tf.int64)
    slow_normals = tf.function(
        lambda: tf.random.stateless_normal(shape, seed, alg="philox"), autograph=False
    )
    kl_upstream = tf.constant(1e-5)
    passes: Passes = {
        "product, forward": (0, lambda: tf.matmul(rows, loc)),
        "product, gradient of the weights": (0, lambda: tf.matmul(rows, outputs, transpose_a=True)),
        "product, gradient of the inputs": (0, lambda: tf.matmul(outputs, loc, transpose_b=True)),
        "copy": (2, lambda: tf.add(loc, 0.0)),
        "normals": (1, lambda: noise.standard_normal(shape, seed)),
        "normals, tf.random.stateless_normal": (1, slow_normals),
        **_updates(shape, upstream),
    }
    for prior in (priors.Normal(), priors.ScaleMixture(0.25, 1.0, math.exp(-6))):
        one = Realisation("draw", prior, tuple(shape))
        draw = one._operand(loc, rho, normals)
        name = type(prior).__name__
        inputs = loc, rho, normals, draw, None
        passes |= {
            f"{name}: draw": (4, lambda one=one: one._operand(loc, rho, normals)),
            f"{name}: KL": (2, lambda one=one, i=inputs: one._kl(*i)),
            f"{name}: gradients": (
                7 if name == "Normal" else 8,
                lambda one=one, i=inputs: one._gradients(*i, kl_upstream, upstream),
            ),
        }
    return passes


def _updates(shape: list[int], gradient: tf.Tensor) -> Passes:
    def keras_update(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
        optimizer.apply(gradients, variables)

    return {
        "Adam, Keras'": (7, _update(keras_update, shape, gradient)),
        "Adam, TensorFlow's": (7, _update(apply_gradients, shape, gradient)),
    }


def _update(apply: Callable[..., None], shape: list[int], gradient: tf.Tensor) -> Any:
    variable = keras.Variable(tf.zeros(shape))
    optimizer = keras.optimizers.Adam(1e-6)
    optimizer.build([variable])
    return tf.function(lambda: apply(optimizer, [gradient], [variable]), autograph=False)


if __name__ == "__main__":
    main()
