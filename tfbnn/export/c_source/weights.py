"""Weights: how a kernel is stored in C, and which of the ways takes the fewest bytes.

| storage | what is stored of each input |
|---|---|
| `dense` | its weights in all units |
| `gaps8`, `gaps16` | the kept weights, and how far each is from the one before, in 8 or 16 bits |

Weights lie input by input: one that is zero costs nothing, and the units of a dense kernel lie side
by side, so that several can be added to at a time. A gap that does not fit is bridged by a weight
of zero (Han et al. 2016, "Deep Compression", sec. 2): the inner loop needs no branch for it.

Weights of type int8 have one step for each unit, `loc = code * step`; so have their standard
deviations, in uint8.
"""

import dataclasses

import numpy as np

STORAGES = {"dense": None, "gaps8": np.uint8, "gaps16": np.uint16}
LARGEST_CODE = 127
LARGEST_SCALE_CODE = 255


@dataclasses.dataclass(frozen=True)
class EncodedKernel:
    """The weights of `units` units, each with `inputs` inputs.

    Attributes:
        groups: Of a convolution: each group of units has inputs of its own.
        storage: A key of `STORAGES`.
        loc: Means, float32 or int8; the kept ones, input after input of each group.
        scale: Variances in float32 or codes of standard deviations in uint8, beside `loc`; None if
            variances are not stored one by one.
        loc_steps: `(units,)` for int8, else None.
        scale_steps: `(units,)` for int8 with `scale`, else None.
        gaps: Distance of each stored weight from the one before, None if `dense`.
        counts: Number of stored weights of each input of each group, None if `dense`.
    """

    inputs: int
    units: int
    groups: int
    storage: str
    loc: np.ndarray
    scale: np.ndarray | None
    loc_steps: np.ndarray | None
    scale_steps: np.ndarray | None
    gaps: np.ndarray | None
    counts: np.ndarray | None

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.loc, self.scale, self.loc_steps, self.scale_steps, self.gaps, self.counts)
        return sum(array.nbytes for array in arrays if array is not None)

    def entry(self, group: int) -> int:
        """Where the weights of a group start among the stored ones."""
        first = group * self.inputs
        if self.counts is None:
            return first * self.units // self.groups
        return int(self.counts[:first].sum())


def encoded(
    loc: np.ndarray, scale: np.ndarray | None, precision: str, groups: int = 1
) -> EncodedKernel:
    """The shortest encoding of a kernel.

    `loc` are its means, `(..., units)`; `scale` standard deviations to store one by one, or None;
    `groups` the number of groups of units, those of a group side by side.
    """
    loc = loc.reshape(-1, loc.shape[-1])
    scale = None if scale is None else scale.reshape(-1, scale.shape[-1])
    codes = _codes(loc, scale, precision)
    candidates = [_stored(storage, groups, *codes) for storage in STORAGES]
    return min(candidates, key=lambda candidate: candidate.num_bytes)


def quantised(values: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes from `-largest` to `largest` and the step of each unit: `values` is near their product.

    Example:

    >>> import numpy as np
    >>> codes, steps = quantised(np.array([[-63.5], [12.0]]), 127)
    >>> codes.tolist(), steps.tolist()
    ([[-127.0], [24.0]], [0.5])
    """
    steps = (np.max(np.abs(values), axis=0, initial=0.0) / largest).astype(np.float32)
    # A step that float32 rounds down would put the largest value above the largest code.
    codes = np.clip(np.rint(values / np.where(steps > 0, steps, 1)), -largest, largest)
    return codes, steps


def rounded(values: np.ndarray, largest: int) -> np.ndarray:
    """Values `(..., units)` as their codes and steps stand for them."""
    codes, steps = quantised(values.reshape(-1, values.shape[-1]), largest)
    return (codes * steps).astype(np.float32).reshape(values.shape)


def _codes(loc: np.ndarray, scale: np.ndarray | None, precision: str) -> tuple:
    if precision == "float32":
        variance = None if scale is None else np.square(scale, dtype=np.float32)
        return loc.astype(np.float32), variance, None, None
    codes, steps = quantised(loc, LARGEST_CODE)
    if scale is None:
        return codes.astype(np.int8), None, steps, None
    scale_codes, scale_steps = quantised(scale, LARGEST_SCALE_CODE)
    return codes.astype(np.int8), scale_codes.astype(np.uint8), steps, scale_steps


def _stored(
    storage: str,
    groups: int,
    loc: np.ndarray,
    scale: np.ndarray | None,
    loc_steps: np.ndarray | None,
    scale_steps: np.ndarray | None,
) -> EncodedKernel:
    inputs, units = loc.shape
    loc = _in_groups(loc, groups)
    scale = None if scale is None else _in_groups(scale, groups)
    gaps = counts = None
    if storage == "dense":
        loc = loc.ravel()
        scale = None if scale is None else scale.ravel()
    else:
        kept = loc != 0 if scale is None else (loc != 0) | (scale != 0)
        gap_type = STORAGES[storage]
        gaps, fillers = _gaps(kept, np.iinfo(gap_type).max)
        gaps = gaps.astype(gap_type)
        last = np.cumsum(fillers + 1) - 1
        counts = np.bincount(np.nonzero(kept)[0], weights=fillers + 1, minlength=len(kept))
        counts = counts.astype(np.uint16 if counts.max(initial=0) < 2**16 else np.uint32)
        loc = _spread(loc[kept], last, len(gaps))
        scale = None if scale is None else _spread(scale[kept], last, len(gaps))
    return EncodedKernel(
        inputs, units, groups, storage, loc, scale, loc_steps, scale_steps, gaps, counts
    )


def _in_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """From `(inputs, units)` to `(groups * inputs, units of a group)`."""
    inputs = len(values)
    return values.reshape(inputs, groups, -1).swapaxes(0, 1).reshape(groups * inputs, -1)


def _gaps(kept: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaps, those of fillers included, and the number of fillers before each kept weight."""
    rows, positions = np.nonzero(kept)
    is_first = np.diff(rows, prepend=-1) != 0
    gaps = np.where(is_first, positions, np.diff(positions, prepend=0))
    fillers = np.maximum((gaps - 1) // largest, 0)
    with_fillers = np.full(len(gaps) + int(fillers.sum()), largest)
    with_fillers[np.cumsum(fillers + 1) - 1] = gaps - largest * fillers
    return with_fillers, fillers


def _spread(values: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    spread = np.zeros(size, values.dtype)
    spread[places] = values
    return spread
