"""The picture of chains: what they passed by, and how often they were where."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfbnn.whole_files import save_figure

_COLORS = ("#1f5a94", "#c8553d", "#3d8a5f", "#8a6fae", "#b58a2b", "#5a5a5a")
_BINS = 40


def draw(path: Any, traces: dict[str, np.ndarray], title: str) -> None:
    """Write the picture: a row for each trace, `(samples, chains)` by name."""
    figure = Figure(figsize=(11, 1.2 + 2.2 * len(traces)), dpi=110, layout="constrained")
    axes = figure.subplots(len(traces), 2, squeeze=False, width_ratios=(3, 1), sharey="row")
    for (name, trace), (left, right) in zip(traces.items(), axes, strict=True):
        bins = np.histogram_bin_edges(trace, _BINS)
        for number, chain in enumerate(trace.T):
            color = _COLORS[number % len(_COLORS)]
            left.plot(chain, color=color, lw=0.6, alpha=0.8)
            right.hist(chain, bins, color=color, histtype="step", orientation="horizontal")
        left.set_ylabel(name)
        left.margins(x=0.01)
    axes[0][0].set_title("each line is a chain: they lie over each other where chains have mixed")
    axes[0][1].set_title("how often")
    axes[-1][0].set_xlabel("draw of a chain")
    figure.suptitle(title, fontsize=10, family="monospace", ha="left", x=0.02)
    save_figure(figure, path)
