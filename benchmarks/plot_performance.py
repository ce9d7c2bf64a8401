"""The picture of `docs/performance.md`, from what the benchmarks wrote.

    python benchmarks/plot_performance.py train_step.json scaling.json predict_scaling.json \
        --output docs/performance.png
"""

import argparse
import json
import pathlib
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ESTIMATORS = {
    "reparameterization": "reparameterization",
    "local": "local reparameterization",
    "flipout": "Flipout",
}


def main() -> None:
    """Draw four panels: the step, its growth with width and batch, and prediction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("train_step", "scaling", "predict_scaling"):
        parser.add_argument(name, type=pathlib.Path, help=f"what {name}'s --json wrote")
    parser.add_argument("--output", default="performance.png", metavar="PATH")
    settings = parser.parse_args()
    figure, panels = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    _step(panels[0, 0], _read(settings.train_step)["mlp"])
    scaling = _read(settings.scaling)["scaling"]
    _growth(panels[0, 1], scaling, "width", "units of both hidden layers, batch 128")
    _growth(panels[1, 0], scaling, "batch", "examples in a batch, 1,200 units")
    _samples(panels[1, 1], _read(settings.predict_scaling)["mlp"])
    figure.savefig(settings.output, dpi=110)


def _read(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _step(panel: Any, rows: list[dict[str, Any]]) -> None:
    """The best of each library, case by case, as multiples of a deterministic step."""
    libraries = {"ours": "tfbnn", "tfp_layers": "tfp.layers", "bayesian_torch": "bayesian-torch"}
    cases = [("reparameterization", "normal"), ("local", "normal")]
    cases += [("flipout", "normal"), ("flipout", "mixture")]
    for number, (library, label) in enumerate(libraries.items()):
        best = [_best(rows, library, *case) for case in cases]
        places = [i + 0.27 * (number - 1) for i, value in enumerate(best) if value]
        bars = panel.bar(places, [value for value in best if value], 0.25, label=label)
        panel.bar_label(bars, fmt="%.1f", fontsize=8)
    panel.axhline(1, color="black", linewidth=0.8)
    panel.set_xticks(range(len(cases)), [f"{ESTIMATORS[e]}\n{prior}" for e, prior in cases])
    panel.tick_params(axis="x", labelsize=8)
    panel.set_ylabel("times a deterministic step")
    panel.set_title("one training step, 784-1200-1200-10, batch 128")
    panel.legend()


def _best(rows: list[dict[str, Any]], library: str, estimator: str, prior: str) -> float | None:
    fitting = [
        row["ratio"]
        for row in rows
        if row["case"]["contender"] == library
        and (row["case"]["estimator"], row["case"]["prior"]) == (estimator, prior)
        and "precision" not in row["case"]
    ]
    return min(fitting, default=None)


def _growth(panel: Any, rows: list[dict[str, Any]], axis: str, label: str) -> None:
    rows = [row for row in rows if row["axis"] == axis]
    values = [row["value"] for row in rows]
    for estimator, name in ESTIMATORS.items():
        panel.plot(values, [row[estimator] for row in rows], marker="o", label=name)
    panel.set_xscale("log", base=2)
    panel.set_xticks(values, [f"{value:,}" for value in values])
    panel.set_ylim(0)
    panel.set_xlabel(label)
    panel.set_ylabel("times a deterministic step")
    panel.set_title(f"growth with the {axis}, normal prior")
    panel.legend()


def _samples(panel: Any, rows: list[dict[str, Any]]) -> None:
    ours = [row for row in rows if row["case"]["contender"] == "ours"]
    samples = [row["num_samples"] for row in ours]
    panel.plot(samples, [row["passes"] for row in ours], marker="o", label="tfbnn.predict")
    panel.plot(samples, samples, color="black", linewidth=0.8, label="as many single passes")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.set_xticks(samples, samples)
    panel.set_yticks(samples, samples)
    panel.set_xlabel(f"networks drawn, {ours[0]['case']['rows']:,} rows")
    panel.set_ylabel("deterministic passes")
    panel.set_title("prediction, 784-1200-1200-10")
    panel.legend()


if __name__ == "__main__":
    main()
