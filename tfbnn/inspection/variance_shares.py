"""Shares of the predictive variance: one layer is drawn, the others are at their means.

    share(layer) = E_x[Var(f(x; w_layer, E[w_others]))] / E_x[Var(f(x; w))]

where `f` is what a prediction is the mean of: the probabilities of classes, the mean of real
numbers. Where `f` is linear in the weights of each layer these are the first-order indices of
Sobol: they add up to at most 1, and the rest comes from layers that are drawn together. Through
other functions they may add up to more.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfbnn.posterior.base import AbstractPosterior, AbstractRandomVariables
from tfbnn.prediction.sampling import Sampled, sampled_blocks


class VarianceShare(NamedTuple):
    """A share, and its standard error over draws."""

    share: float
    error: float


class PartlyDrawn(AbstractPosterior):
    """The networks of a posterior in which some variables are drawn, the others at their means.

    A draw has the same values of what is drawn as the posterior's own of that number.

    Args:
        posterior: The posterior.
        drawn: The places in `posterior.variables` of those that are drawn.
    """

    route = "partly_drawn"

    def __init__(self, posterior: AbstractRandomVariables, drawn: Collection[int]):
        super().__init__(posterior.model, posterior.likelihoods)
        self._posterior, self._drawn = posterior, drawn

    @property
    def draw_bytes(self) -> int:
        return self._posterior.draw_bytes

    def draws(self, seed: tf.Tensor, first: int, count: int) -> list[tf.Tensor]:
        pairs = zip(self._posterior.draws(seed, first, count), self.mean(), strict=True)
        return [
            values if place in self._drawn else tf.broadcast_to(mean, values.shape)
            for place, (values, mean) in enumerate(pairs)
        ]

    def outputs(self, draws: list[tf.Tensor], inputs: Any) -> Any:
        return self._posterior.outputs(draws, inputs)

    def networks(self, draws: list[tf.Tensor]) -> list[Any]:
        return self._posterior.networks(draws)

    def network(self, values: list[tf.Tensor], inputs: Any) -> Any:
        return self._posterior.network(values, inputs)

    def mean(self) -> list[tf.Tensor]:
        return self._posterior.mean()

    def largest_tensor(self, inputs: Any) -> int:
        # Of the same function, which need not be traced again.
        return self._posterior.largest_tensor(inputs)


def variance_shares(
    posterior: AbstractRandomVariables, layers: dict[str, Collection[int]], x: Any, **drawing: Any
) -> dict[str, VarianceShare]:
    """The share of each layer.

    Args:
        posterior: A posterior.
        layers: For each name the places in `posterior.variables` of what belongs to it.
        x: Inputs, as `tfbnn.predict` takes them.
        **drawing: `num_samples`, `batch_size`, `seed` and `verbose`, as there.

    Returns:
        The shares by name, NaN where nothing varies. Of several outputs the mean of their shares.
    """
    whole = _squares(posterior, x, **drawing)
    return {
        name: _share(_squares(PartlyDrawn(posterior, places), x, **drawing), whole)
        for name, places in layers.items()
    }


def _squares(posterior: AbstractPosterior, x: Any, **drawing: Any) -> np.ndarray:
    """Squared deviations from the mean over draws, summed over rows, `(outputs, num_samples)`."""
    sums = 0.0
    for block in sampled_blocks(posterior, x, **drawing):
        sums += np.stack([_squares_of(answer) for answer in block.answers])
    return sums


def _squares_of(answer: Sampled) -> np.ndarray:
    found = answer.parameters[0].astype(np.float64)
    squares = np.square(found - found.mean(axis=0))
    if answer.mask is not None:
        rank = squares.ndim - 1 - answer.mask.ndim
        squares *= answer.mask.reshape(answer.mask.shape + (1,) * rank)
    return squares.reshape(len(squares), -1).sum(axis=1)


def _share(part: np.ndarray, whole: np.ndarray) -> VarianceShare:
    """A ratio of means over draws; its error is that of the mean of what it leaves of each draw."""
    total = whole.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = part.mean(axis=1, keepdims=True) / total
        left = ((part - ratios * whole) / total).mean(axis=0)
    return VarianceShare(float(ratios.mean()), float(left.std(ddof=1) / np.sqrt(len(left))))
