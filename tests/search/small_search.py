"""A search of seconds, which tests run here and in processes of their own."""

import os
import pathlib
import time
import types

import keras
import numpy as np
from keras_tuner.src.distribute import oracle_chief

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


class Eager(search.BayesianHyperModel):
    """For the few steps of a trial: a graph would take longer to trace than to run."""

    def build(self, hp):
        model = super().build(hp)
        model.run_eagerly = True
        return model


class MeanNLL:
    """The NLL at the posterior mean, which is quickly found."""

    name = "validation_nll"

    def __call__(self, model, x, y):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return {self.name: float(loss(y, model(x)))}


def small_hypermodel(**options):
    return Eager((4,), outputs=3, **{"space": SPACE, "objective": MeanNLL(), **options})


def opened(folder, kind="random", hypermodel=None, **options):
    hypermodel = hypermodel or small_hypermodel()
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
    """Runs the search; if `hold` is the name of a trial, it stops in the middle of that one.

    It has then written the file FOLDER.held, and waits until somebody kills it.
    """
    # The chief looks every 20 s whether all workers have gone.
    oracle_chief.time = types.SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.2)))
    folder = pathlib.Path(folder)
    callbacks = [] if hold is None else [Hold(folder, hold)]
    tuner = run(opened(folder), callbacks=callbacks)
    print("done", os.environ.get("KERASTUNER_TUNER_ID"), type(tuner.oracle).__name__)
