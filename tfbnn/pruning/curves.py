"""`tfbnn.pruning_curve`: what pruning costs, and what it does to the uncertainty."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from tfbnn import arguments
from tfbnn.posterior.routes import model_of
from tfbnn.prediction.evaluation import evaluate
from tfbnn.pruning.cloning import masked_clone
from tfbnn.pruning.masks import num_weights, set_masks, sparsity_of
from tfbnn.pruning.prune import RankingOptions, checked_sparsity, emptied_layer
from tfbnn.training.models import BayesianModel
from tfbnn.whole_files import picture_path, save_figure

DEFAULT_SPARSITIES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98)


@dataclasses.dataclass(frozen=True)
class PruningCurve:
    """Scores at each sparsity.

    Attributes:
        rows: One dict for each sparsity: `sparsity`, `weights` (kernel weights left) and the scores
            of `tfbnn.evaluate`.
        shows: What was scored, such as `"360 rows"`.
    """

    rows: list[dict[str, float]]
    shows: str = ""

    def plot(self, path: str | os.PathLike[str] | None = None, title: str | None = None) -> Figure:
        """The scores against the share of weights left, a figure, saved to `path` if given.

        `title` says which rows were scored, such as `"360 validation rows"`; their number by
        default.
        """
        path = None if path is None else picture_path("path", path)
        title = self.shows if title is None else arguments.text("title", title)
        figure = _plot(self.rows, title)
        if path is not None:
            save_figure(figure, path, dpi=150)
        return figure


def pruning_curve(
    model: BayesianModel,
    x: Any,
    y: Any = None,
    sparsities: Sequence[float] = DEFAULT_SPARSITIES,
    num_samples: int = 32,
    seed: int = 0,
    verbose: Any = "auto",
    sample_weight: Any = None,
    **ranking: Any,
) -> PruningCurve:
    """Error, NLL, calibration and mean entropy of the model pruned to each sparsity.

    Choose the sparsity on a validation set. Every point uses the same networks (the same seed),
    thinned out. The curve ends where a layer would be left without a weight.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model`.
        x: Inputs, or a batched `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`.
        y: Targets, as in `tfbnn.evaluate`.
        sparsities: Shares of the kernel weights to remove, in [0, 1). Those below what the model
            has lost already stand for that.
        num_samples: Number of networks.
        seed: Seed of the draws.
        verbose: As in `tfbnn.predict`.
        sample_weight: As in `tfbnn.evaluate`.
        **ranking: `criterion`, `scope`, `granularity` and `block_size`, as in `tfbnn.prune`.

    Returns:
        A `PruningCurve`.

    Raises:
        ValueError: If an argument is out of its range, or every sparsity would leave a layer
            without a weight.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> curve = tfbnn.pruning_curve(model, np.eye(3), np.array([0, 1, 1]), [0.0, 0.5])
    >>> [(row["sparsity"], row["weights"]) for row in curve.rows]
    [(0.0, 6), (0.5, 3)]
    """
    options = RankingOptions(**ranking)
    num_samples, seed = arguments.count("num_samples", num_samples), arguments.seed("seed", seed)
    verbose = arguments.verbosity("verbose", verbose)
    model = model_of(model, "Pruning")
    sparsities = _checked(sparsities, sparsity_of(model))
    pruned = masked_clone(model, for_training=False)
    ranking = options.ranking_of(pruned)
    rows = []
    for wanted in sparsities:
        # Upwards: setting a mask also clears the means behind it.
        selection = ranking.at(wanted, options.scope)
        if emptied_layer(pruned, selection) is not None:
            break
        set_masks(pruned, selection)
        how = {"seed": seed, "verbose": verbose, "sample_weight": sample_weight}
        evaluation = evaluate(pruned, x, y, num_samples, **how)
        sparsity = wanted if options.granularity == "weight" else sparsity_of(pruned)
        row = {"sparsity": sparsity, "weights": num_weights(pruned)}
        rows.append({**row, **evaluation.scores()})
    if not rows:
        raise ValueError(
            "Every sparsity would leave a layer without a weight. Choose lower ones, or "
            f"scope='layer'. Received: sparsities={sparsities}, scope={options.scope!r}"
        )
    return PruningCurve(rows, f"{evaluation.num_rows:,} rows")


def _checked(sparsities: Sequence[float], removed: float) -> list[float]:
    """The sparsities upwards, none below the share that is `removed` already."""
    numbers = arguments.listed("sparsities", sparsities, checked_sparsity)
    if not numbers:
        raise ValueError(f"`sparsities` must be one or more. Received: sparsities={sparsities}")
    return sorted({max(number, removed) for number in numbers})


_PANELS = {
    "error": ("error (%)", 100.0),
    "nll": ("NLL (nats)", 1.0),
    "ece": ("calibration error (%)", 100.0),
    "mean_entropy": ("mean entropy (nats)", 1.0),
    "rmse": ("RMSE", 1.0),
    "coverage": ("95 % coverage (%)", 100.0),
    "mean_standard_deviation": ("mean standard deviation", 1.0),
}


# As in `tfbnn.scores.diagrams`: told apart by red-green blind readers.
_LINE, _INK = "#0072b2", "#333333"


def _plot(rows: list[dict[str, float]], title: str) -> Figure:
    panels = [name for name in _PANELS if name in rows[0]]
    figure = Figure(figsize=(3.1 * len(panels), 3.1), dpi=150, layout="constrained")
    kept = [100 * (1 - row["sparsity"]) for row in rows]
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        label, factor = _PANELS[name]
        values = [factor * row[name] for row in rows]
        axes.axhline(values[0], linestyle="--", color=_INK, linewidth=1.0, alpha=0.6)
        axes.plot(kept, values, "o-", color=_LINE, markersize=5)
        axes.set(xscale="log", title=label)
        axes.set_xticks(kept, [f"{k:.3g}" for k in kept], rotation=45)
        axes.minorticks_off()
        axes.invert_xaxis()
        if min(values) >= 0:
            # Room for the highest mark, where all are nearly equal too.
            axes.set_ylim(0, 1.08 * max(values) or 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.suptitle(title)
    figure.supxlabel("kernel weights left (%); dashed: the least pruned model")
    return figure
