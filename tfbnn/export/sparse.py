"""Sparse storage: the kept weights of a tensor and where they are.

Positions are stored as gaps between kept elements, in 16 bits where they fit: two bytes a weight in
place of the four of an index.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.export.laws import FrozenWeight


class SparseWeight(tf.Module):
    """One weight tensor in a SavedModel: values and gaps of the kept elements.

    Args:
        weight: Means and standard deviations; elements with both zero are left out.
        with_scale: Whether standard deviations are stored.
    """

    def __init__(self, weight: FrozenWeight, with_scale: bool):
        super().__init__()
        self.shape = weight.loc.shape
        kept = weight.loc != 0
        if weight.scale is not None:
            kept |= weight.scale != 0
        positions = np.flatnonzero(kept)
        gaps = np.diff(positions, prepend=0)
        fits = not gaps.size or gaps.max() < 2**16
        self._gaps = _stored(gaps.astype(np.uint16 if fits else np.int32), "gaps")
        self._loc = _stored(weight.loc[kept], "loc")
        self.is_random = with_scale and weight.scale is not None
        if self.is_random:
            self._scale = _stored(weight.scale[kept], "scale")

    def decode(self) -> "DecodedWeight":
        """Positions and values as tensors of the current graph."""
        positions = tf.cumsum(tf.cast(self._gaps, tf.int32))[:, tf.newaxis]
        scale = tf.identity(self._scale) if self.is_random else None
        return DecodedWeight(self.shape, positions, tf.identity(self._loc), scale)


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedWeight:
    """The kept elements of a weight tensor, in a graph."""

    shape: tuple[int, ...]
    positions: tf.Tensor
    loc: tf.Tensor
    scale: tf.Tensor | None

    def mean(self) -> tf.Tensor:
        """The posterior mean, dense."""
        return self._dense(self.loc)

    def sample(self, seed: Any) -> tf.Tensor:
        """One draw, dense; noise is drawn for the kept elements only."""
        if self.scale is None:
            return self.mean()
        noise = tf.random.stateless_normal(tf.shape(self.loc), seed, alg="philox")
        return self._dense(self.loc + self.scale * noise)

    def _dense(self, values: tf.Tensor) -> tf.Tensor:
        size = int(np.prod(self.shape))
        return tf.reshape(tf.scatter_nd(self.positions, values, [size]), self.shape)


def _stored(value: np.ndarray, name: str) -> tf.Variable:
    # A variable, not a constant: both signatures share it, and it is not in the graph's text.
    return tf.Variable(value, trainable=False, name=name)
