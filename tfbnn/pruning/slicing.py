"""Slicing: a copy of a model with fewer units, and the variables that belong to them."""

from typing import Any

import keras
import numpy as np

from tfbnn.layers.keras_internals import all_layers, own_variables
from tfbnn.layers.variational import AbstractVariationalLayer
from tfbnn.pruning.constants import LinearState
from tfbnn.pruning.masks import mask_of
from tfbnn.pruning.units import Units
from tfbnn.training.copies import copy_state, rebuilt
from tfbnn.training.models import BayesianModel
from tfbnn.weights import priors


def sliced(
    model: BayesianModel, units: Units, states: dict[Any, LinearState], kept: np.ndarray
) -> BayesianModel:
    """A copy of a `Sequential` or functional model with the units that are `kept`,
    `(units.count,)`.

    Raises:
        ValueError: If the configuration of the model does not list its layers.
    """
    slices = {
        layer: _LinearSlice(state, kept[units.rows[layer]], kept[units.columns[layer]])
        for layer, state in states.items()
    }
    slices |= {layer: _FeatureSlice(layer, kept[passed]) for layer, passed in units.passed.items()}
    slices |= {
        layer: _InputSlice(layer, entered.axis, kept[entered.numbers])
        for layer, entered in units.entered.items()
    }
    copy = rebuilt(model, lambda config: _change(config, model, slices))
    _copy_variables(model, copy, slices)
    return copy


class _LinearSlice:
    """Some rows and columns of a dense layer or a convolution."""

    def __init__(self, state: LinearState, rows: np.ndarray, columns: np.ndarray):
        self._state = state
        self._rows, self._columns = rows, columns

    def changes(self) -> dict[str, Any]:
        """The changes of the layer's configuration."""
        layer = self._state.layer
        size = "filters" if hasattr(layer, "filters") else "units"
        changes = {size: int(self._columns.sum())}
        if isinstance(layer, AbstractVariationalLayer):
            changes["masked"] = not self._mask().all()
            # As they were trained: those of a layer of another width may be others.
            changes["kernel_prior"] = priors.serialize(layer.kernel.prior)
            if layer.bias in layer.variational_weights:
                changes["bias_prior"] = priors.serialize(layer.bias.prior)
        return changes

    def copy(self, target: Any) -> None:
        source = self._state.layer
        if not isinstance(source, AbstractVariationalLayer):
            target.kernel.assign(self._part(_array(source.kernel) * self._state.live))
            if source.bias is not None:
                target.bias.assign(self._loc_of_bias(source.bias))
            return
        target.kernel.loc_variable.assign(self._part(_array(source.kernel.loc_variable)))
        target.kernel.rho_variable.assign(self._part(_array(source.kernel.rho_variable)))
        _assign_prior(source.kernel, target.kernel, self._part)
        if target.masked:
            target.kernel.mask_variable.assign(self._mask())
        if source.bias is not None:
            target.bias.loc_variable.assign(self._loc_of_bias(source.bias.loc_variable))
            if source.bias.is_random:
                target.bias.rho_variable.assign(self._rho_of_bias())
                _assign_prior(source.bias, target.bias, lambda numbers: numbers[self._columns])

    def _mask(self) -> np.ndarray:
        return self._part(mask_of(self._state.layer.kernel) * self._state.live)

    def _part(self, kernel: np.ndarray) -> np.ndarray:
        return kernel[..., self._rows, :][..., self._columns]

    def _loc_of_bias(self, loc: keras.Variable) -> np.ndarray:
        # Adding zero changes nothing, bit for bit.
        return (_array(loc) + self._state.shift)[self._columns]

    def _rho_of_bias(self) -> np.ndarray:
        bias, added = self._state.layer.bias, self._state.variance
        scale = np.sqrt(bias.scale.numpy().astype(np.float64) ** 2 + added)
        # softplus^-1(s) = log(exp(s) - 1), in the form that neither overflows nor cancels.
        rho = scale + np.log(-np.expm1(-scale))
        return np.where(added > 0, rho, _array(bias.rho_variable))[self._columns]


class _FeatureSlice:
    """Some features of a layer that treats each by itself, or of a `Reshape`.

    The last axes of its variables are the features, and the outputs of each if there are several.
    """

    def __init__(self, layer: Any, features: np.ndarray):
        self._layer = layer
        self._features = features

    def changes(self) -> dict[str, Any]:
        """The changes of the layer's configuration."""
        if not isinstance(self._layer, keras.layers.Reshape):
            return {}
        *space, last = self._layer.target_shape
        return {"target_shape": (*space, last if last == -1 else int(self._features.sum()))}

    def copy(self, target: Any) -> None:
        outputs = getattr(self._layer, "depth_multiplier", 1)
        for old, new in zip(self._layer.weights, target.weights, strict=True):
            by_feature = _array(old).reshape(-1, self._features.size, outputs)
            new.assign(by_feature[:, self._features].reshape(new.shape))


class _InputSlice:
    """Some features of what enters a model inside the model."""

    def __init__(self, layer: keras.layers.InputLayer, axis: int, features: np.ndarray):
        self._layer = layer
        self._axis, self._features = axis, features

    def changes(self) -> dict[str, Any]:
        """The changes of the layer's configuration."""
        if self._features.all():
            return {}
        shape = list(self._layer.batch_shape)
        if shape[self._axis] is not None:
            shape[self._axis] = int(self._features.sum())
        return {"batch_shape": tuple(shape)}

    def copy(self, target: Any) -> None:
        """An input layer has no variables."""


def _change(config: dict[str, Any], model: keras.Model, slices: dict[Any, Any]) -> None:
    """Change the configuration of a model and of the models in it."""
    entries = config.get("layers")
    if entries is None:
        raise ValueError(
            f"The configuration of the model {model.name!r} does not list its layers, so they "
            "cannot be made smaller: build it as a `tfbnn.Sequential`, or as `tfbnn.Model(inputs, "
            f"outputs)`. Received: model of type {type(model).__name__}"
        )
    # Unlike `layers`, these have the input layer of a Sequential among them.
    own = all_layers(model, include_self=False, recursive=False)
    layers = {layer.name: layer for layer in own}
    for entry in entries:
        layer = layers.get(entry["config"].get("name"))
        # The model builds its layers when it calls them; the sizes noted here are the old ones.
        entry.pop("build_config", None)
        if layer in slices:
            entry["config"].update(slices[layer].changes())
        elif isinstance(layer, keras.Model):
            _change(entry["config"], layer, slices)


def _copy_variables(source: BayesianModel, target: BayesianModel, slices: dict[Any, Any]) -> None:
    copy_state(source, target)
    pairs = zip(all_layers(source), all_layers(target), strict=True)
    for old, new in pairs:
        if old in slices:
            slices[old].copy(new)
        else:
            # Those of a layer, or the learned noise of a model.
            for one, other in zip(own_variables(old), own_variables(new), strict=True):
                other.assign(one)


def _array(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)


def _assign_prior(source: Any, target: Any, part: Any) -> None:
    """The numbers of a prior that each weight has for itself."""
    for old, new in zip(source.prior_variables, target.prior_variables, strict=True):
        new.assign(part(_array(old)))
