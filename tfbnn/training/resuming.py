"""`ResumeTraining`: a run that was killed goes on where it was, to the same end."""

import os
import pathlib
from typing import Any

import keras

from tfbnn import arguments
from tfbnn.layers.keras_internals import build_metrics, start_at_epoch
from tfbnn.training.data import TrainingSize, is_arrays
from tfbnn.training.distribution import is_chief, local_part, same_on_all_workers
from tfbnn.training.objective import Objective
from tfbnn.training.order import run_seed
from tfbnn.training.training_state import (
    State,
    StateFile,
    assign,
    checksum_of,
    listed,
    position_in,
)


class ResumeTraining(keras.callbacks.Callback):
    """Saves the whole state of `fit`, and continues from it when the program is started again.

    Saved are the weights, the optimizer, the random state of the layers, the metrics of the epoch
    and the place in it. With arrays as data, `fit` gives the examples in an order that is a
    function of the seed of `keras.utils.set_random_seed` and of the step, so that the run ends with
    the weights of one that was never interrupted. A `tf.data.Dataset` is read again from the start
    of the epoch (with `steps_per_epoch`, of the training) up to the place; that is exact if it
    gives the same batches in every run, which one that shuffles anew in each epoch does only in its
    first.

    It goes first in the list of callbacks. What other callbacks keep to themselves (the patience of
    `EarlyStopping`, the `History` of earlier epochs) is not saved; `SigmaLogger` continues its log
    with `append=True`. While the read batches are passed over, callbacks see batches without logs.

    Under `tf.distribute` all workers read the folder and the chief alone writes, so the workers
    must share it.

    Args:
        folder: Folder of the state, which must be that of this run alone; made if it is missing.
        every: Number of batches after which the state is saved; it is saved at the end of every
            epoch too.
        keep: Whether the state stays after `fit` has ended. By default it is removed, as by Keras'
            `BackupAndRestore`: the next `fit` starts anew.

    Raises:
        ValueError: If `every` is not positive; at the start of `fit`, if the model is not built, or
            the state is damaged, that of another model or run, or another one on other workers.
        OSError: In `fit`, if the state cannot be read or written. The error names the file; a full
            disk leaves the last state as it was, from which the next run goes on.

    Example:

    >>> import tempfile
    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("adam", loss=loss)
    >>> resume = tfbnn.callbacks.ResumeTraining(tempfile.mkdtemp(), every=10)
    >>> history = model.fit(np.eye(3), np.array([0, 1, 1]), callbacks=[resume], verbose=0)
    """

    def __init__(self, folder: str | os.PathLike, every: int = 100, keep: bool = False):
        super().__init__()
        self.folder = arguments.path("folder", folder)
        self._file = StateFile(self.folder)
        self.every = arguments.count("every", every)
        self.keep = arguments.boolean("keep", keep)
        # What `fit` says of its data, which another run must not differ in.
        self._run: tuple[int, ...] = ()
        # Whether one pass over the data lasts for all epochs (`steps_per_epoch`).
        self._endless = False
        # What `prepare` has read, until training begins.
        self._state: State | None = None
        self._epoch = self._last_saved = 0

    @property
    def path(self) -> pathlib.Path:
        """The file that holds the state."""
        return self._file.path

    def position(self) -> tuple[int, int]:
        """The epoch and the batch at which training will go on: `(0, 0)` without a state."""
        return position_in(self._file.read())

    def prepare(
        self, x: Any, size: TrainingSize, shuffle: bool, steps_per_epoch: int | None
    ) -> int:
        """Called by `fit`, to say what it trains on, before it makes the order of the examples.

        Returns the epoch in which training will go on, 0 without a state. An order of the data that
        cannot be repeated, and a state that is damaged or of another run, are a `ValueError`.
        """
        if isinstance(x, keras.utils.PyDataset) and shuffle:
            raise ValueError(
                "Keras shuffles a `PyDataset` in another order when it is started again, so that "
                "training could not go on exactly: pass `shuffle=False` and shuffle in the data "
                "set. Received: shuffle=True"
            )
        arrays = is_arrays(x)
        seed = run_seed() if arrays and shuffle else -1
        self._run = (size.num_examples, size.num_batches, seed)
        self._endless = not arrays and steps_per_epoch is not None
        self._state = self._file.read_of(self._run)
        return position_in(self._state)[0]

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.model.built:
            raise ValueError(
                "ResumeTraining needs a model that is built: begin it with `keras.Input`, or call "
                f"it on a batch first. Received: model={self.model.name!r}, built=False"
            )
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._last_saved = 0
        # Keras' own models do not call `prepare`.
        state = self._file.read_of(self._run) if self._state is None else self._state
        self._state = None
        if not same_on_all_workers(checksum_of(state), self.model.distribute_strategy):
            raise ValueError(
                "The workers do not see the same state: give them all the same folder on a shared "
                f"file system. Received: folder={str(self.folder)!r}"
            )
        if not state:
            # So that a run killed before its first state starts from the same weights.
            self._save(0, 0)
            return
        self._restore(state)
        epoch, batch = position_in(state)
        start_at_epoch(self.model, epoch)
        objective = getattr(self.model, "objective", None)
        if isinstance(objective, Objective):
            objective.begin_schedules(self.model.optimizer, epoch, batch)
        self._last_saved = batch
        before = epoch * (self.params.get("steps") or 0) if self._endless else 0
        if before or batch:
            self._pass_over(before, batch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch + 1 - self._last_saved >= self.every:
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._save(epoch + 1, 0)

    def on_train_end(self, logs: Any = None) -> None:
        # Keras would start the next `fit` there too.
        start_at_epoch(self.model, None)
        if not self.keep and is_chief(self.model.distribute_strategy):
            self.path.unlink(missing_ok=True)

    def _save(self, epoch: int, batch: int) -> None:
        """All workers read their variables, for which they must talk; the chief alone writes."""
        state = {**listed("variable", self._variables()), **listed("metric", self._metrics())}
        self._last_saved = batch
        if is_chief(self.model.distribute_strategy):
            self._file.write(state, self._run, (epoch, batch))

    def _restore(self, state: State) -> None:
        if not assign(state, "variable", self._variables()):
            raise ValueError(
                f"{self.path} holds the state of another model or optimizer: choose another "
                f"folder, or remove it. Received: folder={str(self.folder)!r}"
            )
        self._saved_metrics = {name: state[name] for name in state if name.startswith("metric")}

    def _pass_over(self, before: int, batches: int) -> None:
        """Let the next calls of the train function read batches and do nothing else."""
        train, left = self.model.train_function, batches

        def pass_over(iterator: Any) -> dict[str, Any]:
            nonlocal left, before
            for _ in range(before):
                next(iterator)
            before = 0
            if not left:
                self.model.train_function = train
                return train(iterator)
            for _ in range(min(left, self.model.steps_per_execution)):
                batch = next(iterator)
            left -= self.model.steps_per_execution
            if left > 0:
                return {}
            self.model.train_function = train
            self._restore_metrics(batch)
            return self.model.get_metrics_result()

        pass_over.passes_over = True
        self.model.train_function = pass_over

    def _restore_metrics(self, batch: Any) -> None:
        strategy = self.model.distribute_strategy
        if len(self._metrics()) < len(self._saved_metrics):
            # Keras makes the variables of the user's metrics when it first sees targets.
            with strategy.scope():
                build_metrics(self.model, local_part(batch, strategy))
        if not assign(self._saved_metrics, "metric", self._metrics()):
            raise ValueError(
                f"{self.path} was saved with other metrics: compile the model with the same ones, "
                f"or remove it. Received: folder={str(self.folder)!r}"
            )

    def _variables(self) -> list[Any]:
        metrics = {id(variable) for variable in self._metrics()}
        own = [v for v in self.model.variables if id(v) not in metrics]
        return [*own, *self.model.optimizer.variables]

    def _metrics(self) -> list[Any]:
        return self.model.metrics_variables


def resuming_callback(callbacks: Any) -> ResumeTraining | None:
    """The `ResumeTraining` among what `fit` takes as callbacks, or None."""
    listed = getattr(callbacks, "callbacks", callbacks)  # of a `CallbackList`
    return next((c for c in keras.tree.flatten(listed) if isinstance(c, ResumeTraining)), None)


def forget_resuming(model: keras.Model) -> None:
    """Undo what a `fit` that ended with an error has left on the model."""
    start_at_epoch(model, None)
    if getattr(model.train_function, "passes_over", False):
        model.train_function = None
