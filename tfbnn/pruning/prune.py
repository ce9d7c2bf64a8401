"""`tfbnn.prune`: a new model in which the weights that are worth least are exactly zero."""

import dataclasses
import warnings
from typing import Any

import keras

from tfbnn import arguments
from tfbnn.layers.variational import random_maps
from tfbnn.posterior.routes import model_of
from tfbnn.pruning import compaction
from tfbnn.pruning.cloning import masked_clone
from tfbnn.pruning.masks import Selection, mask_of, prunable_weights, set_masks, sparsity_of
from tfbnn.pruning.rankings import AbstractRanking, BlockRanking
from tfbnn.pruning.scores import CRITERIA, NATURAL_THRESHOLDS
from tfbnn.pruning.unit_ranking import UnitRanking
from tfbnn.training.models import BayesianModel

# Sparse kernels read weights by the register: 4 floats, or 16 bytes.
_BLOCK_SIZES = (4, 16)

# One percentage point, the last digit that sparsities are usually given with.
_SHORTFALL = 0.01


def prune(
    model: Any,
    sparsity: float | None = None,
    threshold: float | None = None,
    criterion: str = "snr",
    scope: str = "global",
    granularity: str = "weight",
    block_size: int = 4,
    compact: bool = False,
) -> BayesianModel:
    """A new model without the kernel weights that are worth least.

    Masks are part of the new model and are saved with it. A pruned weight is zero in the mean, in
    every draw and in training, has no KL, and stays so through further `fit`. Pruning again is
    cumulative. Biases are not pruned, but those of units are.

    A unit is a neuron or a filter: its column of the kernel, its bias mean, and the rows of the
    kernels that read it. Units that are added up, as in a residual connection, go together. Output
    units are kept, and so is what touches a layer that is not known.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model` (a subclass needs `get_config`), or a
            Gaussian posterior.
        sparsity: Share of the kernel weights to remove, in [0, 1), counting those removed before.
            Blocks and units come as close to it as they can from below. One unit of each layer
            stays, so units may not reach it.
        threshold: Remove weights with a score at or below it, in place of `sparsity`. May be left
            out for `"savage_dickey"`, whose own threshold is 0.
        criterion: `"snr"`, `"zero_density"` or `"savage_dickey"`; see `tfbnn.pruning.scores`.
        scope: `"global"`: scores are compared over the whole model; `"layer"`: `sparsity` holds in
            each layer (for units, it is the share of the layer's units), and one weight is kept.
        granularity: What is removed: `"weight"`, `"block"` or `"unit"`; see
            `tfbnn.pruning.rankings`.
        block_size: Number of consecutive inputs (or channels) in a block, 4 or 16.
        compact: Whether units that do nothing any more are taken out, which makes the model
            smaller: `tfbnn.compact` of the pruned model.

    Returns:
        A new model, compiled like `model` (with a new optimizer) if that was compiled. `model` is
        not changed.

    Raises:
        TypeError: If `model` is no model of tfbnn and no posterior that has the law of each weight.
        ValueError: If an argument is out of its range, the model has no posterior, its weights are
            not finite, a layer would be left without a weight, or no unit can be removed.

    Warns:
        UserWarning: If units fall short of `sparsity` by more than a percentage point, and by more
            than the weights of any unit that could still go: because one unit of each layer stays,
            or because of units that cannot go.

    Example:

    >>> import keras, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((8,)), tfbnn.layers.DenseFlipout(4)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> pruned = tfbnn.prune(model, sparsity=0.75)
    >>> from tfbnn.pruning import masks
    >>> masks.sparsity_of(pruned)
    0.75

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 5.1 and table 2.
    """
    sparsity, threshold = _checked_amount(sparsity, threshold, criterion)
    options = RankingOptions(criterion, scope, granularity, block_size)
    compact = arguments.boolean("compact", compact)
    pruned = masked_clone(model_of(model, "Pruning"))
    ranking = options.ranking_of(pruned)
    if sparsity is None:
        selection = ranking.above(threshold)
        less = "`threshold`, or give `sparsity` with scope='layer'"
    else:
        selection = ranking.at(sparsity, scope)
        less = "`sparsity`, or scope='layer'"
    empty = emptied_layer(pruned, selection)
    if empty is not None:
        amount = f"sparsity={sparsity}, scope={scope!r}"
        if sparsity is None:
            amount = f"threshold={threshold:g}, highest score {ranking.highest()[empty]:g}"
        raise ValueError(
            f"The layer {random_maps(pruned)[empty].full_name!r} would be left without a "
            f"weight. Choose a lower {less}, which keeps some of each layer. Received: {amount}"
        )
    set_masks(pruned, selection)
    if sparsity is not None and isinstance(ranking, UnitRanking):
        _warn_if_short(sparsity, sparsity_of(pruned), selection, ranking)
    return compaction.compact(pruned) if compact else pruned


