"""A copy of a model whose variational layers have masks."""

from typing import Any

import keras

from tfbnn.layers.variational import mask_unbuilt_layers, random_maps
from tfbnn.pruning.masks import mask_of, prunable_weights
from tfbnn.training.copies import copy_state, copy_variables, rebuilt
from tfbnn.training.models import BayesianModel


def masked_clone(model: BayesianModel, for_training: bool = True) -> BayesianModel:
    """A copy of a model, weights included, whose variational layers have masks.

    It is compiled with a new optimizer and metrics, as `model` is, if it is `for_training`.
    """
    clone = rebuilt(model, _set_masked, _set_masked_layers)
    _copy_variables(model, clone)
    copy_state(model, clone, for_training)
    return clone


def _set_masked(config: Any) -> None:
    """Set `masked` in the configuration of every variational layer, however deeply nested."""
    if isinstance(config, list | tuple):
        for item in config:
            _set_masked(item)
    elif isinstance(config, dict):
        if "masked" in config and "kl_weight" in config:
            config["masked"] = True
        for item in config.values():
            _set_masked(item)


def _set_masked_layers(clone: keras.Model) -> None:
    """The same for layers that a subclass makes by itself: they are in no configuration."""
    for one in random_maps(clone):
        if not one.layer.masked:
            raise ValueError(
                f"The layer {one.layer.name!r} inside a layer of your own cannot be given a mask: "
                "let `get_config` of that layer hold it (`keras.saving.serialize_keras_object`) "
                "and `from_config` make it from there. Received: masked=False"
            )
    mask_unbuilt_layers(clone)


def _copy_variables(source: keras.Model, target: keras.Model) -> None:
    copy_variables(source, target, lambda weight: [weight.mask_variable])
    for old, new in zip(prunable_weights(source), prunable_weights(target), strict=True):
        new.mask_variable.assign(mask_of(old))
