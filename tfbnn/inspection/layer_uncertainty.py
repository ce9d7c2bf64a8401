"""`tfbnn.layer_uncertainty`: where the uncertainty of a network sits."""

import dataclasses
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfbnn import arguments
from tfbnn.inspection.layer_record import LayerRecord, flattened_positions, kernel_law
from tfbnn.inspection.variance_shares import VarianceShare, variance_shares
from tfbnn.layers.random_maps import RandomMap
from tfbnn.posterior.gaussian import AbstractGaussianPosterior, gaussian
from tfbnn.posterior.routes import posterior_of
from tfbnn.training import sigma

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.05, 0.5, 0.95)
"""Of the quantiles over the weights of a layer."""
# More than this share of its weights, as in the warnings of `SigmaLogger`.
_UNIDENTIFIED = 0.9


@dataclasses.dataclass(frozen=True)
class LayerUncertainty:
    """The uncertainty of each layer with random weights; as a string, a table.

    `found["dense"]` is the record of a layer, and a loop goes over all of them.

    Attributes:
        layers: A `LayerRecord` for each, in the order of the model's layers.
        num_samples: Number of networks that the shares of variance are of; 0 without data.
    """

    layers: list[LayerRecord]
    num_samples: int

    def __iter__(self) -> Iterator[LayerRecord]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, name: str) -> LayerRecord:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(
            f"There is no such layer with random weights, but {[one.name for one in self.layers]}. "
            f"Received: name={name!r}"
        )

    @property
    def unidentified(self) -> list[str]:
        """Names of the layers of which the data have said nothing: of more than 90 % of the
        weights."""
        return [layer.name for layer in self.layers if layer.unidentified > _UNIDENTIFIED]

    @property
    def interaction(self) -> float:
        """1 less the sum of the shares of variance: what comes from layers drawn together.

        Below 0 the network's functions take away of what layers add.
        """
        return 1.0 - sum(layer.variance_share for layer in self.layers)

    def plot(self, path: str | os.PathLike[str] | None = None, title: str = "") -> "Figure":
        """Quantiles and shares of all layers, and the inside of each.

        Args:
            path: Where to save it; the ending gives the format. None saves nothing.
            title: Above the figure.

        Returns:
            The Matplotlib figure.
        """
        from tfbnn.inspection import layer_pictures

        return layer_pictures.draw(self, path, title)

    def __str__(self) -> str:
        rows = [_HEADS, *(_row(layer) for layer in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        weights, kl = (sum(layer.statistics[n] for layer in self.layers) for n in ("weights", "kl"))
        below = f"{weights:,.0f} weights, KL {kl:,.0f} nats"
        if not math.isnan(self.interaction):
            below += (
                f"; variance: {100 * (1 - self.interaction):.1f} % by layers alone, "
                f"{100 * self.interaction:.1f} % together, {self.num_samples} networks"
            )
        return "\n".join([*lines, below])


def layer_uncertainty(
    model: Any,
    x: Any = None,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    verbose: Any = "auto",
) -> LayerUncertainty:
    """Where the uncertainty of a network sits: in which layers, and where in them.

    For each layer with random weights quantiles of sigma and of the signal-to-noise ratio, the
    relation of the size of a weight to its sigma, the shares of the KL and of the predictive
    variance, and whether the data have said anything of it. It takes any posterior that has the law
    of each weight: of a variational model, IVON, SWAG of rank 0, Laplace's diagonal approximation.

    The variance share of a layer is the variance of predictions (probabilities of classes, means of
    real numbers) over networks in which this layer is drawn and the others are at their means, over
    that of networks in which all are drawn. Their sum is 1 less what comes from layers drawn
    together.

    The KL is that from the priors in the layers; a route without priors has the default one there.

    Args:
        model: A trained model, or a posterior with the law of each weight.
        x: Inputs, as in `tfbnn.predict`. None: no shares of the variance.
        num_samples: Number of networks for each share, at least 2.
        batch_size: Rows at a time, for arrays.
        seed: A whole number; the same seed gives the same networks. Random if None.
        verbose: As in `tfbnn.predict`.

    Returns:
        A `LayerUncertainty`: `print` it, `plot` it, or take the records of its layers.

    Raises:
        TypeError: If `model` is neither a model nor a posterior, or has no law of each weight.
        ValueError: If an argument is out of its range, or `x` is not for this model.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> layers = [tfbnn.layers.Dense(4, "relu", name="first"), tfbnn.layers.Dense(2, name="last")]
    >>> model = tfbnn.Sequential([keras.Input((3,)), *layers])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> found = tfbnn.layer_uncertainty(model, np.eye(3), seed=0)
    >>> [layer.name for layer in found], found["last"].sigma_by_unit.shape
    (['first', 'last'], (2,))

    Reference:
        Kniebel 2020, "Where is the uncertainty in neural networks?"; for the shares Sobol 1993,
        "Sensitivity Estimates for Nonlinear Mathematical Models".
    """
    drawing = {
        "num_samples": arguments.count("num_samples", num_samples, 2),
        "batch_size": arguments.count("batch_size", batch_size),
        # All layers are drawn from one series.
        "seed": arguments.seed_or_any("seed", seed),
        "verbose": arguments.verbosity("verbose", verbose),
    }
    posterior = gaussian(posterior_of(model), "The uncertainty of layers")
    maps = sigma.named_maps(posterior.model)
    shares = dict.fromkeys(maps, VarianceShare(math.nan, math.nan))
    if x is not None:
        places = {name: _places(posterior, one) for name, one in maps.items()}
        shares = variance_shares(posterior, places, x, **drawing)
    return LayerUncertainty(_records(posterior, maps, shares), 0 if x is None else num_samples)


def _places(posterior: AbstractGaussianPosterior, one: RandomMap) -> set[int]:
    own = one.variational_weights
    return {place for place, weight in enumerate(posterior.weights) if weight in own}


def _records(
    posterior: AbstractGaussianPosterior,
    maps: dict[str, RandomMap],
    shares: dict[str, VarianceShare],
) -> list[LayerRecord]:
    positions = flattened_positions(posterior.model)
    with posterior.in_place():
        statistics = {
            name: sigma.joint_statistics(one.variational_weights, LEVELS)
            for name, one in maps.items()
        }
        kl = sum(one["kl"] for one in statistics.values())
        return [
            LayerRecord(
                name=name,
                statistics=statistics[name],
                unidentified=sigma.unidentified(one.variational_weights),
                kl_share=statistics[name]["kl"] / kl if kl else math.nan,
                variance_share=shares[name].share,
                variance_share_error=shares[name].error,
                kernel=kernel_law(one, positions.get(one.layer)),
            )
            for name, one in maps.items()
        ]


_HEADS = (
    "layer",
    "weights",
    "sigma 5 / 50 / 95 %",
    "|mu|/sigma (dB) 5 / 50 / 95 %",
    "|mu|~sigma",
    "variance",
    "KL",
    "unidentified",
)


def _row(layer: LayerRecord) -> tuple[str, ...]:
    def quantiles(name: str, digits: str) -> str:
        return " / ".join(
            format(layer.statistics[sigma.quantile_name(name, level)], digits) for level in LEVELS
        )

    def percent(share: float) -> str:
        return "-" if math.isnan(share) else f"{100 * share:.1f} %"

    variance = percent(layer.variance_share)
    if not math.isnan(layer.variance_share):
        variance = f"{variance[:-2]} +- {percent(layer.variance_share_error)}"
    return (
        layer.name,
        f"{layer.statistics['weights']:,.0f}",
        quantiles("sigma", ".3g"),
        quantiles("snr_db", ".1f"),
        f"{layer.statistics['correlation']:.2f}",
        variance,
        percent(layer.kl_share),
        percent(layer.unidentified),
    )
