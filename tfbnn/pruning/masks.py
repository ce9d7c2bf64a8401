"""`tfbnn.prune`: a new model in which the weights that are worth least are exactly zero."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfbnn.layers.variational import variational_layers, variational_weights
from tfbnn.posterior.variational import posterior_of
from tfbnn.pruning.scores import CRITERIA, NATURAL_THRESHOLDS
from tfbnn.training.models import BayesianModel
from tfbnn.weights.families import NormalWeight


def prune(
    model: BayesianModel,
    sparsity: float | None = None,
    threshold: float | None = None,
    criterion: str = "snr",
    scope: str = "global",
) -> BayesianModel:
    """A new model without the kernel weights that are worth least.

    Masks are part of the new model and are saved with it. A pruned weight is zero in the mean, in
    every draw and in training, has no KL, and stays so through further `fit`. Pruning again is
    cumulative. Biases are not pruned.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model`; a subclass needs `get_config`.
        sparsity: Share of the kernel weights to remove, in [0, 1), counting those removed before.
            At least one weight is kept (in each layer, for that scope).
        threshold: Remove weights with a score at or below it, in place of `sparsity`. May be left
            out for `"savage_dickey"`, whose own threshold is 0.
        criterion: `"snr"`, `"zero_density"` or `"savage_dickey"`; see `tfbnn.pruning.scores`.
        scope: `"global"`: scores are compared over the whole model; `"layer"`: `sparsity` holds in
            each layer.

    Returns:
        A new model, compiled like `model` (with a new optimizer) if that was compiled. `model` is
        not changed.

    Raises:
        TypeError: If `model` is no model of tfbnn.
        ValueError: If an argument is out of its range, the model has no posterior, or its weights
            are not finite.

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
    threshold = _check_arguments(sparsity, threshold, criterion, scope)
    check_prunable(model)
    pruned = masked_clone(model)
    set_masks(pruned, _masks(pruned, sparsity, threshold, criterion, scope))
    return pruned


def check_prunable(model: Any) -> None:
    """Raise an error that says what is missing if a model cannot be pruned."""
    if not isinstance(model, BayesianModel):
        raise TypeError(
            "Only a `tfbnn.Sequential` or `tfbnn.Model` can be pruned. "
            f"Received: model of type {type(model).__name__}"
        )
    posterior_of(model)


def sparsity_of(model: keras.Model) -> float:
    """Share of the kernel weights that are pruned, from 0 to 1; biases are not counted."""
    kernels = prunable_weights(model)
    kept = sum(int(_mask_of(kernel).sum()) for kernel in kernels)
    return 1.0 - kept / sum(kernel.size for kernel in kernels)


def num_weights(model: keras.Model) -> int:
    """Number of kernel weights that are not pruned; biases are not counted."""
    return sum(int(_mask_of(kernel).sum()) for kernel in prunable_weights(model))


def prunable_weights(model: keras.Model) -> list[NormalWeight]:
    """The weights that pruning acts on: the kernels of the variational layers."""
    return [layer.kernel for layer in variational_layers(model)]


def masked_clone(model: BayesianModel) -> BayesianModel:
    """A copy of a model, weights included, whose variational layers have masks."""
    config = keras.saving.serialize_keras_object(model)
    # Building and compiling come below, once every layer knows that it has a mask.
    config.pop("compile_config", None)
    build_config = config.pop("build_config", None)
    _set_masked(config)
    known = {type(model).__name__: type(model)}
    clone = keras.saving.deserialize_keras_object(config, custom_objects=known)
    _set_masked_layers(clone)
    if not clone.built:
        clone.build_from_config(build_config)
        clone.built = True
    _copy_variables(model, clone)
    _copy_state(model, clone)
    return clone


def set_masks(model: BayesianModel, masks: list[np.ndarray]) -> None:
    """Set the masks of a masked model, and the means of pruned weights to zero."""
    for kernel, mask in zip(prunable_weights(model), masks, strict=True):
        kernel.mask_variable.assign(mask)
        kernel.loc_variable.assign(np.asarray(kernel.loc))


def scores_of(model: keras.Model, criterion: str) -> list[np.ndarray]:
    """Score of each kernel weight; minus infinity where it is pruned already."""
    scores = []
    for kernel in prunable_weights(model):
        _check_finite(kernel)
        score = CRITERIA[criterion](kernel).numpy()
        scores.append(np.where(_mask_of(kernel) > 0, score, -np.inf))
    return scores


def masks_at(scores: list[np.ndarray], sparsity: float, scope: str = "global") -> list[np.ndarray]:
    """Masks that remove the share `sparsity` of the weights with the lowest scores."""
    if scope == "layer":
        return [masks_at([score], sparsity)[0] for score in scores]
    flat = np.concatenate([score.ravel() for score in scores])
    # Exactly this many, even where scores tie; never all.
    count = min(round(sparsity * flat.size), flat.size - 1)
    removed = np.argsort(flat, kind="stable")[:count]
    kept = np.isfinite(flat)
    kept[removed] = False
    parts = np.split(kept, np.cumsum([score.size for score in scores])[:-1])
    return [
        part.reshape(score.shape).astype(np.float32)
        for part, score in zip(parts, scores, strict=True)
    ]


def _masks(
    model: keras.Model,
    sparsity: float | None,
    threshold: float | None,
    criterion: str,
    scope: str,
) -> list[np.ndarray]:
    scores = scores_of(model, criterion)
    if sparsity is not None:
        return masks_at(scores, sparsity, scope)
    masks = [(score > threshold).astype(np.float32) for score in scores]
    if not any(mask.any() for mask in masks):
        raise ValueError(
            "No weight has a score above the threshold, so none would be left. Received: "
            f"threshold={threshold:g}, highest score {max(s.max() for s in scores):g}"
        )
    return masks


def _check_arguments(
    sparsity: float | None, threshold: float | None, criterion: str, scope: str
) -> float | None:
    """The threshold, the criterion's own if neither it nor a sparsity is given."""
    check_ranking(criterion, scope)
    if sparsity is not None and not 0 <= sparsity < 1:
        raise ValueError(
            "`sparsity` is the share of weights to remove and must be in [0, 1). "
            f"Received: sparsity={sparsity}"
        )
    if sparsity is None and threshold is None:
        threshold = NATURAL_THRESHOLDS.get(criterion)
    if (sparsity is None) == (threshold is None):
        raise ValueError(
            "Give either `sparsity` or `threshold` (only 'savage_dickey' has a threshold of its "
            f"own). Received: sparsity={sparsity}, threshold={threshold}, criterion={criterion!r}"
        )
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"`threshold` must be finite. Received: threshold={threshold}")
    return threshold


def check_ranking(criterion: str, scope: str) -> None:
    """Raise a `ValueError` if the criterion or the scope is unknown."""
    if criterion not in CRITERIA:
        raise ValueError(
            f"`criterion` must be one of {sorted(CRITERIA)}. Received: criterion={criterion!r}"
        )
    if scope not in ("global", "layer"):
        raise ValueError(f"`scope` must be 'global' or 'layer'. Received: scope={scope!r}")


def _check_finite(kernel: NormalWeight) -> None:
    variables = (kernel.loc_variable, kernel.rho_variable)
    bad = sum(int((~np.isfinite(keras.ops.convert_to_numpy(v))).sum()) for v in variables)
    if bad:
        raise ValueError(
            "The posterior has NaN or infinite weights, which cannot be ranked: training has "
            f"diverged. Received: {bad} such numbers in {kernel.loc_variable.path}"
        )


def _set_masked(config: Any) -> None:
    """Set `masked` in the configuration of every variational layer, however deeply nested."""
    if isinstance(config, list | tuple):
        for item in config:
            _set_masked(item)
    elif isinstance(config, dict):
        if "masked" in config and "bias_posterior" in config:
            config["masked"] = True
        for item in config.values():
            _set_masked(item)


def _set_masked_layers(clone: keras.Model) -> None:
    """The same for layers that a subclass makes by itself: they are in no configuration."""
    for layer in variational_layers(clone):
        if layer.built and not layer.masked:
            raise ValueError(
                f"The layer {layer.name!r} inside a layer of your own cannot be given a mask: let "
                "`get_config` of that layer hold it (`keras.saving.serialize_keras_object`) and "
                "`from_config` make it from there. Received: masked=False"
            )
        layer.masked = True


def _copy_variables(source: keras.Model, target: keras.Model) -> None:
    pairs = zip(_shared_variables(source), _shared_variables(target), strict=True)
    for old, new in pairs:
        new.assign(old)
    for old, new in zip(prunable_weights(source), prunable_weights(target), strict=True):
        new.mask_variable.assign(_mask_of(old))


def _shared_variables(model: BayesianModel) -> Iterator[keras.Variable]:
    """The variables that a model and its masked clone have, in the same order in both."""
    masks = [weight.mask_variable for weight in variational_weights(model)]
    # The noise that a loss learns: `compile` makes it, before or after the model's own variables.
    noise = [getattr(likelihood.loss, "rho_variable", None) for likelihood in model.likelihoods]
    apart = {id(variable) for variable in (*masks, *noise)}
    yield from (variable for variable in model.weights if id(variable) not in apart)
    yield from (variable for variable in noise if variable is not None)


def _copy_state(source: BayesianModel, target: BayesianModel) -> None:
    if source.compiled:
        target.compile_from_config(source.get_compile_config())
    for old, new in zip(source.likelihoods, target.likelihoods, strict=True):
        new.temperature = old.temperature
    target.example_rows = source.example_rows


def _mask_of(kernel: NormalWeight) -> np.ndarray:
    mask = kernel.mask
    return np.ones(kernel.shape, np.float32) if mask is None else mask.numpy()
