"""Noisy places: where a Keras model draws noise in training, and how to give it that noise.

Every layer of noise computes `factor * inputs + offset`, with noise in one of the two or in both.
So what a layer draws is seen by calling it on zeros and on ones with one seed, by its own code.
Cells of recurrent layers have masks, for their inputs and for their states.
"""

import abc
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.keras_internals import (
    all_layers,
    dropout_masks,
    input_specs,
    variables_as,
)
from tfbnn.layers.overriding import overridden
from tfbnn.weights import noise
from tfbnn.weights.tracing import traced

# Those that drop whole channels are dropout layers.
_NOISE_LAYERS = (
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.AlphaDropout,
)
# A hundred steps of float32, and less than any rate of dropout in use.
_ROUNDING = 1e-5
# Any seed tells whether a layer multiplies or adds.
_SEED = (1, 2)


class AbstractNoisyPlace(abc.ABC):
    """A layer that draws noise in training.

    Attributes:
        shapes: Shapes of the tensors that are drawn, with one row for all rows of a batch.
    """

    shapes: list[tuple[int, ...]]

    @abc.abstractmethod
    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        """The noise of one network."""

    @abc.abstractmethod
    def without_noise(self) -> list[tf.Tensor]:
        """What stands for no noise."""

    @abc.abstractmethod
    def fixed(self, values: list[tf.Tensor]) -> Any:
        """A context in which the layer takes `values` for its noise."""


class NoisyLayer(AbstractNoisyPlace):
    """A layer of noise: `factor * inputs + offset`.

    Args:
        layer: The layer.
        shape: Shape of its inputs, one row.
    """

    def __init__(self, layer: keras.Layer, shape: tuple[int, ...]):
        self._layer = layer
        self._shape = shape
        factor, offset = self._factor_and_offset(tf.constant(_SEED, tf.int64))
        # Dropout scales what it keeps, so that no factor is 1; sums with an offset are rounded.
        rounding = _ROUNDING * np.maximum(1, np.abs(offset))
        self._multiplies = bool(np.any(np.abs(factor - 1) > rounding))
        self._adds = bool(np.any(offset != 0))
        self.shapes = [shape] * (self._multiplies + self._adds)

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        return self._used(*self._factor_and_offset(seed))

    def without_noise(self) -> list[tf.Tensor]:
        return self._used(tf.ones(self._shape), tf.zeros(self._shape))

    @contextlib.contextmanager
    def fixed(self, values: list[tf.Tensor]) -> Iterator[None]:
        rest = iter(values)
        factor = next(rest) if self._multiplies else 1.0
        offset = next(rest) if self._adds else 0.0

        def call(inputs: tf.Tensor, **kwargs: Any) -> tf.Tensor:
            del kwargs
            return inputs * tf.cast(factor, inputs.dtype) + tf.cast(offset, inputs.dtype)

        with overridden(self._layer, call=call):
            yield

    def _used(self, factor: tf.Tensor, offset: tf.Tensor) -> list[tf.Tensor]:
        return [factor] * self._multiplies + [offset] * self._adds

    def _factor_and_offset(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        offset, both = (self._called(value, seed) for value in (0.0, 1.0))
        return both - offset, offset

    def _called(self, value: float, seed: tf.Tensor) -> tf.Tensor:
        inputs = tf.fill(self._shape, value)
        with _seeded(self._layer, seed):
            return type(self._layer).call(self._layer, inputs, training=True)


class NoisyCell(AbstractNoisyPlace):
    """A recurrent layer whose cell drops inputs or states, the same ones at each step.

    Args:
        layer: The layer.
        cell: Its cell, or one of its cells.
        shapes: Shape of what each mask is for, one row, by the name of the method that gives it.
    """

    def __init__(self, layer: keras.Layer, cell: Any, shapes: dict[str, tuple[int, ...]]):
        self._layer = layer
        self._cell = cell
        self._shapes = shapes
        masks = self._masks(tf.constant(_SEED, tf.int64))
        self._structure = masks
        self.shapes = [tuple(mask.shape) for mask in tf.nest.flatten(masks)]

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        return tf.nest.flatten(self._masks(seed))

    def without_noise(self) -> list[tf.Tensor]:
        return [tf.ones(shape) for shape in self.shapes]

    @contextlib.contextmanager
    def fixed(self, values: list[tf.Tensor]) -> Iterator[None]:
        values = [tf.cast(value, self._cell.compute_dtype) for value in values]
        masks = tf.nest.pack_sequence_as(self._structure, values)
        getters = {name: lambda inputs, mask=mask: mask for name, mask in masks.items()}
        with (
            overridden(self._cell, **getters),
            overridden(self._layer, call=_training(self._layer)),
        ):
            yield

    def _masks(self, seed: tf.Tensor) -> dict[str, Any]:
        masks = {}
        for (name, shape), one in zip(self._shapes.items(), noise.split(seed, 2), strict=False):
            with _seeded(self._cell, one):
                rate = getattr(self._cell, _RATES[name])
                masks[name] = dropout_masks(self._cell, tf.ones(shape), rate)
        return masks


_RATES = {
    "get_dropout_mask": "dropout",
    "get_recurrent_dropout_mask": "recurrent_dropout",
}


def noisy_places(model: keras.Model) -> list[AbstractNoisyPlace]:
    """Every place of a model that draws noise in training, in the order of its layers.

    Raises:
        ValueError: If sizes of the noise are not known.
    """
    layers = [layer for layer in all_layers(model) if isinstance(layer, _NOISE_LAYERS)]
    # A rate of zero draws nothing.
    layers = [layer for layer in layers if getattr(layer, "seed_generator", None) is not None]
    cells = list(_noisy_cells(model))
    seen = _seen_shapes(model, layers, cells)
    places: list[AbstractNoisyPlace] = []
    for layer in layers:
        # One that is in no path of the model draws nothing either.
        places += [NoisyLayer(layer, shape) for shape in seen.get((id(layer), "call"), [])]
    for layer, cell in cells:
        shapes = {name: seen[id(cell), name][0] for name in _RATES if (id(cell), name) in seen}
        places += [NoisyCell(layer, cell, shapes)] if shapes else []
    return places


def _noisy_cells(model: keras.Model) -> Iterator[tuple[keras.Layer, Any]]:
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.RNN):
            for cell in getattr(layer.cell, "cells", [layer.cell]):
                if any(getattr(cell, rate, 0) for rate in _RATES.values()):
                    yield layer, cell


