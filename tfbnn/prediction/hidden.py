"""Hidden activations: what layers inside the drawn networks give, a mean and a deviation of each.

The moments are taken while the networks are drawn, one after the other, so that memory is that of
the result and not of all networks.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.activity import layers_by_name
from tfbnn.likelihoods.results import Activations
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.prediction.sampling import Block
from tfbnn.weights import noise
from tfbnn.weights.tracing import traced


class HiddenActivations:
    """What layers of a posterior's networks give for rows that are predicted.

    Args:
        posterior: The posterior.
        layers: Names of layers.

    Raises:
        ValueError: If there is no layer of a name in the model, or in one of several models.
    """

    def __init__(self, posterior: AbstractPosterior, layers: Any):
        self._posterior = posterior
        self._names = _checked(posterior, layers)
        self._parts: list[list[Activations]] = []

    def add(self, block: Block, num_samples: int, seed: int) -> None:
        """Take the next block of rows, of networks that were drawn with this seed."""
        moments = [_Moments() for _ in block.batches]
        for values in _networks(self._posterior, noise.as_seed(seed), num_samples):
            for one, (inputs, *_) in zip(moments, block.batches, strict=True):
                one.add([array.numpy() for array in self._computation(values, inputs)])
        self._parts += [one.result() for one in moments]

    def result(self) -> dict[str, Activations]:
        """The mean and the standard deviation of what each layer gave, for all rows."""
        of_layers = zip(*self._parts, strict=True)
        return {name: _joined(parts) for name, parts in zip(self._names, of_layers, strict=True)}

    @functools.cached_property
    def _computation(self) -> Any:
        def activations(values: Any, inputs: Any) -> list[tf.Tensor]:
            return self._posterior.activations(values, inputs, self._names)

        return traced(activations, reduce_retracing=True)


class _Moments:
    """Means and variances of arrays that come one after the other.

    By Welford's update, in which nothing large is taken from something large.
    """

    def __init__(self) -> None:
        self._count = 0
        self._means: list[np.ndarray] = []
        self._squares: list[np.ndarray] = []

    def add(self, arrays: list[np.ndarray]) -> None:
        """Take the next values, float32."""
        self._count += 1
        if self._count == 1:
            self._means, self._squares = arrays, [np.zeros_like(one) for one in arrays]
            return
        for place, one in enumerate(arrays):
            step = one - self._means[place]
            self._means[place] = self._means[place] + step / np.float32(self._count)
            self._squares[place] += step * (one - self._means[place])

    def result(self) -> list[Activations]:
        """Mean and standard deviation of each."""
        deviations = [np.sqrt(one / np.float32(self._count)) for one in self._squares]
        return [Activations(*pair) for pair in zip(self._means, deviations, strict=True)]


def _networks(posterior: AbstractPosterior, seed: tf.Tensor, num_samples: int) -> Iterator[Any]:
    """The networks that a prediction is the mean of, one by one."""
    for number in range(num_samples):
        yield from posterior.networks(posterior.draws(seed, number, 1))


def _checked(posterior: AbstractPosterior, layers: Any) -> Sequence[str]:
    names = arguments.listed("layers", layers, arguments.text)
    known = [layers_by_name(model) for model in posterior.models]
    common = [name for name in known[0] if all(name in one for one in known)]
    if not names or not set(names) <= set(common):
        raise ValueError(
            f"`layers` must be names of layers of the network, of which there are {common}. "
            f"Received: layers={names}"
        )
    return list(dict.fromkeys(names))


def _joined(parts: Sequence[Activations]) -> Activations:
    return Activations(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
