"""Bits: how many a kernel needs, from the posterior of its weights.

A weight that the data leave uncertain by `scale` need not be stored much finer than that. Rounding
to steps of `step` adds a variance of `step**2 / 12` to a weight. Of the widths that the runtime
has, a kernel gets the least one with which rounding adds to the variance of the layer's outputs,
over real rows, at most a sixteenth of what the posterior gives them: their standard deviation rises
by 3 % at most.
"""

import numpy as np
import tensorflow as tf

from tfbnn.export.laws import FrozenModel, MeanRule
from tfbnn.layers.precision import in_float32
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.scopes import forward_rule
from tfbnn.posterior.base import AbstractPosterior

# Widths of integers that the runtime multiplies with, and that of float16.
WIDTHS = (4, 8)
UNROUNDED = 16
_SHARE = 1 / 16

Bits = dict[RandomMap, int]


def steps(kernel: np.ndarray, bits: int) -> np.ndarray:
    """Size of a step for each output, `(units,)`: integers from `-(2**(bits-1) - 1)` upwards.

    Args:
        kernel: `(..., units)`.
        bits: Width of the integers.
    """
    largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
    return np.maximum(largest, 1e-30) / (2 ** (bits - 1) - 1)


def needed(posterior: AbstractPosterior, frozen: FrozenModel, rows: np.ndarray) -> Bits:
    """Bits for the kernel of every random map; what is no matrix product gets 16.

    Args:
        posterior: What is exported.
        frozen: Its weights.
        rows: Inputs of the model.
    """
    ratios: dict[RandomMap, dict[int, float]] = {}
    at_mean = MeanRule(frozen)

    def measuring(one: RandomMap, inputs: tf.Tensor) -> tf.Tensor:
        if one.linear_map.is_matrix_product:
            ratios[one] = {bits: _added(one, frozen, inputs, bits) for bits in WIDTHS}
        return at_mean(one, inputs)

    with forward_rule(measuring), in_float32(posterior.model):
        posterior.model(tf.convert_to_tensor(rows), training=False)
    return {one: _least(ratios.get(one, {})) for one in frozen}


def wider(bits: Bits) -> Bits:
    """The same with the narrowest kernels one width wider."""
    widths = [*WIDTHS, UNROUNDED]
    least = min(bits.values())
    return {k: widths[widths.index(b) + 1] if b == least else b for k, b in bits.items()}


def _added(one: RandomMap, frozen: FrozenModel, inputs: tf.Tensor, bits: int) -> float:
    """Variance of the outputs by rounding, over that by the posterior."""
    kernel = frozen[one].kernel
    squares = tf.square(inputs)
    spread = tf.reduce_mean(kernel.spread(one.linear_map, squares))
    rounding = np.broadcast_to(steps(kernel.loc, bits) ** 2 / 12, kernel.loc.shape)
    added = one.linear_map(squares, tf.constant(rounding, tf.float32))
    return float(tf.reduce_mean(added) / tf.maximum(spread, 1e-30))


def _least(ratios: dict[int, float]) -> int:
    return min((bits for bits, ratio in ratios.items() if ratio <= _SHARE), default=UNROUNDED)
