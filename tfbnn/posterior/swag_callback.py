"""Collecting weights while a Keras model trains, for `tfbnn.posteriors.SWAG`."""

import collections
from typing import Any

import keras
import numpy as np

from tfbnn import arguments
from tfbnn.posterior import swag
from tfbnn.posterior.swag import WeightMoments, collected_variables

_FEWEST = 2


class RunningMoments:
    """Mean and variance of a series of arrays, in one pass, and its last deviations.

        mean_n = mean_{n-1} + (x_n - mean_{n-1}) / n
        sum_n = sum_{n-1} + (x_n - mean_{n-1}) * (x_n - mean_n),   variance_n = sum_n / n

    (Welford 1962: a difference of squares would lose the digits of small variances.)

    Args:
        rank: How many deviations `x_n - mean_n` to keep, of the last ones.
    """

    def __init__(self, rank: int):
        self.count = 0
        self._mean: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._deviations: collections.deque[list[np.ndarray]] = collections.deque(maxlen=rank)

    def add(self, values: list[np.ndarray]) -> None:
        """Take the next arrays, each in float64."""
        if not self.count:
            self._mean = [np.zeros_like(value) for value in values]
            self._sums = [np.zeros_like(value) for value in values]
        self.count += 1
        before = [value - mean for value, mean in zip(values, self._mean, strict=True)]
        for mean, difference in zip(self._mean, before, strict=True):
            mean += difference / self.count
        after = [value - mean for value, mean in zip(values, self._mean, strict=True)]
        for total, one, other in zip(self._sums, before, after, strict=True):
            total += one * other
        self._deviations.append([one.astype(np.float32) for one in after])

    def moments(self) -> WeightMoments:
        """The moments so far."""
        return WeightMoments(
            [mean.copy() for mean in self._mean],
            [total / self.count for total in self._sums],
            [
                np.stack([one[index] for one in self._deviations])
                if self._deviations
                else np.zeros((0, *mean.shape))
                for index, mean in enumerate(self._mean)
            ],
        )


class SWAG(keras.callbacks.Callback):
    """Collects the weights that training passes by; afterwards `posterior()` is their law.

    The weights are taken at the end of epochs, once training has come to where it moves about: so
    give the optimizer a rate that is constant there and rather high, or cyclical, with epochs as
    long as a cycle. The callback leaves the rate alone, and the model as `fit` has trained it. The
    paper uses SGD with momentum and weight decay.

    Each `fit` collects anew. It takes 16 bytes for each weight, and 4 more for each deviation.

    Args:
        start: Epochs of a `fit` before the first that is collected.
        rank: Deviations that the covariance is made of, of the last epochs collected; 0 for a
            diagonal covariance.
        every: Epochs from one that is collected to the next.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: In `fit`, if the model has random weights of its own.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.SGD(0.1), loss=loss)
    >>> swag = tfbnn.callbacks.SWAG(start=2, rank=4)
    >>> x, y = np.eye(3), np.array([0, 1, 1])
    >>> history = model.fit(x, y, epochs=8, batch_size=1, callbacks=[swag], verbose=0)
    >>> swag.num_collected
    6
    >>> swag.posterior().rank
    4

    Reference:
        Maddox et al. 2019, "A Simple Baseline for Bayesian Uncertainty in Deep Learning",
        algorithm 1.
    """

    def __init__(self, start: int = 0, rank: int = 20, every: int = 1):
        super().__init__()
        self.start = arguments.count("start", start, 0)
        self.rank = arguments.count("rank", rank, 0)
        if self.rank == 1:
            raise ValueError(
                "`rank` must be 0, for a diagonal covariance, or at least 2. Received: rank=1"
            )
        self.every = arguments.count("every", every)
        self._running = RunningMoments(self.rank)
        self._epochs = 0

    @property
    def num_collected(self) -> int:
        """Number of networks that were collected."""
        return self._running.count

    def on_train_begin(self, logs: Any = None) -> None:
        self._running, self._epochs = RunningMoments(self.rank), 0
        if self.model.built:
            collected_variables(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        done, self._epochs = self._epochs, self._epochs + 1
        if done >= self.start and (done - self.start) % self.every == 0:
            self._running.add([one.coordinates() for one in collected_variables(self.model)])

    def moments(self) -> WeightMoments:
        """Moments of what was collected.

        Raises:
            ValueError: If fewer than two networks were collected.
        """
        if self.num_collected < _FEWEST:
            raise ValueError(
                f"A law of weights needs {_FEWEST} networks that were collected, and some tens for "
                "a good one: give `fit` this callback and more epochs, or a smaller `start`. "
                f"Received: {self.num_collected} collected, start={self.start}, every={self.every}"
            )
        return self._running.moments()

    def posterior(self) -> swag.SWAG:
        """The posterior of the model that was fitted.

        Raises:
            ValueError: If fewer than two networks were collected, or the model's loss is no
                likelihood.
        """
        moments = self.moments()
        return swag.SWAG(self.model, moments)
