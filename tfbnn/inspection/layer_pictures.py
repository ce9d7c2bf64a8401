"""The picture of `layer_uncertainty`: all layers beside each other, then the inside of each."""

import os
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tfbnn import arguments
from tfbnn.inspection.layer_record import LayerRecord
from tfbnn.training.sigma import quantile_name
from tfbnn.whole_files import picture_path, save_figure

# Told apart by red-green blind readers, as in `tfbnn.scores.diagrams`.
_BLUE, _ORANGE, _INK = "#0072b2", "#d55e00", "#333333"
# Taller pictures, and smaller images, cannot be looked at any more.
_MOST_LAYERS = 12
_MOST_IMAGES = 36
_LEVELS = (0.05, 0.5, 0.95)
_LEAST_SNR = -60.0
# From here on a logarithmic scale says more.
_WIDE = 5.0


def draw(found: Any, path: str | os.PathLike[str] | None, title: str) -> Figure:
    """The figure of a `LayerUncertainty`, saved to `path` if there is one."""
    path = None if path is None else picture_path("path", path)
    title = arguments.text("title", title)
    inside = found.layers[:_MOST_LAYERS]
    heights = (1.4 + 0.32 * len(found), 2.3 * len(inside))
    figure = Figure(figsize=(13.0, sum(heights) + 0.4), dpi=100, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    _draw_layers(top, found.layers)
    axes = bottom.subplots(len(inside), 4, squeeze=False)
    for layer, row in zip(inside, axes, strict=True):
        _draw_inside(row, layer)
    axes[-1][2].set_xlabel("sigma of the unit")
    axes[-1][3].set_xlabel("|mu|")
    if title:
        figure.suptitle(title)
    if path is not None:
        save_figure(figure, path)
    return figure


def _draw_layers(figure: Any, layers: list[LayerRecord]) -> None:
    sigma, snr, shares = figure.subplots(1, 3, sharey=True)
    places = np.arange(len(layers))
    for axes, name, label in (
        (sigma, "sigma", "sigma"),
        (snr, "snr_db", "|mu| / sigma, dB"),
    ):
        low, middle, high = (
            np.array([layer.statistics[quantile_name(name, level)] for layer in layers])
            for level in _LEVELS
        )
        axes.barh(places, high - low, left=low, height=0.45, color=_BLUE, alpha=0.45)
        axes.plot(middle, places, "|", color=_INK, markersize=14, markeredgewidth=2)
        axes.set_title(f"{label}: 5 to 95 % of the weights, median", fontsize=10)
    _scale(sigma.xaxis, *sigma.get_xlim())
    # Weights that are zero have no ratio.
    snr.set_xlim(max(snr.get_xlim()[0], _LEAST_SNR), None)
    snr.axvline(0, color=_INK, linewidth=0.8)
    sigma.set_yticks(places, [layer.name for layer in layers])
    sigma.invert_yaxis()
    _draw_shares(shares, layers, places)


def _draw_shares(axes: Any, layers: list[LayerRecord], places: np.ndarray) -> None:
    bars = {"height": 0.36, "alpha": 0.75}
    variance, error, kl, unidentified = (
        100 * np.array([getattr(layer, name) for layer in layers])
        for name in ("variance_share", "variance_share_error", "kl_share", "unidentified")
    )
    axes.barh(places - 0.2, variance, xerr=error, color=_ORANGE, label="of the variance", **bars)
    axes.barh(places + 0.2, kl, color=_BLUE, label="of the KL", **bars)
    axes.plot(unidentified, places, "D", color=_INK, markersize=5, label="unidentified weights")
    axes.set_xlim(0, None)
    axes.set_title("shares, %", fontsize=10)
    axes.legend(fontsize=8, frameon=False)


def _draw_inside(row: Any, layer: LayerRecord) -> None:
    positions, images, units, sizes = row
    scale = layer.kernel.scale
    if not np.isfinite(scale).any():
        return
    positions.set_title(f"{layer.name}: sigma by input position", fontsize=9)
    _draw_positions(positions, layer.sigma_by_input)
    _draw_images(images, scale)
    sigma = layer.sigma_by_unit
    units.plot(sigma, layer.snr_db_by_unit, ".", color=_BLUE, alpha=0.6)
    _scale(units.xaxis, np.nanmin(sigma), np.nanmax(sigma))
    units.set_ylabel("|mu| / sigma, dB")
    units.set_title(f"{scale.shape[-1]} units", fontsize=9)
    _draw_sizes(sizes, layer)


def _draw_positions(axes: Any, sigma: np.ndarray) -> None:
    """An image where positions have a height and a width, else a curve."""
    if sigma.ndim > 1:
        _show(axes, _image(sigma))
        return
    axes.plot(sigma, color=_BLUE, linewidth=0.9)
    _scale(axes.yaxis, np.nanmin(sigma), np.nanmax(sigma))
    axes.set_xlabel("input")


def _draw_images(axes: Any, scale: np.ndarray) -> None:
    """Each unit as an image where positions have a height and a width, else inputs by units."""
    if scale.ndim < 3:
        axes.set_title("sigma, inputs (down) by units", fontsize=9)
        _show(axes, scale, aspect="auto")
        return
    images = [_image(scale[..., unit]) for unit in range(min(scale.shape[-1], _MOST_IMAGES))]
    axes.set_title(f"sigma of {len(images)} units, an image each", fontsize=9)
    _show(axes, _mosaic(images))


def _show(axes: Any, image: np.ndarray, **options: Any) -> None:
    """Numbers as colours, with a bar that says which."""
    low, high = np.nanmin(image), np.nanmax(image)
    norm = (LogNorm if high > _WIDE * low else Normalize)(low, high)
    bar = axes.figure.colorbar(
        axes.imshow(image, norm=norm, cmap="viridis", **options), ax=axes, fraction=0.05
    )
    _ticks(bar.ax.yaxis, low, high)
    axes.set(xticks=[], yticks=[])


def _draw_sizes(axes: Any, layer: LayerRecord) -> None:
    """How the size of a weight goes with its sigma."""
    loc, scale = (part[np.isfinite(part)].astype(float) for part in layer.kernel)
    # What is smaller is zero for any purpose.
    size = np.maximum(np.abs(loc), 1e-6)
    wide = "log" if scale.max() > _WIDE * scale.min() else "linear"
    axes.hexbin(size, scale, bins="log", gridsize=36, cmap="Blues", xscale="log", yscale=wide)
    _ticks(axes.yaxis, scale.min(), scale.max())
    axes.set_ylabel("sigma")
    axes.set_title(f"weights, correlation {layer.statistics['correlation']:.2f}", fontsize=9)


def _image(positions: np.ndarray) -> np.ndarray:
    """The last two axes of what is left without channels, `(height, width)`."""
    if positions.ndim > 2:
        known = np.isfinite(positions).sum(-1)
        with np.errstate(invalid="ignore"):
            positions = np.sqrt(np.nansum(np.square(positions), -1) / known)
    return positions.reshape(-1, positions.shape[-1])


def _mosaic(images: list[np.ndarray]) -> np.ndarray:
    """Images in a square, with a line of NaN between them."""
    height, width = images[0].shape
    columns = int(np.ceil(np.sqrt(len(images) * height / width)))
    rows = -(-len(images) // columns)
    mosaic = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + 1), (number % columns) * (width + 1)
        mosaic[top : top + height, left : left + width] = image
    return mosaic


def _scale(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis for numbers that lie far apart, and ticks that can be read."""
    if high > _WIDE * low:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    _ticks(axis, low, high)


def _ticks(axis: Any, low: float, high: float) -> None:
    steps = (1.0,) if high > 100 * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps) if high > _WIDE * low else MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:.3g}"))
    axis.set_minor_formatter(NullFormatter())
