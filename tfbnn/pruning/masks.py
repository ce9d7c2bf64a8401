"""Masks: which kernel weights of a model are pruned."""

import dataclasses

import keras
import numpy as np

from tfbnn.layers.variational import random_maps
from tfbnn.weights.families import NormalWeight


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is kept, for each random map: 1 to keep, 0 to remove.

    Attributes:
        kernels: Masks of the shapes of the kernels, float32.
        biases: `(units,)` each; 0 for a unit that is removed as a whole.
    """

    kernels: list[np.ndarray]
    biases: list[np.ndarray]


def sparsity_of(model: keras.Model) -> float:
    """Share of the kernel weights that are pruned, from 0 to 1; biases are not counted."""
    return 1.0 - num_weights(model) / sum(kernel.size for kernel in prunable_weights(model))


def num_weights(model: keras.Model) -> int:
    """Number of kernel weights that are not pruned; biases are not counted."""
    return sum(int(mask_of(kernel).sum()) for kernel in prunable_weights(model))


def prunable_weights(model: keras.Model) -> list[NormalWeight]:
    """The weights that pruning acts on: the kernels of the random maps."""
    return [one.kernel for one in random_maps(model)]


def mask_of(kernel: NormalWeight) -> np.ndarray:
    """The mask of a kernel, ones if it has none."""
    mask = kernel.mask
    return np.ones(kernel.shape, np.float32) if mask is None else mask.numpy()


def set_masks(model: keras.Model, selection: Selection) -> None:
    """Set the masks of a masked model, and the means of what is removed to zero."""
    maps = random_maps(model)
    for one, mask, keep in zip(maps, selection.kernels, selection.biases, strict=True):
        one.kernel.mask_variable.assign(mask)
        one.kernel.loc_variable.assign(one.kernel.loc)
        if one.bias is not None and not keep.all():
            one.bias.loc_variable.assign(np.where(keep, one.bias.loc, 0))
