"""The picture of `docs/device.md`, from what `benchmarks/device.py --json` wrote.

python benchmarks/plot_device.py device.json --output docs/device.png
"""

import argparse
import json
import pathlib
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Told apart by red-green blind readers, and by their shapes.
_MODES = {
    "moments": ("#0072b2", "o"),
    "monte_carlo": ("#e69f00", "s"),
    "ensemble": ("#009e73", "^"),
    "none": ("#333333", "x"),
}


def main() -> None:
    """Draw bytes against error, and latency against the area under the ROC curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=pathlib.Path, help="what device.py wrote")
    parser.add_argument("--output", default="device.png", metavar="PATH")
    settings = parser.parse_args()
    results = {k: v for path in settings.results for k, v in json.loads(path.read_text()).items()}
    networks = [name for name in ("mlp", "lenet") if name in results]
    shape = {"figsize": (12, 5 * len(networks)), "layout": "constrained", "squeeze": False}
    figure, panels = plt.subplots(len(networks), 2, **shape)
    for (left, right), network in zip(panels, networks, strict=True):
        rows = results[network]
        _panel(left, rows, network, lambda row: row["bytes"] / 1000, "kB of the file")
        _panel(right, rows, network, lambda row: row["latency"], "latency, dense float file = 1")
    handles = [
        plt.Line2D([], [], linestyle="none", color=color, marker=marker, label=mode)
        for mode, (color, marker) in _MODES.items()
    ]
    title = "hollow: C; grey steps: the best files; lines: Keras at the mean (...), 256 draws (- -)"
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=len(handles))
    figure.savefig(settings.output, dpi=110)


def _panel(panel: Any, rows: list[dict[str, Any]], network: str, cost: Any, label: str) -> None:
    scores = {"kB of the file": ("error", 100, "test error, %")}
    name, factor, title = scores.get(label, ("auroc_letters", 1, "AUROC, letters or digits"))
    files = [row for row in rows if "latency" in row]
    for row in files:
        _, mode = _parts(row["name"])
        color, marker = _MODES[mode]
        filled = "none" if row["name"].endswith("_C") and marker != "x" else color
        place = cost(row), factor * row[name]
        panel.plot(*place, marker, color=color, markerfacecolor=filled, markersize=7)
    for row in rows[:2]:
        style = "--" if row["name"] == "256 draws" else ":"
        panel.axhline(factor * row[name], linestyle=style, color="#777777", linewidth=1)
    places = [(cost(row), factor * row[name]) for row in files]
    best = _front(panel, places, lower=name == "error")
    for row, place in zip(files, places, strict=True):
        if place in best or row is files[0]:
            label_at = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8}
            panel.annotate(_parts(row["name"])[0], place, **label_at)
    panel.set(xscale="log", xlabel=label, ylabel=title, title=f"{network}: {title}")
    panel.spines[["top", "right"]].set_visible(False)


def _front(panel: Any, places: list[tuple[float, float]], lower: bool) -> list[tuple[float, float]]:
    """A line through the files that no other beats in both, and where they are."""
    best: list[tuple[float, float]] = []
    for place in sorted(places):
        if not best or (place[1] < best[-1][1] if lower else place[1] > best[-1][1]):
            best.append(place)
    panel.step(*zip(*best, strict=True), where="post", color="#bbbbbb", linewidth=1, zorder=0)
    return best


def _parts(name: str) -> tuple[str, str]:
    """Network and mode of a file's name."""
    student = name.split("_")[0]
    rest = name[len(student) + 1 :]
    return student, next(mode for mode in _MODES if rest.startswith(mode))


if __name__ == "__main__":
    main()
