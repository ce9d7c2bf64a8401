"""`StopWhenSigmaSettles`: training ends when sigma has come to what the objective wants."""

import math
from typing import Any

import keras

from tfbnn import arguments
from tfbnn.layers.keras_internals import batches_seen
from tfbnn.training.bayesian_model import BayesianModel
from tfbnn.training.convergence import last_steps_of

# Steps of a KL schedule that end an epoch within so much of where they began are at its end.
_SAME_WEIGHT = 0.01


class StopWhenSigmaSettles(keras.callbacks.Callback):
    """Stops training when nothing pulls at the posterior standard deviations any more.

        pull = -mean(d loss / d log sigma) / (kl_weight * max(1, K, L))

    with the sizes `K` and `L` of what the KL and the likelihood pull: 1 where the KL alone acts, 0
    where sigma has arrived, negative where it is too large (`tfbnn.training.last_steps`, which is
    what `fit` warns by). How much sigma moves would say nothing: a learning rate that falls to 0
    ends that as well.

    It says nothing of the means, nor of a posterior that fell back to the prior, which is settled
    too; `fit` warns of both at its end. While the weight of the KL rises, sigma follows it, and
    training is not stopped.

    Args:
        largest_pull: Below this the pull is small; `fit` warns above 0.3, under a normal prior a
            sigma that is too small by a sixth. 0.1 is about a twentieth.
        patience: Number of epochs in a row with a small pull, after which training is stopped: what
            the last steps say is noisy.

    Attributes:
        pulls: The pull at the end of each epoch of the last `fit`, NaN where too little was seen.
        stopped_epoch: The number of the epoch, from 1, after which it has stopped; 0 if it has not.

    Raises:
        TypeError: At the start of `fit`, if the model is none of tfbnn.
        ValueError: If an argument is out of its range; in `fit`, if the model has no random weights
            that are trained.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.Dense(1)])
    >>> model.compile(loss=tfbnn.losses.NormalNLL(0.1), recipe="calibrated")
    >>> stop = tfbnn.callbacks.StopWhenSigmaSettles(largest_pull=0.2)
    >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    >>> history = model.fit(x, x[:, :1], epochs=5, callbacks=[stop], verbose=0)
    >>> len(stop.pulls), stop.stopped_epoch
    (5, 0)
    """

    def __init__(self, largest_pull: float = 0.1, patience: int = 3):
        super().__init__()
        self.largest_pull = arguments.positive("largest_pull", largest_pull)
        self.patience = arguments.count("patience", patience)
        self.pulls: list[float] = []
        self.stopped_epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        if not isinstance(self.model, BayesianModel):
            raise TypeError(
                "StopWhenSigmaSettles reads what the `fit` of a `tfbnn.Sequential` or "
                f"`tfbnn.Model` observes. Received: model of type {type(self.model).__name__}"
            )
        self.pulls, self.stopped_epoch, self._settled = [], 0, 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pull = self._pull()
        self.pulls.append(pull)
        is_small = abs(pull) <= self.largest_pull and self._weight_is_steady()
        self._settled = self._settled + 1 if is_small else 0
        if self._settled >= self.patience:
            self.stopped_epoch = epoch + 1
            self.model.stop_training = True

    def _pull(self) -> float:
        steps = last_steps_of(self.model)
        if steps is None or not any(w.rho_variable.trainable for w in steps.weights):
            raise ValueError(
                "StopWhenSigmaSettles has nothing to look at: the model has no random weights that "
                f"are trained. Use layers of `tfbnn.layers`. Received: model={self.model.name!r}"
            )
        return steps.mean_pull()[0]

    def _weight_is_steady(self) -> bool:
        """Whether the KL weighs what it did an epoch ago."""
        objective = self.model.objective
        step = batches_seen(self.model.optimizer)
        now, before = (
            float(objective.kl_weight(one)) for one in (step, step - objective.num_batches)
        )
        return math.isclose(now, before, rel_tol=_SAME_WEIGHT)
