"""What scores ask of their arguments: numbers, labels and weights that fit each other."""

import numpy as np
from numpy.typing import ArrayLike

from tfbnn import arguments


def finite_array(name: str, value: ArrayLike, min_rank: int) -> np.ndarray:
    """`value` as a float64 array, or an error if it is none, too flat, empty or not finite."""
    array = arguments.real_array(name, value).astype(np.float64)
    if array.ndim < min_rank:
        raise ValueError(f"`{name}` needs {min_rank} axes or more. Received: shape={array.shape}")
    if array.size == 0:
        raise ValueError(f"`{name}` is empty: pass some data. Received: shape={array.shape}")
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise ValueError(
            f"`{name}` must be finite; find out where the model makes NaN or infinity. "
            f"Received: {bad} of {array.size} values not finite"
        )
    return array


def as_shape(name: str, value: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """`value` in `shape`, which may have one more axis of length 1; nothing else broadcasts."""
    array = finite_array(name, value, min_rank=1)
    if array.shape != shape and (*array.shape, 1) != shape:
        raise ValueError(
            f"`{name}` must have the shape of the predictions, {shape}. "
            f"Received: {name} shape={array.shape}"
        )
    return array.reshape(shape)


def flat_weights(weights: ArrayLike | None, labels: ArrayLike) -> np.ndarray:
    """How much each of the labels counts, `(labels,)`; an error if none counts at all."""
    if weights is None:
        return np.ones(np.size(labels))
    array = finite_array("weights", weights, min_rank=0)
    if array.size != np.size(labels) or array.min() < 0 or array.max() == 0:
        raise ValueError(
            "`weights` must have a number for each label, at least 0 and not 0 for all. Received: "
            f"weights of shape {array.shape} from {array.min():g} to {array.max():g}, labels of "
            f"shape {np.shape(labels)}"
        )
    return array.reshape(-1)


def whole_labels(labels: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Labels `(batch, ...)` as integers, for predictions of shape `(batch, ..., classes)`."""
    array = finite_array("labels", labels, min_rank=1)
    # Keras keeps a last axis of length 1 on integer labels.
    if array.shape not in (shape[:-1], (*shape[:-1], 1)):
        raise ValueError(
            f"`labels` must be integers of shape {shape[:-1]}, one for each prediction; of one-hot "
            f"labels pass `labels.argmax(-1)`. Received: labels shape={array.shape}, "
            f"predictions shape={shape}"
        )
    integers = array.astype(np.int64).reshape(shape[:-1])
    if (integers != array.reshape(shape[:-1])).any():
        raise ValueError(f"`labels` must be whole numbers. Received: labels={array.reshape(-1)}")
    if integers.min() < 0 or integers.max() >= shape[-1]:
        raise ValueError(
            f"`labels` must be from 0 to {shape[-1] - 1}, the classes of the predictions; drop "
            "examples without a label. "
            f"Received: range=[{integers.min()}, {integers.max()}]"
        )
    return integers
