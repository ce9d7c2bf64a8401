"""The picture `sigma.png`: how sigma moved in training, and what signal the weights have."""

from collections.abc import Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from tfbnn.training.nearest_normals import nearest_normals
from tfbnn.training.sigma import quantile_name
from tfbnn.training.sigma_csv import Records
from tfbnn.weights.families import NormalWeight
from tfbnn.whole_files import save_figure

_BLUE, _ORANGE, _GREY = "#1f5a94", "#c8553d", "#8a8a8a"
_BINS = np.arange(-60.0, 62.0, 2.0)
# Taller pictures cannot be looked at any more.
_MOST_ROWS = 24


def draw(
    path: str,
    records: Records,
    weights: dict[str, NormalWeight],
    quantiles: Sequence[float],
    start: dict[str, np.ndarray],
    end: dict[str, np.ndarray],
    pulls: dict[str, float],
) -> None:
    """Write the picture: for each weight tensor sigma over time, and the ratios `abs(loc) / sigma`.

    All dicts are by the names of the weights. `start` and `end` are `snr_shares` before and after
    training; `pulls` are known for some, see `tfbnn.training.convergence`.
    """
    names = list(weights)[:_MOST_ROWS]
    figure = Figure(figsize=(11, 1.0 + 2.1 * len(names)), dpi=110, layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False, width_ratios=(3, 2))
    for name, (left, right) in zip(names, axes, strict=True):
        _draw_sigma(left, name, records, weights[name], quantiles)
        if name in pulls:
            left.set_title(f"pull {pulls[name]:.2f} (0: it has trained)", loc="right", fontsize=9)
        _draw_snr(right, records[-1][1][name], start.get(name), end[name])
    axes[-1][0].set_xlabel("training step")
    axes[-1][1].set_xlabel("|loc| / sigma of a weight, dB")
    axes[0][0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.12), ncols=5, frameon=False)
    axes[0][1].legend(loc="lower center", bbox_to_anchor=(0.5, 1.12), ncols=2, frameon=False)
    if len(weights) > len(names):
        figure.suptitle(f"The first {len(names)} of {len(weights)} weight tensors")
    save_figure(figure, path)


def snr_shares(decibels: np.ndarray) -> np.ndarray:
    """Share of the weights in each bin of the picture; the outer bins take what lies beyond."""
    counts, _ = np.histogram(np.clip(decibels, _BINS[0], _BINS[-1]), _BINS)
    return counts / max(decibels.size, 1)


def _draw_sigma(
    axis: Any, name: str, records: Records, weight: NormalWeight, quantiles: Sequence[float]
) -> None:
    own = [(step, statistics[name]) for step, statistics in records if name in statistics]
    steps = [step for step, _ in own]
    curves = [[s[quantile_name("sigma", level)] for _, s in own] for level in quantiles]
    half = len(quantiles) // 2
    for i in range(half):
        label = f"sigma, {100 * quantiles[i]:.6g} to {100 * quantiles[-1 - i]:.6g} %"
        axis.fill_between(
            steps, curves[i], curves[-1 - i], color=_BLUE, alpha=0.22, linewidth=0, label=label
        )
    if len(quantiles) % 2:
        middle = "median" if quantiles[half] == 0.5 else f"{100 * quantiles[half]:.6g} %"
        axis.plot(steps, curves[half], color=_BLUE, marker=".", markersize=4, label=middle)
    axis.axhline(weight.initial_scale, color=_GREY, linestyle=":", label="start")
    for number, (_, scale) in enumerate(nearest_normals(weight.prior)):
        axis.axhline(
            scale, color=_ORANGE, linestyle="--", linewidth=1, label=None if number else "prior"
        )
    axis.set_yscale("log")
    axis.set_ylabel("sigma")
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axis.margins(x=0.01)
    last = own[-1][1]
    axis.set_title(f"{name}, {last['weights']:,.0f} weights", loc="left", fontsize=10)


def _draw_snr(axis: Any, last: dict[str, float], start: np.ndarray | None, end: np.ndarray) -> None:
    axis.stairs(100 * end, _BINS, fill=True, color=_BLUE, alpha=0.55, label="end of training")
    if start is not None:
        axis.stairs(100 * start, _BINS, color=_GREY, linewidth=1.2, label="start")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlim(_BINS[0], _BINS[-1])
    axis.set_ylabel("% of weights")
    about = "" if last["kl_is_exact"] else "about "
    axis.set_title(
        f"KL {about}{last['kl']:,.0f} nats; {100 * last['share_at_start']:.1f} % at the start, "
        f"{100 * last['share_at_prior']:.1f} % at the prior",
        loc="right",
        fontsize=9,
    )