@dataclasses.dataclass(frozen=True)
class RankingOptions:
    """What is removed, and how it is compared: the arguments of `prune` of these names."""

    criterion: str = "snr"
    scope: str = "global"
    granularity: str = "weight"
    block_size: int = 4

    def __post_init__(self) -> None:
        arguments.one_of("criterion", self.criterion, tuple(CRITERIA))
        arguments.one_of("scope", self.scope, ("global", "layer"))
        arguments.one_of("granularity", self.granularity, ("weight", "block", "unit"))
        number = arguments.count("block_size", self.block_size)
        object.__setattr__(self, "block_size", arguments.one_of("block_size", number, _BLOCK_SIZES))

    def ranking_of(self, model: keras.Model) -> AbstractRanking:
        """The ranking of the weights, the blocks or the units of a model."""
        if self.granularity == "unit":
            return UnitRanking(model, self.criterion)
        size = self.block_size if self.granularity == "block" else 1
        return BlockRanking(model, self.criterion, size)


def emptied_layer(model: keras.Model, selection: Selection) -> int | None:
    """The index of the first random map that would lose its last weight, if there is one."""
    kernels = prunable_weights(model)
    for index, (kernel, mask) in enumerate(zip(kernels, selection.kernels, strict=True)):
        if mask_of(kernel).any() and not mask.any():
            return index
    return None


def _warn_if_short(
    sparsity: float, reached: float, selection: Selection, ranking: UnitRanking
) -> None:
    """Warn if units could not reach a sparsity, other than because they are whole."""
    short = sparsity - reached
    size = sum(mask.size for mask in selection.kernels)
    if short > _SHORTFALL and short * size > ranking.largest_left(selection):
        warnings.warn(
            "Pruning of units could not reach the sparsity: one unit of each layer stays, and so "
            "do the outputs and all units that touch a layer that is not known or has no "
            "posterior. Choose a lower `sparsity`, or granularity='weight' or 'block'. "
            f"Received: sparsity={sparsity}, reached {reached:.3f}",
            stacklevel=3,
        )


def _checked_amount(
    sparsity: float | None, threshold: float | None, criterion: str
) -> tuple[float | None, float | None]:
    """The sparsity or the threshold, the criterion's own if neither is given."""
    arguments.one_of("criterion", criterion, tuple(CRITERIA))
    if sparsity is None and threshold is None:
        threshold = NATURAL_THRESHOLDS.get(criterion)
    if (sparsity is None) == (threshold is None):
        raise ValueError(
            "Give either `sparsity` or `threshold` (only 'savage_dickey' has a threshold of its "
            f"own). Received: sparsity={sparsity}, threshold={threshold}, criterion={criterion!r}"
        )
    if sparsity is None:
        return None, arguments.real_number("threshold", threshold)
    return checked_sparsity("sparsity", sparsity), None


def checked_sparsity(name: str, value: float) -> float:
    """A share of weights to remove, not all of them."""
    number = arguments.real_number(name, value, 0, 1, single=False)
    if number == 1:
        raise ValueError(
            f"`{name}` is the share of weights to remove and must be in [0, 1). "
            f"Received: {name}={value!r}"
        )
    return number
