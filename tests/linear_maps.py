"""Every linear map with a small example; the grids of layers, exports and pruning run over it."""

import dataclasses
from typing import Any

import numpy as np

import tfbnn
from tfbnn.layers.estimators import ESTIMATORS as _ESTIMATORS

ESTIMATORS = tuple(_ESTIMATORS)


@dataclasses.dataclass(frozen=True)
class Example:
    """A layer class, what it is made with, and the shape of one row of its inputs.

    `variants` are other arguments and shapes, and whether a CPU needs XLA for them.
    """

    layer: type
    arguments: dict[str, Any]
    shape: tuple[int, ...]
    variants: tuple[tuple[dict[str, Any], tuple[int, ...], bool], ...] = ()

    def make(self, **options: Any) -> Any:
        return self.layer(**{**self.arguments, **options})

    def rows(self, count: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(count, *self.shape)).astype("float32")


_WINDOW = {"filters": 3, "kernel_size": 2}
LINEAR_MAPS = {
    "Dense": Example(
        tfbnn.layers.Dense,
        {"units": 3},
        (4,),
        (({"use_bias": False, "activation": "tanh"}, (4,), False), ({}, (3, 4), False)),
    ),
    "Conv1D": Example(
        tfbnn.layers.Conv1D,
        _WINDOW,
        (4, 2),
        (
            ({"padding": "causal", "dilation_rate": 2}, (4, 2), False),
            ({"padding": "same", "strides": 2}, (5, 2), False),
            ({"data_format": "channels_first", "padding": "causal"}, (3, 4), True),
        ),
    ),
    "Conv2D": Example(
        tfbnn.layers.Conv2D,
        _WINDOW,
        (3, 3, 2),
        (
            ({"padding": "same", "strides": (2, 1)}, (3, 3, 2), False),
            ({"dilation_rate": (1, 2)}, (3, 3, 2), False),
            ({"filters": 4, "groups": 2}, (2, 3, 4), True),
            ({"data_format": "channels_first"}, (2, 3, 3), True),
        ),
    ),
    "Conv3D": Example(
        tfbnn.layers.Conv3D,
        _WINDOW,
        (2, 3, 2, 2),
        (
            ({"padding": "same", "strides": 2}, (2, 3, 2, 2), False),
            ({"dilation_rate": 2, "padding": "same"}, (3, 3, 3, 2), True),
        ),
    ),
    "DepthwiseConv2D": Example(
        tfbnn.layers.DepthwiseConv2D,
        {"kernel_size": 2, "depth_multiplier": 2},
        (3, 3, 2),
        (
            ({"padding": "same", "strides": 2}, (3, 3, 2), False),
            ({"dilation_rate": (1, 2), "depth_multiplier": 1}, (3, 3, 2), False),
            ({"data_format": "channels_first"}, (2, 3, 3), True),
        ),
    ),
    "Conv1DTranspose": Example(
        tfbnn.layers.Conv1DTranspose,
        _WINDOW,
        (4, 2),
        (({"padding": "same", "strides": 2, "output_padding": 1}, (3, 2), False),),
    ),
    "Conv2DTranspose": Example(
        tfbnn.layers.Conv2DTranspose,
        _WINDOW,
        (3, 3, 2),
        (
            ({"padding": "same", "strides": (2, 1), "use_bias": False}, (3, 3, 2), False),
            ({"strides": 3, "output_padding": (1, 2)}, (2, 3, 2), False),
        ),
    ),
}

VARIANTS = [(n, *variant) for n, one in LINEAR_MAPS.items() for variant in one.variants]
