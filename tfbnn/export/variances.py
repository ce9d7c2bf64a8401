"""Variances: the variance of a kernel as a product of two small arrays.

A file that carries a variance for every weight is twice as large. The variances of one kernel are
much alike, so for a device they may be stored as `rows[i] * columns[j]`:

| form | variance of weight `(i, j)` | numbers stored |
|---|---|---|
| `rank_one` | `rows[i] * columns[j]` | `inputs + outputs` |
| `unit` | `columns[j]` (`rows` is 1) | `outputs` |

Then `f(m**2, S) = f_1(m**2, rows) * columns`, where `f_1` is the same map with one output: the
products with the variance cost next to nothing. A pruned weight has a variance again, unless its
whole row or column was pruned.
"""

import dataclasses

import numpy as np

FORMS = ("rank_one", "unit")


@dataclasses.dataclass(frozen=True)
class FactorisedVariance:
    """Variances `rows[..., None] * columns` of a kernel, float32, none negative.

    Attributes:
        rows: One number for each input of a unit, `kernel.shape[:-1]`: `(inputs,)` for a dense
            layer, `(*kernel_size, channels)` for a convolution. The largest is 1.
        columns: One number for each output unit, `(units,)`, in the square of the weights' unit.
    """

    rows: np.ndarray
    columns: np.ndarray

    def variance(self) -> np.ndarray:
        """The variances in the shape of the kernel."""
        return self.rows[..., np.newaxis] * self.columns


def factorise(scale: np.ndarray, form: str) -> FactorisedVariance:
    """The product of a form that stands for `scale**2`.

    `rank_one`: the product with the same sums over rows and columns, `rows * columns / total`,
    which is closest in the generalised Kullback-Leibler divergence. `unit`: the mean over each
    column. Both keep the variance of a unit whose inputs are all alike.

    Args:
        scale: Standard deviations of a kernel, `(..., units)`, zero where a weight was pruned.
        form: `"rank_one"` or `"unit"`.

    Raises:
        ValueError: If `form` is neither, or `scale` has less than two axes, is negative or not
            finite.

    Example:

    >>> import numpy as np
    >>> factorised = factorise(np.array([[1.0, 2.0], [2.0, 4.0]]), "rank_one")
    >>> factorised.rows.tolist(), factorised.columns.round(4).tolist()
    ([0.25, 1.0], [4.0, 16.0])
    >>> factorise(np.array([[1.0, 2.0], [2.0, 4.0]]), "unit").columns.tolist()
    [2.5, 10.0]

    Reference:
        Shazeer and Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
        sec. 3.
    """
    scale = np.asarray(scale, np.float64)
    if form not in FORMS:
        raise ValueError(f"`form` must be one of {FORMS}. Received: form={form!r}")
    if scale.ndim < 2 or not scale.size or not (np.isfinite(scale) & (scale >= 0)).all():
        raise ValueError(
            "`scale` must hold the standard deviations of a kernel, `(..., units)`: finite, none "
            f"negative. Received: scale of shape {scale.shape}"
        )
    variance = np.square(scale).reshape(-1, scale.shape[-1])
    rows = variance.sum(axis=1) if form == "rank_one" else np.ones(len(variance))
    rows /= rows.max() or 1.0
    columns = variance.sum(axis=0) / (rows.sum() or 1.0)
    return FactorisedVariance(
        rows.reshape(scale.shape[:-1]).astype(np.float32), columns.astype(np.float32)
    )
