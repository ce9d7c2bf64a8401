"""Weights: how a kernel is stored in C, and which of the ways takes the fewest bytes.

| storage | what is stored of each unit |
|---|---|
| `dense` | all weights |
| `gaps8`, `gaps16` | the kept weights, and how far each is from the one before, in 8 or 16 bits |

A gap that does not fit is bridged by a weight of zero (Han et al. 2016, "Deep Compression",
sec. 2): the inner loop needs no branch for it.

Weights of type int8 have one step for each unit, `loc = code * step`; so have their standard
deviations, in uint8.
"""

import dataclasses

import numpy as np

STORAGES = {"dense": None, "gaps8": np.uint8, "gaps16": np.uint16}
_LARGEST_CODE = 127
_LARGEST_SCALE_CODE = 255


@dataclasses.dataclass(frozen=True)
class EncodedKernel:
    """The weights of `units` units, each with `inputs` inputs.

    Attributes:
        storage: A key of `STORAGES`.
        loc: Means, float32 or int8; the kept ones, unit after unit.
        scale: Variances in float32 or codes of standard deviations in uint8, beside `loc`; None if
            variances are not stored one by one.
        loc_steps: `(units,)` for int8, else None.
        scale_steps: `(units,)` for int8 with `scale`, else None.
        gaps: Distance of each stored weight from the one before, None if `dense`.
        counts: Number of stored weights of each unit, None if `dense`.
    """

    inputs: int
    units: int
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

    def entry(self, unit: int) -> int:
        """Where the weights of a unit start among the stored ones."""
        return unit * self.inputs if self.counts is None else int(self.counts[:unit].sum())


def encoded(loc: np.ndarray, scale: np.ndarray | None, precision: str) -> EncodedKernel:
    """The shortest encoding of a kernel.

    Args:
        loc: Means, `(..., units)`.
        scale: Standard deviations to store one by one, in the same shape, or None.
        precision: `"float32"` or `"int8"`.

    Example:

    >>> import numpy as np
    >>> kernel = np.zeros((100, 2), np.float32)
    >>> kernel[3, 0] = kernel[80, 1] = 1.5
    >>> found = encoded(kernel, None, "float32")
    >>> found.storage, found.gaps.tolist(), found.loc.tolist()
    ('gaps8', [3, 80], [1.5, 1.5])
    """
    loc = loc.reshape(-1, loc.shape[-1]).T
    scale = None if scale is None else scale.reshape(-1, scale.shape[-1]).T
    codes = _codes(loc, scale, precision)
    candidates = [_stored(storage, *codes) for storage in STORAGES]
    return min(candidates, key=lambda candidate: candidate.num_bytes)


def quantised(values: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes from `-largest` to `largest` and the step of each row: `values` is near their product.

    Args:
        values: `(units, inputs)`.
        largest: The largest code.

    Example:

    >>> import numpy as np
    >>> codes, steps = quantised(np.array([[-1.0, 0.5]]), 127)
    >>> codes.tolist(), steps.round(6).tolist()
    ([[-127.0, 64.0]], [0.007874])
    """
    steps = (np.max(np.abs(values), axis=1, initial=0.0) / largest).astype(np.float32)
    divisors = np.where(steps > 0, steps, 1)
    # A step that float32 rounds down would put the largest value above the largest code.
    codes = np.clip(np.rint(values / divisors[:, np.newaxis]), -largest, largest)
    return codes, steps


def _codes(loc: np.ndarray, scale: np.ndarray | None, precision: str) -> tuple:
    if precision == "float32":
        variance = None if scale is None else np.square(scale, dtype=np.float32)
        return loc.astype(np.float32), variance, None, None
    codes, steps = quantised(loc, _LARGEST_CODE)
    if scale is None:
        return codes.astype(np.int8), None, steps, None
    scale_codes, scale_steps = quantised(scale, _LARGEST_SCALE_CODE)
    return codes.astype(np.int8), scale_codes.astype(np.uint8), steps, scale_steps


def _stored(
    storage: str,
    loc: np.ndarray,
    scale: np.ndarray | None,
    loc_steps: np.ndarray | None,
    scale_steps: np.ndarray | None,
) -> EncodedKernel:
    units, inputs = loc.shape
    if storage == "dense":
        flat = None if scale is None else scale.ravel()
        return EncodedKernel(
            inputs, units, storage, loc.ravel(), flat, loc_steps, scale_steps, None, None
        )
    kept = loc != 0 if scale is None else (loc != 0) | (scale != 0)
    gap_type = STORAGES[storage]
    gaps, fillers = _gaps(kept, np.iinfo(gap_type).max)
    last = np.cumsum(fillers + 1) - 1
    counts = np.bincount(np.nonzero(kept)[0], weights=fillers + 1, minlength=units)
    return EncodedKernel(
        inputs,
        units,
        storage,
        _spread(loc[kept], last, len(gaps)),
        None if scale is None else _spread(scale[kept], last, len(gaps)),
        loc_steps,
        scale_steps,
        gaps.astype(gap_type),
        counts.astype(np.uint16 if counts.max(initial=0) < 2**16 else np.uint32),
    )


def _gaps(kept: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaps, those of fillers included, and the number of fillers before each kept weight."""
    units, positions = np.nonzero(kept)
    is_first = np.diff(units, prepend=-1) != 0
    gaps = np.where(is_first, positions, np.diff(positions, prepend=0))
    fillers = np.maximum((gaps - 1) // largest, 0)
    with_fillers = np.full(len(gaps) + int(fillers.sum()), largest)
    with_fillers[np.cumsum(fillers + 1) - 1] = gaps - largest * fillers
    return with_fillers, fillers


def _spread(values: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    spread = np.zeros(size, values.dtype)
    spread[places] = values
    return spread