def _seen_shapes(
    model: keras.Model, layers: list[keras.Layer], cells: list[tuple[keras.Layer, Any]]
) -> dict[tuple[int, str], list[tuple[int, ...]]]:
    """Shapes, one row, of what each layer and each method of a cell is called with."""
    seen: dict[tuple[int, str], list[tuple[int, ...]]] = {}

    def noting(owner: Any, name: str, function: Callable) -> Callable:
        def noted(inputs: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
            shapes = seen.setdefault((id(owner), name), [])
            shape = (1, *_known(owner, inputs.shape[1:]))
            if shape not in shapes:
                shapes.append(shape)
            if len(shapes) > 1:
                raise ValueError(
                    "A draw of MC dropout is one mask for each layer, and this one is called with "
                    "inputs of several shapes: use a layer for each. Received: shapes "
                    f"{[s[1:] for s in shapes]} in the layer {owner.name!r}"
                )
            return function(inputs, *args, **kwargs)

        return noted

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(overridden(layer, call=noting(layer, "call", layer.call)))
        for layer, cell in cells:
            methods = {
                n: noting(cell, n, getattr(cell, n)) for n, r in _RATES.items() if getattr(cell, r)
            }
            stack.enter_context(overridden(cell, **methods))
            stack.enter_context(overridden(layer, call=_training(layer)))
        traced(lambda inputs: model(inputs, training=False)).get_concrete_function(
            input_specs(model)
        )
    return seen


def _known(owner: Any, shape: Any) -> tuple[int, ...]:
    if None in tuple(shape):
        raise ValueError(
            "A draw of MC dropout is one mask for all rows, whose sizes must be known: give "
            f"`keras.Input` all of them. Received: inputs of shape {(None, *shape)} in the layer "
            f"{owner.name!r}"
        )
    return tuple(shape)


def _training(layer: keras.Layer) -> Callable:
    """The call of a layer, in training whatever the model does."""
    call = type(layer).call

    def in_training(*args: Any, training: Any = None, **kwargs: Any) -> Any:
        del training
        return call(layer, *args, training=True, **kwargs)

    return in_training


@contextlib.contextmanager
def _seeded(owner: Any, seed: tf.Tensor) -> Iterator[None]:
    """What `owner` draws inside is a function of the seed."""
    state = owner.seed_generator.state
    with variables_as([(state, tf.cast(seed, state.dtype))]):
        yield
