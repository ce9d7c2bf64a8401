"""Windows: what the windows of a pooling see, and the largest of what they see, of moments."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfbnn.prediction import normals
from tfbnn.prediction.normals import Moments


def windows(
    tensors: tuple[tf.Tensor, ...], size: tuple[int, ...], strides: tuple[int, ...]
) -> Iterator[tuple[tf.Tensor, ...]]:
    """The elements of all windows, one place in the window after the other, row by row."""
    lengths = [(n - k) // s for n, k, s in zip(tensors[0].shape[1:-1], size, strides, strict=True)]
    for place in itertools.product(*map(range, size)):
        at = [slice(p, p + n * s + 1, s) for p, n, s in zip(place, lengths, strides, strict=True)]
        yield tuple(tensor[(slice(None), *at)] for tensor in tensors)


def largest(items: list[Moments]) -> Moments:
    """The largest of several, by pairs: a tree is less wrong than a chain, and shallower.

    An item meets the one half of the list further on, as the items of `largest_of_four` do.
    """
    while len(items) > 1:
        half = len(items) // 2
        pairs = zip(items[:half], items[half : 2 * half], strict=True)
        items = [normals.maximum(*pair) for pair in pairs] + items[2 * half :]
    return items[0]


def largest_of_four(x: Moments) -> Moments:
    """The largest in windows of 2 x 2 side by side, the four in channels one after the other.

    The same as `largest`, in half as many operations, and without strides: LiteRT is slow at them.
    """
    rows, columns = x.mean.shape[1:3]
    if rows % 2 or columns % 2:
        x = normals.on_both(lambda t: t[:, : rows - rows % 2, : columns - columns % 2], x)
    x = normals.on_both(lambda t: tf.nn.space_to_depth(t, 2), x)
    for _ in range(2):
        halves = [tf.split(t, 2, axis=-1) for t in x]
        x = normals.maximum(*map(Moments, *halves))
    return x


def pads(
    spatial: Sequence[int], size: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> list[tuple[int, int]]:
    """What Keras pads before and after each axis of `(rows, *spatial, channels)`."""
    totals = [
        max((-(-n // s) - 1) * s + k - n, 0) if padding == "same" else 0
        for n, k, s in zip(spatial, size, strides, strict=True)
    ]
    return [(0, 0), *((total // 2, total - total // 2) for total in totals), (0, 0)]


def counts(
    spatial: Sequence[int], size: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> np.ndarray:
    """How many elements each window of an average has: those of the padding do not count."""
    ones = np.ones((1, *spatial, 1), np.float32)
    ones = np.pad(ones, pads(spatial, size, strides, padding))
    return sum(one for (one,) in windows((ones,), size, strides))
