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
# Steps that say how long one takes, in an epoch after another that is not counted.
_CALIBRATION = 300


class Clock(keras.callbacks.Callback):
    """Seconds from the first batch of each epoch to its last, and from there to the next epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[float] = []
        self.gaps: list[float] = []
        self._first = self._last = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 0:
            self._first = time.perf_counter()
            if self._last:
                self.gaps.append(self._first - self._last)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(self._last - self._first)


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
    calibration = _train(model, data, _CALIBRATION, 2)
    batches = max(2, round(settings.seconds * _CALIBRATION / calibration.epochs[-1]))
    clock = _train(model, data, batches, settings.epochs)
    return {
        "contender": contender,
        "data": data,
        "batches": batches,
        "epoch": statistics.median(clock.epochs),
        "gap": statistics.median(clock.gaps),
        "largest": max(clock.gaps),
    }


def _train(model: keras.Model, data: str, batches: int, epochs: int) -> Clock:
    """`fit`, and its times."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batches * _BATCH, 784)).astype("float32")
    y = rng.integers(0, 10, len(x))
    clock = Clock()
    given = (x, y)
    if data == "data set":
        given = (tf.data.Dataset.from_tensor_slices((x, y)).batch(_BATCH).prefetch(2),)
    model.fit(*given, batch_size=_size(data), epochs=epochs, callbacks=[clock], verbose=0)
    return clock


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
