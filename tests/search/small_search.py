"""A search of seconds, which tests run here and in processes of their own.

    python small_search.py FOLDER [HOLD]

With HOLD, the name of a trial, the process stops in the middle of that trial, after it has written
the file FOLDER.held, until somebody kills it.
"""

import os
import pathlib
import sys
import time

import keras
import numpy as np

from tfbnn import search

TRIALS = 3
ROWS = 48
SPACE = search.Space(
    estimators=("Reparameterization", "LocalReparameterization"),
    depths=(1,),
    widths=(4,),
    learning_rate=search.Range(0.01, 0.1),
)


def data():
    random = np.random.default_rng(0)
    y = random.integers(3, size=ROWS)
    return (random.normal(size=(ROWS, 4)) + y[:, np.newaxis]).astype("float32"), y


def small_hypermodel(**options):
    return search.BayesianHyperModel((4,), outputs=3, **{"space": SPACE, **options})


def opened(folder, kind="random", hypermodel=None, **options):
    hypermodel = hypermodel or small_hypermodel(objective=search.MonteCarloNLL(num_samples=4))
    if kind != "hyperband":
        options = {"max_trials": TRIALS, **options}
    return search.open_tuner(kind, hypermodel, folder, **{"seed": 1, **options})


def run(tuner, epochs=2, **options):
    x, y = data()
    tuner.search(x, y, validation_data=(x, y), epochs=epochs, verbose=0, **options)
    return tuner


class Hold(keras.callbacks.Callback):
    def __init__(self, folder, trial):
        super().__init__()
        self.folder, self.trial = folder, trial

    def on_epoch_end(self, epoch, logs=None):
        # The first trial is there before the others are.
        if (self.folder / f"trial_{self.trial}").exists():
            self.folder.with_suffix(".held").write_text("")
            time.sleep(600)


def main(folder, hold=None):
    folder = pathlib.Path(folder)
    callbacks = [] if hold is None else [Hold(folder, hold)]
    tuner = run(opened(folder), callbacks=callbacks)
    print("done", os.environ.get("KERASTUNER_TUNER_ID"), type(tuner.oracle).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
