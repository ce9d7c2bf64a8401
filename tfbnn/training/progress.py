"""How far one `fit` has come: what schedules over its steps are functions of."""

from typing import Any

import keras
import tensorflow as tf


class FitProgress:
    """The first step of a `fit`, and how many it has.

    Both are variables: the train function, which Keras keeps for the next `fit`, reads them.
    Outside of a `fit`, and where the number is not known, there is no progress: both shares are
    those of a run without schedules.
    """

    def __init__(self) -> None:
        self.num_steps = 0
        self._variables = {
            name: keras.Variable(0, dtype="int64", trainable=False, name=name)
            for name in ("first_step", "num_steps")
        }

    def begin(self, first_step: int) -> None:
        """Start, with the optimizer at `first_step` when the first epoch begins, or began."""
        self._variables["first_step"].assign(first_step)
        self._variables["num_steps"].assign(self.num_steps)

    def end(self) -> None:
        """From now on there is no progress."""
        self._variables["num_steps"].assign(0)

    def steps_before(self, step: Any) -> tf.Tensor:
        """How many steps were done before `step`, a whole number."""
        return tf.cast(step, tf.int64) - tf.convert_to_tensor(self._variables["first_step"].value)

    def steps_in_all(self) -> tf.Tensor:
        """How many steps the `fit` has; 0 without progress."""
        return tf.convert_to_tensor(self._variables["num_steps"].value)

    def share_before(self, step: Any) -> tf.Tensor:
        """The share of the steps done before `step`, from 0 to 1; 0 without progress."""
        done, of = self._done(step)
        return tf.where(of > 0, tf.clip_by_value(done / tf.maximum(of, 1.0), 0.0, 1.0), 0.0)

    def share_after(self, step: Any) -> tf.Tensor:
        """The share done after `step`, from 0 to 1; 1 without progress."""
        done, of = self._done(step)
        share = tf.clip_by_value((done + 1.0) / tf.maximum(of, 1.0), 0.0, 1.0)
        return tf.where(of > 0, share, 1.0)

    def _done(self, step: Any) -> tuple[tf.Tensor, tf.Tensor]:
        done, of = self.steps_before(step), self.steps_in_all()
        return tf.cast(done, tf.float32), tf.cast(of, tf.float32)
