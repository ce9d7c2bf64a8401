"""Terms: the parts of the objective as metrics of a model."""

from typing import Any

import keras

from tfbnn.layers.keras_internals import loss_tracker
from tfbnn.training import distribution

TERMS = ("nll", "kl", "kl_weight", "weighted_kl")
"""Their names."""


class Term(keras.metrics.Mean):
    """The mean of a term of the objective over the batches of an epoch.

    A term is no function of targets and predictions. A training step of the user's own, which goes
    through `model.metrics` and calls `metric.update_state(y, y_pred)` as Keras' guides do, leaves
    it alone; `compute_loss` records it.
    """

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: see the class."""

    def record(self, value: Any, weight: Any = None) -> None:
        """Note the value of the term on a batch, which counts `weight` times."""
        super().update_state(value, sample_weight=weight)


def record(terms: list[Term], weight: Any = None, **values: Any) -> None:
    """Note the values of some of the terms on a batch."""
    for term in terms:
        if term.name in values:
            term.record(values[term.name], weight)


def record_loss(model: keras.Model, loss: Any, rows: Any) -> None:
    """Note a replica's share of the loss of a batch, which has so many rows on all of them."""
    # Every replica counts the same, however few rows it has: its share knows.
    replicas = distribution.num_replicas()
    loss_tracker(model).update_state(loss * replicas, sample_weight=rows / replicas)
