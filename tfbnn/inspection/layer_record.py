"""What is known of the uncertainty of one layer."""

import dataclasses
from typing import Any

import keras
import numpy as np

from tfbnn.layers.linear_maps import LinearMap
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.steps import steps_of
from tfbnn.posterior.gaussian import NormalLaw
from tfbnn.training import sigma


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """The uncertainty of one layer with random weights.

    Attributes:
        name: The name of the layer, with that of the kernel where it has several.
        statistics: Those of `tfbnn.callbacks.sigma_statistics`, of all random weights of the layer.
        unidentified: Share of the weights of which the data have said nothing: sigma is at its
            start, or within 10 % of the prior's about a mean that the prior gives, too.
        kl_share: The layer's share of the KL of all layers.
        variance_share: Predictive variance with this layer drawn and the others at their means, as
            a share of that with all drawn; NaN without data.
        variance_share_error: Its standard error.
        kernel: The law of each weight of the kernel, arrays `(*positions, units)`, NaN where it is
            pruned. `positions` are what one unit sums over: the window and the channels of a
            convolution, the inputs of a dense layer, as `(height, width, channels)` where these
            were flattened on the way into it.
    """

    name: str
    statistics: dict[str, float]
    unidentified: float
    kl_share: float
    variance_share: float
    variance_share_error: float
    kernel: NormalLaw = dataclasses.field(repr=False)

    @property
    def sigma_by_unit(self) -> np.ndarray:
        """Root mean square of sigma over the kernel weights of each unit or filter, `(units,)`."""
        return _root_mean_square(self.kernel.scale, self._positions)

    @property
    def sigma_by_input(self) -> np.ndarray:
        """The same over units, for each input position, `positions`."""
        return _root_mean_square(self.kernel.scale, (-1,))

    @property
    def snr_db_by_unit(self) -> np.ndarray:
        """`10 * log10(sum(loc**2) / sum(sigma**2))` of each unit or filter, `(units,)`."""
        return self._snr_db(self._positions)

    @property
    def snr_db_by_input(self) -> np.ndarray:
        """The same for each input position, `positions`."""
        return self._snr_db((-1,))

    def interval(self, mass: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """The central interval that holds `mass` of the law of each kernel weight.

        Args:
            mass: A probability, strictly between 0 and 1.

        Returns:
            Lower and upper ends, arrays of the shape of those in `kernel`.

        Raises:
            ValueError: If `mass` is no such number.
        """
        return self.kernel.interval(mass)

    @property
    def _positions(self) -> tuple[int, ...]:
        return tuple(range(self.kernel.loc.ndim - 1))

    def _snr_db(self, axes: tuple[int, ...]) -> np.ndarray:
        parts = (_root_mean_square(part, axes) for part in self.kernel)
        return sigma.snr_decibels(*parts)


def kernel_law(one: RandomMap, positions: tuple[int, ...] | None) -> NormalLaw:
    """The law of a kernel as a record has it, from what its weights are now.

    Args:
        one: A random map.
        positions: The shape of its inputs before they were flattened, if they were.
    """
    weight = one.kernel
    kept = np.ones(weight.shape, bool) if weight.mask is None else weight.mask.numpy() > 0
    parts = (np.where(kept, part.numpy(), np.nan) for part in (weight.loc, weight.scale))
    return NormalLaw(*(_units_last(one.linear_map, part, positions) for part in parts))


def flattened_positions(model: keras.Model) -> dict[Any, tuple[int, ...]]:
    """For each layer that reads a `Flatten`, the shape of what that was given."""
    try:
        steps = steps_of(model)
    except ValueError:
        # Of several inputs or outputs, or with a `call` of its own: nothing is known.
        return {}
    made_by = {step.output: step for step in steps}
    found = {}
    for step in steps:
        before = made_by.get(step.inputs[0]) if step.inputs else None
        if before is not None and isinstance(before.layer, keras.layers.Flatten):
            # Channels that come first are put last by it.
            if before.layer.data_format == "channels_last":
                found[step.layer] = before.inputs[0].shape[1:]
    return found


def _units_last(
    linear_map: LinearMap, kernel: np.ndarray, positions: tuple[int, ...] | None
) -> np.ndarray:
    summed = linear_map.summed_axes(kernel.shape)
    units = [axis for axis in range(kernel.ndim) if axis not in summed]
    shape = [kernel.shape[axis] for axis in summed]
    if positions is not None and np.prod(positions) == np.prod(shape):
        shape = positions
    return kernel.transpose(*summed, *units).reshape(*shape, -1)


def _root_mean_square(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Over those that are not pruned, NaN where all are."""
    known = np.isfinite(values)
    squares = np.square(values, where=known, out=np.zeros(values.shape)).sum(axes)
    with np.errstate(invalid="ignore"):
        return np.sqrt(squares / known.sum(axes))
