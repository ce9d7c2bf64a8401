"""`tfbnn.plot_network`: a small network with the law of each weight on its edge."""

import math
import os
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfbnn import arguments
from tfbnn.posterior.gaussian import NormalLaw, gaussian
from tfbnn.posterior.routes import posterior_of
from tfbnn.training.sigma import named_maps
from tfbnn.whole_files import picture_path, save_figure

# More curves lie on top of each other.
_MOST_EDGES = 120
# Told apart by red-green blind readers, as in `tfbnn.scores.diagrams`.
_SIGNAL, _NOISE, _INK, _EDGE = "#0072b2", "#d55e00", "#333333", "#bbbbbb"
# In units of the distance of two nodes above each other.
_COLUMNS_APART, _CURVE_WIDTH, _CURVE_HEIGHT = 4.0, 0.85, 0.36
# Where on its edge a curve is, in turns, so that those of edges that cross keep apart.
_PLACES = (0.26, 0.5, 0.74, 0.38, 0.62)
_SIGMAS_SHOWN = 2.5


def plot_network(
    model: Any,
    path: str | os.PathLike[str] | None = None,
    after: Any = None,
    title: str = "",
) -> Figure:
    """A small network of dense layers, with the distribution of each weight on its edge.

    All curves have one scale, on which a line marks zero; their heights say nothing. Blue is a
    weight whose mean is larger than its sigma, orange one that is more noise than signal, and a
    dotted edge has lost its weight.

    Args:
        model: A trained model, or a posterior with the law of each weight.
        path: Where to save it; the ending gives the format. None saves nothing.
        after: The same network pruned, to be drawn below it.
        title: Above the figure.

    Returns:
        The Matplotlib figure.

    Raises:
        TypeError: If `model` is neither a model nor a posterior, or has no law of each weight.
        ValueError: If its random layers are no chain of dense ones, or have more than 120 weights.

    Example:

    >>> import keras, tfbnn
    >>> layers = [tfbnn.layers.Dense(4, "tanh"), tfbnn.layers.Dense(1)]
    >>> model = tfbnn.Sequential([keras.Input((2,)), *layers])
    >>> model.compile(loss=tfbnn.losses.NormalNLL())
    >>> figure = tfbnn.plot_network(model, after=tfbnn.prune(model, sparsity=0.5))
    >>> [axes.get_title() for axes in figure.axes]
    ['12 weights', '6 weights']
    """
    path = None if path is None else picture_path("path", path)
    title = arguments.text("title", title)
    networks = [_chain(one) for one in (model, *([] if after is None else [after]))]
    largest = max(_largest(laws) for laws in networks)
    columns, rows = len(networks[0]) + 1, max(max(law.loc.shape) for law in networks[0])
    size = 0.6 + 2.6 * columns, (0.5 + 0.75 * rows) * len(networks)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(len(networks), squeeze=False)[:, 0]
    for axes, laws in zip(panels, networks, strict=True):
        _draw(axes, laws, largest)
    if title:
        figure.suptitle(title)
    if path is not None:
        save_figure(figure, path)
    return figure


def _chain(model: Any) -> list[NormalLaw]:
    """The laws of the kernels, `(inputs, outputs)` each, of which one reads the other."""
    posterior = gaussian(posterior_of(model), "A picture of the network")
    maps, laws = named_maps(posterior.model), posterior.laws()
    shapes = [one.kernel.shape for one in maps.values()]
    chained = all(one[-1] == other[0] for one, other in zip(shapes, shapes[1:], strict=False))
    if not chained or not all(one.linear_map.is_matrix_product for one in maps.values()):
        raise ValueError(
            "Only a chain of dense layers can be drawn; `tfbnn.layer_uncertainty(model).plot()` "
            f"shows any other network. Received: kernels of shapes {shapes}"
        )
    edges = sum(math.prod(shape) for shape in shapes)
    if edges > _MOST_EDGES:
        raise ValueError(
            f"The network must have at most {_MOST_EDGES} weights to be drawn edge by edge; "
            "`tfbnn.layer_uncertainty(model).plot()` shows larger ones. "
            f"Received: a network of {edges} weights in kernels"
        )
    own = (laws[one.kernel] for one in maps.values())
    return [NormalLaw(*(np.asarray(part, float) for part in law)) for law in own]


def _largest(laws: list[NormalLaw]) -> float:
    """How far from zero the curves reach."""
    ends = max(float((np.abs(law.loc) + _SIGMAS_SHOWN * law.scale).max()) for law in laws)
    return max(ends, arguments.SMALLEST_SCALE)


def _draw(axes: Any, laws: list[NormalLaw], largest: float) -> None:
    sizes = [laws[0].loc.shape[0], *(law.loc.shape[1] for law in laws)]
    heights = [(size - 1) / 2 - np.arange(size) for size in sizes]
    for column, law in enumerate(laws):
        for (start, end), loc in np.ndenumerate(law.loc):
            scale, number = law.scale[start, end], 2 * start + end
            ends = np.array(
                [
                    (column * _COLUMNS_APART, heights[column][start]),
                    ((column + 1) * _COLUMNS_APART, heights[column + 1][end]),
                ]
            )
            left = scale > 0
            axes.plot(*ends.T, "-" if left else ":", color=_EDGE, linewidth=0.9, zorder=1)
            if left:
                place = _PLACES[number % len(_PLACES)]
                _draw_curve(axes, (1 - place) * ends[0] + place * ends[1], loc, scale, largest)
    for column, height in enumerate(heights):
        places = np.full(len(height), column * _COLUMNS_APART)
        axes.plot(places, height, "o", color="white", markeredgecolor=_INK, markersize=13, zorder=4)
    axes.set_title(f"{sum(int((law.scale > 0).sum()) for law in laws)} weights", fontsize=10)
    axes.set_axis_off()


def _draw_curve(axes: Any, place: np.ndarray, loc: float, scale: float, largest: float) -> None:
    """The density of a weight about a place, zero in the middle."""
    deviations = np.linspace(-_SIGMAS_SHOWN, _SIGMAS_SHOWN, 61)
    heights = _CURVE_HEIGHT * np.exp(-0.5 * np.square(deviations))
    unit = 0.5 * _CURVE_WIDTH / largest
    across = place[0] + unit * (loc + scale * deviations)
    colour = _SIGNAL if abs(loc) > scale else _NOISE
    axes.fill_between(across, place[1], place[1] + heights, color=colour, alpha=0.75, zorder=3)
    ends = place[0] + 0.5 * _CURVE_WIDTH * np.array([-1, 1])
    axes.plot(ends, place[[1, 1]], color=_INK, linewidth=0.6, zorder=3)
    zero = place[1] + np.array([-0.06, _CURVE_HEIGHT])
    axes.plot(place[[0, 0]], zero, color=_INK, linewidth=0.6, zorder=3)
