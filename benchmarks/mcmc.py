"""Chains of small networks: whether they mix, and how many effective draws they give a second.

    python benchmarks/mcmc.py

R-hat and effective samples are the worst of what the network says for 40 rows, of the log density,
and of single weights, which hidden units that change places keep from mixing. Seconds are those of
the draws after the warm-up, and of all the rest: tracing, compilation by XLA and warm-up.
"""

import argparse
import time
import warnings
from typing import Any

import keras
import measuring
import numpy as np

import tfbnn

ROWS, NOISE = 40, 0.5


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, nargs="+", default=[10], help="hidden ones")
    parser.add_argument("--kernels", nargs="+", default=["nuts", "hmc", "random_walk"])
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--warmup", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    rows = []
    for units in settings.units:
        for kernel in settings.kernels:
            rows += _rows(units, kernel, settings)
    header = ["network", "kernel", "of", "R-hat", "effective", "a second", "draws s", "rest s"]
    print(measuring.table(header, rows))


def _rows(units: int, kernel: str, settings: Any) -> list[list[Any]]:
    keras.utils.set_random_seed(settings.seed)
    layers = [keras.layers.Dense(units, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile(loss=tfbnn.losses.NormalNLL(scale=NOISE))
    rng = np.random.default_rng(settings.seed)
    x = rng.normal(size=(ROWS, 2)).astype("float32")
    y = np.sin(2 * x[:, :1]) + x[:, 1:] ** 2 / 2 + NOISE * rng.normal(size=(ROWS, 1))
    sizes = {"chains": settings.chains, "samples": settings.samples, "warmup": settings.warmup}
    start = time.perf_counter()
    with warnings.catch_warnings():
        # The table says it.
        warnings.simplefilter("ignore", tfbnn.ConvergenceWarning)
        posterior = tfbnn.posteriors.MCMC(
            model, x, y, kernel, 1.0, **sizes, seed=settings.seed, verbose=0
        )
    seconds, found = time.perf_counter() - start, posterior.diagnostics
    return [
        [
            f"2-{units}-1",
            kernel,
            kind,
            f"{one:.4f}",
            f"{found.effective_samples[kind]:.0f}",
            f"{found.effective_samples_per_second[kind]:.0f}",
            f"{found.seconds:.1f}",
            f"{seconds - found.seconds:.1f}",
        ]
        for kind, one in found.r_hat.items()
    ]


if __name__ == "__main__":
    main()
