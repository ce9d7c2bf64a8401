"""`tfbnn.distill`: teach a network what a posterior predicts, without labels."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.steps import steps_of
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.variational import posterior_of
from tfbnn.prediction import moments
from tfbnn.training.data import check_arrays
from tfbnn.training.likelihoods import AbstractLikelihood
from tfbnn.weights import noise

_ROUTES = ("moments", "mean")
_NUM_POINTS = 32
# Under the logarithm of a probability.
_TINY = 1e-12


def distill(
    student: Any,
    teacher: Any,
    x: Any,
    route: str = "moments",
    epochs: int = 10,
    batch_size: int = 256,
    num_samples: int = 2,
    learning_rate: float = 1e-3,
    entropy_weight: float = 1.0,
    augmentation: Callable | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: Any = 0,
) -> keras.callbacks.History:
    teacher, student = posterior_of(teacher), posterior_of(student)
    x = np.asarray(x, np.float32)
    model = _Distillation(student, teacher, route, num_samples, entropy_weight, augmentation)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // batch_size))
    model.compile(keras.optimizers.Adam(rate))
    return model.fit(
        x, batch_size=batch_size, epochs=epochs, callbacks=list(callbacks), verbose=verbose
    )


class _Distillation(keras.Model):
    def __init__(self, student, teacher, route, num_samples, entropy_weight, augmentation):
        super().__init__()
        self.student = student.model
        self._likelihood = student.likelihoods[0]
        self._teacher = teacher
        self._steps = steps_of(student.model) if route == "moments" else None
        self._num_samples = num_samples
        self._entropy_weight = entropy_weight
        self._augmentation = augmentation
        self._seeds = keras.random.SeedGenerator()
        self._ce = keras.metrics.Mean(name="ce")
        self._ee = keras.metrics.Mean(name="ee")

    def train_step(self, x):
        if self._augmentation is not None:
            x = self._augmentation(x)
        drawn = self._drawn(x)
        with tf.GradientTape() as tape:
            outputs = self._student_outputs(x)
            (p,) = self._likelihood.parameters(outputs)
            q = tf.reduce_mean(drawn, 0)
            ce = -tf.reduce_mean(tf.reduce_sum(q * tf.math.log(tf.reduce_mean(p, 0) + _TINY), -1))
            ee = tf.reduce_mean(tf.square(_h(p) - _h(drawn)))
            loss = ce + self._entropy_weight * ee
        variables = self.student.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self._ce.update_state(ce)
        self._ee.update_state(ee)
        return {"ce": self._ce.result(), "ee": self._ee.result()}

    def _drawn(self, x):
        out = []
        for _ in range(self._num_samples):
            values = self._teacher.draw(noise.next_seed(self._seeds))
            outputs = self._teacher.network(values, x)
            out.append(self._teacher.likelihoods[0].parameters(outputs)[0])
        return tf.stack(out)

    def _student_outputs(self, x):
        if self._steps is None:
            return self.student(x, training=False)[tf.newaxis]
        return moments.outputs_at_points(self._steps, x, moments.current_weights, _NUM_POINTS)


def _h(p):
    return tf.reduce_mean(-tf.reduce_sum(p * tf.math.log(p + _TINY), -1), 0)
