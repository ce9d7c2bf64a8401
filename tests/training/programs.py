"""Programs that the tests of several processes start: `python programs.py <name> <folder> ...`."""

import json
import os
import pathlib
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from tests.export import flat
from tfbnn.training import strategies
from tfbnn.weights import noise

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype("float32")
Y = RNG.integers(0, 2, 23)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model_of(strategy):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = tfbnn.Sequential(
            [
                keras.Input((3,)),
                tfbnn.layers.DenseFlipout(8, activation="relu", seed=1),
                keras.layers.Dropout(0.3, seed=2),
                tfbnn.layers.DenseReparameterization(2, seed=3, kernel_prior="scale_mixture"),
            ]
        )
        # Without metrics, which would have TensorFlow trace the step twice, in every process.
        model.compile(keras.optimizers.Adam(0.01), loss=LOSS)
    return model


def weights_of(model):
    return {f"{i:03d}": np.asarray(weight) for i, weight in enumerate(model.get_weights())}


def together(folder, worker):
    """All that two workers do without being killed, one after the other in the same processes."""
    strategy = strategies.get("multi_worker", time_limit=60)
    for part in (update, uninterrupted, apart, keras_alone):
        (folder / part.__name__).mkdir(exist_ok=True)
        part(folder / part.__name__, worker, strategy)


def update(folder, worker, strategy):
    """Training without noise; then all that can be done with a trained model."""
    drawn = noise.standard_normal
    noise.standard_normal = lambda shape, seed: tf.zeros(shape)
    keras.utils.set_random_seed(1)
    with strategy.scope():
        layers = [tfbnn.layers.DenseFlipout(8, activation="relu"), tfbnn.layers.DenseFlipout(2)]
        model = tfbnn.Sequential([keras.Input((3,)), *layers])
        model.compile(keras.optimizers.SGD(0.1), loss=LOSS, metrics=["accuracy"])
    logger = tfbnn.callbacks.SigmaLogger(folder / f"log-{worker}", tensorboard=False, picture=False)
    history = model.fit(X, Y, batch_size=7, epochs=2, verbose=0, callbacks=[logger]).history
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(7)
    scores = model.evaluate(batches, verbose=0, return_dict=True)
    rows = len(model.predict(X, batch_size=7, verbose=0))
    facts = {"history": history, "scores": scores, "rows": rows, "N": model.num_examples}
    (folder / f"facts-{worker}.json").write_text(json.dumps(facts))
    np.savez(folder / f"weights-{worker}.npz", **weights_of(model))
    noise.standard_normal = drawn
    if strategies.is_chief(strategy):
        tfbnn.predict(model, X, num_samples=2, verbose=0)
        tfbnn.prune(model, sparsity=0.5).save(folder / "pruned.keras")
        flat.saved_model(model, folder / "saved_model", check_data=X, num_samples=2)


def uninterrupted(folder, worker, strategy):
    """What `resuming` must come to."""
    fit(folder, worker, strategy)


def apart(folder, worker, strategy):
    """A state that only the chief sees is refused, in words, by both."""
    (folder / worker).mkdir()
    model = model_of(strategy)
    resume = tfbnn.callbacks.ResumeTraining(folder / worker, keep=True)
    with strategy.scope():
        metrics = ["accuracy", keras.metrics.F1Score(average=None)]
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss=loss, metrics=metrics)
    # The state is there for the chief alone afterwards.
    model.fit(X, np.eye(2)[Y], batch_size=7, verbose=0, callbacks=[resume])
    assert (folder / worker / "training.npz").exists() == (worker == "0")
    try:
        model.fit(X, np.eye(2)[Y], batch_size=7, epochs=2, verbose=0, callbacks=[resume])
    except ValueError as error:
        (folder / f"refusal-{worker}").write_text(str(error))


def keras_alone(folder, worker, strategy):
    """What Keras itself does under the strategy: last, for its errors may leave anything behind."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", loss=LOSS)
    try:
        model.fit(X[:8], Y[:8], batch_size=8, verbose=0)
        result = "trained"
    except Exception as error:
        result = str(error)
    (folder / f"result-{worker}").write_text(result)


class KillAt(keras.callbacks.Callback):
    """Kills the process, once for each of the given steps of the optimizer."""

    def __init__(self, folder, steps):
        super().__init__()
        self.folder, self.steps = folder, steps

    def on_train_batch_end(self, batch, logs=None):
        step = int(tf.convert_to_tensor(self.model.optimizer.iterations.value))
        mark = self.folder / f"killed-{step}"
        if step in self.steps and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def resuming(folder, worker, *steps):
    """Twelve steps in three epochs, killed at some of them if this is the last worker."""
    strategy = strategies.get("auto", time_limit=60)
    killed = [KillAt(folder, set(map(int, steps)))] if worker == os.environ.get("KILLED") else []
    fit(folder, worker, strategy, killed)


def fit(folder, worker, strategy, callbacks=()):
    model = model_of(strategy)
    resume = tfbnn.callbacks.ResumeTraining(folder / "state", every=2)
    history = model.fit(X, Y, batch_size=7, epochs=3, verbose=0, callbacks=[resume, *callbacks])
    np.savez(folder / f"weights-{worker}.npz", **weights_of(model))
    (folder / f"facts-{worker}.json").write_text(json.dumps(history.history))


def main(name, folder, *rest):
    config = json.loads(os.environ.get("TF_CONFIG") or '{"task": {"index": 0}}')
    globals()[name](pathlib.Path(folder), str(config["task"]["index"]), *rest)


if __name__ == "__main__":
    main(*sys.argv[1:])
