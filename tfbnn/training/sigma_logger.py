"""`SigmaLogger`: watch the posterior standard deviations while a model trains."""

import math
import os
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.training import sigma, sigma_picture
from tfbnn.training.convergence import last_steps_of
from tfbnn.training.distribution import is_chief
from tfbnn.training.sigma_csv import Records, SigmaFile
from tfbnn.training.sigma_runs import PICTURE, find_run
from tfbnn.weights.families import NormalWeight

# What is kept in memory for the picture; a denser curve is not visible.
_MOST_RECORDS = 2000


class SigmaLogger(keras.callbacks.Callback):
    """Logs sigma, the posterior standard deviation, of every random weight tensor.

    It works in the `fit` of `tfbnn.Sequential` and `tfbnn.Model`, and of a plain `keras.Model`
    whose variational layers have a `kl_weight`. `sigma_statistics` says what is logged. At the end
    of training it warns if sigma never left its start (more than 90 % of a tensor's weights) or if
    the posterior fell back to the prior (more than 90 %; under a `ScaleMixture` prior, whose narrow
    component is there to gather weights, 99.9 %). Tensors that are not trained raise no warning.

    Files, in `log_dir` if no other run has its log there, or else in `log_dir/run_2`,
    `log_dir/run_3` and so on; `logger.folder` says where they are:

    * `sigma.csv`: a row for each tensor and time.
    * TensorBoard events: the statistics as scalars `<layer>/<weight>/<statistic>`, and histograms
      of sigma and of the signal-to-noise ratio.
    * `sigma.png`, at the end of training: quantiles of sigma over time, and the distribution of
      the signal-to-noise ratio before and after.

    Time is the optimizer's number of steps, which goes on in a second `fit` and in a model that was
    saved and loaded; `epoch` is Keras' count in the current `fit`, 0 before the first. The start
    (the first batch, if that is what builds the model) and the end of training are always logged.
    The log of an earlier `fit` is continued if it is this object's, or ends at the step where the
    model is now and has its tensors, or `append=True`. Any other log is another run's, beside which
    this one is written; nothing is overwritten.

    If a file cannot be written during training (a full disk), it warns, and training goes on.
    Under `tf.distribute` only the chief writes.

    Attributes:
        records: What was logged: a list of `(step, {weight: statistics})`, in the order of time; of
            more than 2000 times every other one.
        folder: Where the files are.

    Args:
        log_dir: Folder for the files of all runs; made if it is missing.
        every: `"epoch"`, or a number of batches.
        quantiles: Levels of the quantiles of sigma and of the ratio, rising, between 0 and 1.
        tensorboard: Whether to write TensorBoard events.
        csv: Whether to write `sigma.csv`.
        picture: Whether to write `sigma.png`.
        append: Whether to continue the last log in `log_dir`, whosever it is, as for a run that was
            interrupted and starts again.

    Raises:
        ValueError: If an argument is out of its range; at the start of `fit`, if the model has no
            variational layers or the log to be continued has other columns or layers.
        OSError: At the start of `fit`, if `log_dir` cannot be written.

    Example:

    >>> import tempfile
    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.Adam(0.1), loss=loss)
    >>> folder = tempfile.mkdtemp()
    >>> logger = tfbnn.callbacks.SigmaLogger(folder, every=2, tensorboard=False)
    >>> x, y = np.eye(3), np.array([0, 1, 1])
    >>> history = model.fit(x, y, epochs=5, callbacks=[logger], verbose=0)
    >>> sorted(os.listdir(folder))
    ['sigma.csv', 'sigma.png']
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        every: str | int = "epoch",
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        tensorboard: bool = True,
        csv: bool = True,
        picture: bool = True,
        append: bool = False,
    ):
        super().__init__()
        self.log_dir = os.fspath(arguments.path("log_dir", log_dir))
        self.every = _checked_every(every)
        self.quantiles = sigma.checked_quantiles(quantiles)
        self.tensorboard = arguments.boolean("tensorboard", tensorboard)
        self.csv = arguments.boolean("csv", csv)
        self.picture = arguments.boolean("picture", picture)
        self.append = arguments.boolean("append", append)
        self.folder: str | None = None
        self.records: Records = []
        self._weights: dict[str, NormalWeight] = {}
        self._snr_at_start: dict[str, np.ndarray] = {}
        self._file: SigmaFile | None = None
        self._writer: Any = None
        self._active = self._started = self._can_write = False
        self._epoch = self._offset = self._first_step = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._active, self._started = is_chief(self.model.distribute_strategy), False
        if self.model.built:
            self._find_weights()
        if not self._active:
            return
        _check_writable(self.log_dir)
        if self.tensorboard:
            _check_tensorboard()
        self._can_write = True
        self._epoch, self._first_step = 0, self._iterations()
        if self.model.built:
            self._start()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._active:
            return
        if not self._started:
            self._start()
        elif self.every != "epoch" and self._step() - self.records[-1][0] >= self.every:
            self._record()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._started and self.every == "epoch":
            self._record()

    def on_train_end(self, logs: Any = None) -> None:
        if not self._started:
            return
        self._record()
        if self.picture:
            self._write(self._draw)
        if self._writer is not None:
            self._write(self._writer.close)
            self._writer = None
        # Another callback may have restored other weights since the last record.
        for message in sigma.sigma_warnings(self._weights, self._statistics()):
            warnings.warn(message, stacklevel=2)

    def _iterations(self) -> int:
        # As a tensor, because a variable of several replicas is no number.
        return int(tf.convert_to_tensor(self.model.optimizer.iterations))

    def _step(self) -> int:
        return self._iterations() + self._offset

    def _find_weights(self) -> None:
        self._weights = sigma.named_weights(self.model)
        if not self._weights:
            raise ValueError(
                "SigmaLogger has nothing to log: the model has no variational layers. Use layers "
                f"of `tfbnn.layers`. Received: model={self.model.name!r}"
            )

    def _find_log(self) -> None:
        """Continue the log of this object, or find the one to continue or to begin."""
        if self._file is None:
            self._file, self.records = find_run(
                self.log_dir,
                list(next(iter(self._statistics().values()))),
                set(self._weights),
                self._first_step,
                self.append,
                claim=self.csv,
            )
            self.folder = os.path.dirname(self._file.path)
        if self.records and set(self.records[-1][1]) != set(self._weights):
            raise ValueError(
                "The log to be continued is that of a model with other layers; choose another "
                f"`log_dir`. Received: {self._file.path} with {sorted(self.records[-1][1])}, a "
                f"model with {sorted(self._weights)}"
            )

    def _start(self) -> None:
        """The first record: before training, or after one batch if that has built the model."""
        self._find_weights()
        self._find_log()
        if self.tensorboard:
            self._writer = tf.summary.create_file_writer(self.folder)
        # The optimizer counts from 0 again if the model was compiled anew, or is another one.
        last = self.records[-1][0] if self.records else 0
        self._offset = max(0, last - self._iterations()) if self._snr_at_start else 0
        if not self._snr_at_start:
            self._snr_at_start = self._snr_shares()
        self._started = True
        self._record()

    def _record(self) -> None:
        step = self._step()
        if self.records and self.records[-1][0] == step:
            return
        statistics = self._statistics()
        self.records.append((step, statistics))
        if len(self.records) > _MOST_RECORDS:
            # The first and the last stay.
            self.records = [*self.records[:-1:2], self.records[-1]]
        if self.csv:
            self._write(lambda: self._file.add(step, self._epoch, statistics))
        if self._writer is not None:
            self._write(lambda: self._write_events(step, statistics))

    def _statistics(self) -> dict[str, dict[str, float]]:
        return {
            name: sigma.sigma_statistics(w, self.quantiles) for name, w in self._weights.items()
        }

    def _write(self, write: Any) -> None:
        """A log that cannot be written must not cost the training."""
        if not self._can_write:
            return
        try:
            write()
        except (OSError, tf.errors.OpError) as error:
            self._can_write = False
            warnings.warn(
                f"SigmaLogger cannot write in {self.folder} any more and stops logging; "
                f"training goes on. Received: {error}",
                stacklevel=2,
            )

    def _write_events(self, step: int, statistics: dict[str, dict[str, float]]) -> None:
        with self._writer.as_default(step):
            for name, weight in self._weights.items():
                for statistic, value in statistics[name].items():
                    if math.isfinite(value):
                        tf.summary.scalar(f"{name}/{statistic}", value)
                tf.summary.histogram(f"{name}/sigma", sigma.kept(weight)[1])
                tf.summary.histogram(f"{name}/snr_db", sigma.snr_decibels(*sigma.kept(weight)))
        self._writer.flush()

    def _snr_shares(self) -> dict[str, np.ndarray]:
        return {
            n: sigma_picture.snr_shares(sigma.snr_decibels(*sigma.kept(w)))
            for n, w in self._weights.items()
        }

    def _draw(self) -> None:
        sigma_picture.draw(
            os.path.join(self.folder, PICTURE),
            self.records,
            self._weights,
            self.quantiles,
            self._snr_at_start,
            self._snr_shares(),
            self._pulls(),
        )

    def _pulls(self) -> dict[str, float]:
        """What pulls at each sigma where training ended, as far as it is known."""
        steps = last_steps_of(self.model)
        pulls = {} if steps is None else steps.pulls()
        return {name: pulls[w][0] for name, w in self._weights.items() if w in pulls}


def _checked_every(every: str | int) -> str | int:
    if isinstance(every, str) and every == "epoch":
        return "epoch"
    try:
        return arguments.count("every", every)
    except ValueError:
        raise ValueError(
            f'`every` must be "epoch" or a number of batches, at least 1. Received: every={every!r}'
        ) from None


def _check_writable(log_dir: str) -> None:
    try:
        os.makedirs(log_dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=log_dir) as file:
            file.write(b"tfbnn")
    except OSError as error:
        raise OSError(
            "SigmaLogger cannot write in its folder; choose another one, or make room. "
            f"Received: log_dir={log_dir!r} ({error})"
        ) from error


def _check_tensorboard() -> None:
    try:
        # TensorFlow's summaries are those of this package, which it does not require.
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "TensorBoard events need the package tensorboard: `pip install tensorboard`, or pass "
            "`tensorboard=False`."
        ) from error
