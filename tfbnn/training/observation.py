"""Observation: what a training step tells `last_steps`, for the warnings at the end of `fit`."""

from typing import Any

import keras
import tensorflow as tf

from tfbnn.layers.keras_internals import batches_seen
from tfbnn.layers.variational import variational_weights
from tfbnn.training import distribution, outputs
from tfbnn.training.last_steps import LastSteps, Observation
from tfbnn.training.noise_variables import learned_noise


def watch(model: keras.Model) -> None:
    """Have `observe` note what happens to the random weights of a model, and to its noise."""
    weights = variational_weights(model)
    rhos = [loss.rho_variable for loss in learned_noise(model.likelihoods)]
    known = model.objective.last_steps
    if known is None or not known.watches(weights, rhos):
        with tf.init_scope():
            model.objective.last_steps = LastSteps(weights, rhos)


def observe(
    model: keras.Model, gradients: dict[int, Any], batch: tuple[Any, Any, Any], rows: tf.Tensor
) -> None:
    """Note what a training step found.

    `gradients` are those of the scaled loss by `id` of a variable; `batch` targets, outputs and
    weights of the examples; `rows` the number of these over all replicas.
    """
    if distribution.num_replicas() == 1:
        # A model that its first batch builds. (With replicas it is built before.)
        watch(model)
    objective, step = model.objective, batches_seen(model.optimizer)
    if objective.last_steps is None or not objective.last_steps.weights:
        return

    def found() -> Observation:
        y, y_pred, sample_weight = batch
        terms = outputs.in_order(model, y), y_pred, outputs.in_order(model, sample_weight)
        return Observation(
            gradients,
            model.optimizer.scale_loss(1.0),
            objective.data_term.numbers_per_scale(*terms),
            objective.data_term.gain_from_inputs(*terms, rows),
        )

    objective.last_steps.observe(
        found,
        lambda: objective.kl_weight(step),
        objective.progress.steps_before(step),
        objective.progress.steps_in_all(),
    )
