"""`tfbnn.to_bayesian` of `keras.applications`: what is random, and what a training step costs.

    python benchmarks/conversion.py

A step of the plain model and one of its conversion take turns; a ratio is the median of the ratios
within a turn.
"""

import argparse
import statistics
import time
from typing import Any

import keras
import measuring
import numpy as np

import tfbnn

NETWORKS = {
    "MobileNetV2": keras.applications.MobileNetV2,
    "ResNet50V2": keras.applications.ResNet50V2,
}
SHAPE = (32, 32, 3)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--estimator", default="reparameterization")
    parser.add_argument("--batch", type=int, default=64, help="examples in a batch")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each model")
    settings = parser.parse_args()
    rows = [_row(name, settings) for name in settings.networks]
    header = ["network", "weights", "random", "largest difference", "Keras ms", "tfbnn ms", "ratio"]
    print(measuring.table(header, rows))


def _row(name: str, settings: argparse.Namespace) -> list[Any]:
    plain = NETWORKS[name](weights=None, input_shape=SHAPE, classes=10, classifier_activation=None)
    plain.compile(keras.optimizers.Adam(1e-4), loss=LOSS)
    bayesian = tfbnn.to_bayesian(plain, settings.estimator, verbose=0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(settings.batch, *SHAPE)).astype("float32")
    difference = np.abs(plain(x, training=False) - bayesian(x, training=False)).max()
    bayesian.num_examples = 50_000
    y = rng.integers(10, size=settings.batch)
    times: list[list[float]] = [[], []]
    for turn in range(settings.rounds + 1):
        for model, found in zip((plain, bayesian), times, strict=True):
            start = time.perf_counter()
            for _ in range(3):
                model.train_on_batch(x, y)
            # The first turn traces.
            if turn:
                found.append(1e3 * (time.perf_counter() - start) / 3)
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    share = f"{bayesian.coverage.share:.1%}"
    return [name, plain.count_params(), share, difference, *map(statistics.median, times), ratio]


if __name__ == "__main__":
    main()
