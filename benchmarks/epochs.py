"""The end of an epoch: seconds between the last batch of one and the first batch of the next.

    python benchmarks/epochs.py --json epochs.json

An iterator of `tf.data` that goes away waits for the thread that tunes it, which sleeps the longer
the longer the epoch was. Plain Keras (an ordinary network) and tfbnn (Flipout) train in turns on
arrays and on a data set, in epochs of about the same time; what is between two epochs beside that
wait is milliseconds.
"""

import argparse
import json
import pathlib
import statistics
import time
from typing import Any

import keras
import measuring
import numpy as np
import tensorflow as tf

import tfbnn

_BATCH = 128
_UNITS = 400
# Steps that say how long one takes, after as many that are not counted.
_CALIBRATION = 100


class Gaps(keras.callbacks.Callback):
    """Seconds from the last batch of each epoch to the first batch of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 0 and self._last:
            self.seconds.append(time.perf_counter() - self._last)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._last = time.perf_counter()


def main() -> None:
    """Measure, print the table, and write the JSON file."""
    settings = _settings()
    rows = []
    for data in ("arrays", "data set"):
        for contender in ("keras", "tfbnn"):
            rows.append(_measured(contender, data, settings))
    header = ["contender", "data", "batches", "epoch s", "gap s", "largest gap s"]
    print(measuring.table(header, [list(row.values()) for row in rows]))
    if settings.json:
        result = {"machine": measuring.machine(), "settings": vars(settings), "rows": rows}
        pathlib.Path(settings.json).write_text(json.dumps(result, indent=1) + "\n")


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="length of an epoch")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--json", metavar="PATH", help="write all numbers")
    return parser.parse_args()


def _measured(contender: str, data: str, settings: argparse.Namespace) -> dict[str, Any]:
    model = _model(contender)
    _train(model, data, _CALIBRATION, 1)
    start = time.perf_counter()
    _train(model, data, _CALIBRATION, 1)
    batches = max(2, round(settings.seconds * _CALIBRATION / (time.perf_counter() - start)))
    start = time.perf_counter()
    gaps = _train(model, data, batches, settings.epochs)
    return {
        "contender": contender,
        "data": data,
        "batches": batches,
        "epoch": (time.perf_counter() - start) / settings.epochs,
        "gap": statistics.median(gaps),
        "largest": max(gaps),
    }


def _train(model: keras.Model, data: str, batches: int, epochs: int) -> list[float]:
    """`fit`, and its gaps."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batches * _BATCH, 784)).astype("float32")
    y = rng.integers(0, 10, len(x))
    gaps = Gaps()
    given = (x, y)
    if data == "data set":
        given = (tf.data.Dataset.from_tensor_slices((x, y)).batch(_BATCH).prefetch(2),)
    model.fit(*given, batch_size=_size(data), epochs=epochs, callbacks=[gaps], verbose=0)
    return gaps.seconds


def _size(data: str) -> int | None:
    return _BATCH if data == "arrays" else None


def _model(contender: str) -> keras.Model:
    kind, dense = {
        "keras": (keras.Sequential, keras.layers.Dense),
        "tfbnn": (tfbnn.Sequential, tfbnn.layers.DenseFlipout),
    }[contender]
    layers = [dense(_UNITS, activation="relu"), dense(_UNITS, activation="relu"), dense(10)]
    model = kind([keras.Input((784,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss=loss)
    return model


if __name__ == "__main__":
    main()
