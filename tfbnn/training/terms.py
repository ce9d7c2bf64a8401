"""Terms: the parts of the objective as metrics of a model."""

from typing import Any

import keras


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
