"""Rankings: which weights go first, one by one or in blocks.

| granularity | what lives or dies together |
|---|---|
| `weight` | one weight (`BlockRanking` with blocks of one) |
| `block` | some consecutive inputs of one output (`BlockRanking`) |
| `unit` | a neuron or filter, with all that it reads and all that reads it (`units`) |
"""

import math

import keras
import numpy as np

from tfbnn.layers.variational import random_maps
from tfbnn.pruning.masks import Selection, mask_of, prunable_weights
from tfbnn.pruning.scores import CRITERIA, GROUP_CRITERIA
from tfbnn.weights.families import NormalWeight


class AbstractRanking:
    """The scores of a model, and what is kept at a sparsity or above a threshold.

    Scores are computed once; pruning at any sparsity then only sorts.
    """

    def at(self, sparsity: float, scope: str) -> Selection:
        """What is kept if the share `sparsity` of the weights is removed."""
        raise NotImplementedError

    def above(self, threshold: float) -> Selection:
        """What is kept if all with a score at or below the threshold is removed."""
        raise NotImplementedError

    def highest(self) -> list[float]:
        """The highest score in each kernel."""
        raise NotImplementedError


class BlockRanking(AbstractRanking):
    """Blocks of consecutive weights along the inputs of a kernel, for one output.

    The inputs are the last axis but one: the inputs of a dense layer, the channels of a
    convolution. The last block of an axis may be shorter.

    Raises:
        ValueError: If the weights are not finite, or a kernel has no blocks.
    """

    def __init__(self, model: keras.Model, criterion: str, block_size: int = 1):
        for one in random_maps(model) if block_size > 1 else ():
            if not one.linear_map.has_blocks(one.kernel.shape):
                raise ValueError(
                    f"Neighbours in the kernel of {one.full_name!r} are no inputs of one output, "
                    "so its weights have no blocks. Use granularity='weight'. "
                    f"Received: granularity='block', a layer of type {type(one.layer).__name__}"
                )
        self._block_size = block_size
        self._masks = [mask_of(kernel) for kernel in prunable_weights(model)]
        self._alive = [self._sums(mask) for mask in self._masks]
        self._scores = [
            np.where(alive > 0, self._score(kernel, mask, criterion), -np.inf)
            for kernel, mask, alive in zip(
                prunable_weights(model), self._masks, self._alive, strict=True
            )
        ]

    def at(self, sparsity: float, scope: str) -> Selection:
        parts = [[i] for i in range(len(self._masks))]
        if scope == "global":
            parts = [list(range(len(self._masks)))]
        return self._selection([keep for part in parts for keep in self._kept(part, sparsity)])

    def above(self, threshold: float) -> Selection:
        return self._selection([score > threshold for score in self._scores])

    def highest(self) -> list[float]:
        return [float(score.max()) for score in self._scores]

    def _kept(self, part: list[int], sparsity: float) -> list[np.ndarray]:
        """Which blocks of some kernels are kept; never none of them."""
        scores = np.concatenate([self._scores[i].ravel() for i in part])
        alive = np.concatenate([self._alive[i].ravel() for i in part])
        size = sum(self._masks[i].size for i in part)
        order = np.argsort(scores, kind="stable")
        removed = size - alive.sum() + np.cumsum(alive[order])
        count = np.searchsorted(removed, round(sparsity * size), side="right")
        kept = np.isfinite(scores)
        kept[order[: min(count, order.size - 1)]] = False
        ends = np.cumsum([self._scores[i].size for i in part])[:-1]
        shapes = [self._scores[i].shape for i in part]
        return [k.reshape(s) for k, s in zip(np.split(kept, ends), shapes, strict=True)]

    def _selection(self, kept: list[np.ndarray]) -> Selection:
        pairs = zip(self._masks, kept, strict=True)
        kernels = [mask * self._of_weights(keep, mask.shape) for mask, keep in pairs]
        return Selection(kernels, [np.ones(mask.shape[-1]) for mask in self._masks])

    def _score(self, kernel: NormalWeight, mask: np.ndarray, criterion: str) -> np.ndarray:
        check_finite(kernel)
        if self._block_size == 1:
            return CRITERIA[criterion](kernel).numpy()
        group = GROUP_CRITERIA[criterion]
        return group.of_sums(*[self._sums(mask * term) for term in group.terms(kernel)])

    def _of_weights(self, of_blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """What is said of the blocks, for each weight of a kernel."""
        if self._block_size == 1:
            return of_blocks
        return np.repeat(of_blocks, self._block_size, axis=-2)[..., : shape[-2], :]

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the blocks, shape `(..., blocks, outputs)`."""
        if self._block_size == 1:
            # Also of a kernel with one axis, which has no other blocks.
            return values.astype(np.float64)
        *space, inputs, outputs = values.shape
        blocks = math.ceil(inputs / self._block_size)
        short = blocks * self._block_size - inputs
        padded = np.pad(values, [*[(0, 0)] * len(space), (0, short), (0, 0)])
        shape = (*space, blocks, self._block_size, outputs)
        return padded.reshape(shape).sum(-2, dtype=np.float64)


def check_finite(kernel: NormalWeight) -> None:
    """Raise a `ValueError` if a kernel cannot be ranked."""
    variables = (kernel.loc_variable, kernel.rho_variable)
    bad = sum(int((~np.isfinite(keras.ops.convert_to_numpy(v))).sum()) for v in variables)
    if bad:
        raise ValueError(
            "The posterior has NaN or infinite weights, which cannot be ranked: training has "
            f"diverged. Received: {bad} such numbers in {kernel.loc_variable.path}"
        )
