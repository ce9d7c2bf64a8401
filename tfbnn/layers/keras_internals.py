"""Keras' internals: the private names of Keras that tfbnn uses, each behind a function.

A function says which public thing is missing and, beside the private name, since which Keras it
exists. No other file touches them (`tests/test_layout.py`), so that what a new Keras moves is
mended here.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.models.functional import Functional as KerasFunctional  # noqa: F401
from keras.src.ops import nn as nn_operations  # noqa: F401
from keras.src.ops import numpy as numpy_operations  # noqa: F401
from keras.src.saving.object_registration import GLOBAL_CUSTOM_NAMES
from keras.src.saving.serialization_lib import SerializableDict  # noqa: F401
from keras.src.trainers.data_adapters import get_data_adapter  # noqa: F401
from keras.src.trainers.data_adapters.array_slicing import train_validation_split  # noqa: F401

# Not public, and imported from here, all since 3.0: what `keras.Model(inputs, outputs)` makes; the
# operations in a graph, of which `keras.ops` has the functions; what a layer keeps for its
# configuration; how `fit` reads data, and splits arrays.
REGISTERED_NAMES = GLOBAL_CUSTOM_NAMES
"""Names by class or function, of which `keras.saving.get_custom_objects` is the inverse (3.0)."""

POLICY, TYPE = "_dtype_policy", "_dtype"
"""Where a layer keeps its policy and a symbolic input its type (3.3, 3.0). `dtype_policy` writes
into a map of policies, and an input has no setter."""


def all_layers(layer: Any, include_self: bool = True, recursive: bool = True) -> list[Any]:
    """A layer and those inside it, each once: `_flatten_layers` (3.0).

    `model.layers` leaves out what is nested, or an attribute of a layer.
    """
    return list(layer._flatten_layers(include_self, recursive))


def own_variables(layer: Any) -> list[Any]:
    """The variables of a layer without those of the layers inside it (3.0): none are public."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def mask_of(output: Any) -> tf.Tensor | None:
    """The mask of an output, True where a step counts: `_keras_mask` (3.0), which only layers see.

    None if all do.
    """
    return getattr(output, "_keras_mask", None)


def put_mask(output: Any, mask: tf.Tensor | None) -> None:
    """Hang a mask on an output, if there is one; see `mask_of`."""
    if mask is not None:
        output._keras_mask = mask


def graph_of(model: Any) -> Any:
    """The functional model that a `Sequential` hides (`_functional`, 3.0), or the model itself."""
    return getattr(model, "_functional", None) or model


def nodes_of(graph: Any) -> list[Any] | None:
    """Calls of layers in order, public in a configuration only: `_nodes_by_depth` (3.0).

    None for a model with a `call` of its own.
    """
    by_depth = getattr(graph, "_nodes_by_depth", None)
    return by_depth and [
        node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]
    ]


def symbolic_inputs(model: Any) -> list[Any]:
    """What a model casts its inputs to the types of: `_inputs` (3.0). `inputs` is a copy."""
    return getattr(graph_of(model), "_inputs", None) or []


def layer_behind(tensor: Any) -> Any:
    """The layer that a symbolic tensor comes out of: `_keras_history` (3.0)."""
    return tensor._keras_history.operation


def casting(dtype: str) -> Any:
    """Here layers read variables as `dtype`, whatever their policy says: `AutocastScope` (3.0)."""
    return backend.AutocastScope(dtype)


def outputs_structure(model: Any) -> Any:
    """The structure of what a model returns: `_outputs_struct` (3.0); `outputs` is flat.

    None where there is one output, and for a model with a `call` of its own.
    """
    return getattr(model, "_outputs_struct", None)


def input_specs(model: Any) -> Any:
    """What a built model takes, in its structure, with an unknown number of rows.

    From `_inputs_struct` (3.0): `inputs` is flat, and `input` fails where a model was never called.
    A subclassed model remembers the batch that it was built on.
    """
    found = getattr(graph_of(model), "_inputs_struct", None)
    if found is None:
        shape = (model.get_build_config() or {}).get("input_shape", ())
        return tf.TensorSpec((None, *shape[1:]), model.variable_dtype)
    if isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    return tf.nest.map_structure(
        lambda one: tf.TensorSpec((None, *one.shape[1:]), one.dtype, one.name), found
    )


def dropout_masks(cell: Any, like: tf.Tensor, rate: float) -> Any:
    """The masks that a recurrent cell draws for a tensor: `_create_dropout_mask` (3.0).

    Public is what gives those that are there already.
    """
    return cell._create_dropout_mask(like, rate)


@contextlib.contextmanager
def variables_as(values: list[tuple[Any, Any]]) -> Iterator[None]:
    """Within this context Keras variables have other values; those given around it stay.

    `keras.StatelessScope` forgets those, which `state_mapping` holds by identity (3.0).
    """
    outer, scope = get_stateless_scope(), keras.StatelessScope()
    scope.state_mapping = {} if outer is None else dict(outer.state_mapping)
    for variable, value in values:
        # By hand, as Keras takes no value that has another shape and is broadcast.
        scope.state_mapping[id(variable)] = tf.cast(value, variable.dtype)
    with scope:
        yield


def call_without_noise(model: Any, x: Any) -> Any:
    """A call in inference mode; whether `call` takes `training` is known to Keras (3.0) alone."""
    return model(x, training=False) if model._call_has_training_arg else model(x)


def compile_arguments(model: Any) -> dict[str, Any]:
    """What `compile` was given, which `get_compile_config` serializes: `_compile_config` (3.0)."""
    return model._compile_config.config


def compiled_loss(model: Any) -> Any:
    """An object that each compilation makes anew: `_compile_loss` (3.0). `loss` may stay."""
    return model._compile_loss


def loss_tracker(model: Any) -> keras.metrics.Mean:
    """The metric `loss` (3.0), which a loss of a model's own is recorded in."""
    return model._loss_tracker


def is_validation_of_fit(options: dict[str, Any]) -> bool:
    """Whether it is Keras' `fit` that calls `evaluate`, with these other arguments (3.0)."""
    return bool(options.get("_use_cached_eval_dataset"))


def start_at_epoch(model: Any, epoch: int | None) -> None:
    """Let `fit` begin there, not where it is told: `_initial_epoch` (3.1)."""
    model._initial_epoch = epoch


def build_metrics(model: Any, batch: Any) -> None:
    """Have the variables of metrics made before the first step: `_symbolic_build` (3.0)."""
    model._symbolic_build(data_batch=batch)


def random_seed() -> int | None:
    """What `keras.utils.set_random_seed` was given, and has no inverse for (3.10)."""
    return keras.src.utils.rng_utils.get_random_seed()


@contextlib.contextmanager
def unlocked(model: Any) -> Iterator[None]:
    """Let a model have variables after it was built, when it is compiled: `_tracker` (3.1)."""
    was_locked = model._tracker.locked
    model._tracker.unlock()
    try:
        yield
    finally:
        if was_locked:
            model._tracker.lock()


def take_away(model: Any, variable: Any) -> None:
    """Take from a model a variable that `add_weight` gave it: `_untrack_variable` (3.1)."""
    model._untrack_variable(variable)


def inner_of(optimizer: Any) -> Any:
    """The optimizer inside one that scales the loss, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def batches_seen(optimizer: Any) -> tf.Tensor:
    """How many batches the optimizer was given: `_iterations` (3.0).

    `iterations` counts updates, which are fewer where gradients are added up.
    """
    return tf.convert_to_tensor(inner_of(optimizer)._iterations)


def key_in(optimizer: Any, variable: Any) -> Any:
    """What an optimizer knows a variable by, or the variable of a replica: `_var_key` (3.0)."""
    return inner_of(optimizer)._var_key(variable)


def leave_out_of_decay(optimizer: Any, variables: list[Any]) -> None:
    """Leave variables out of weight decay: `_exclude_from_weight_decay` (3.0, its cache 3.3).

    The public method forgets what it was given before, and must come before `build`.
    """
    excluded = getattr(optimizer, "_exclude_from_weight_decay", set())
    optimizer._exclude_from_weight_decay = excluded | {optimizer._var_key(v) for v in variables}
    optimizer._exclude_from_weight_decay_cache = {}


def adam_handles(optimizer: Any, variables: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Of each variable and its slots in Adam what TensorFlow's kernels take (3.0).

    Public are a flat list of slots, and the tensor that a variable holds.
    """
    optimizer._check_variables_are_known(variables)
    for variable in variables:
        slot = optimizer._get_variable_index(variable)
        slots = optimizer._momentums[slot], optimizer._velocities[slot]
        yield tuple(one._value.handle for one in (variable, *slots))


class TrainingHooks:
    """What Keras' loops do at three points where it has no public method to override."""

    def shown(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Of the results those that `evaluate` returns in a list."""
        raise NotImplementedError

    def first_batch(self, iterator: Any) -> Any:
        """A batch to build the model on, out of those that a strategy gives to replicas."""
        raise NotImplementedError

    def _flatten_metrics_in_order(self, logs: dict[str, Any]) -> Any:
        # Since 3.0.
        return super()._flatten_metrics_in_order(self.shown(logs))

    def _get_metrics_result_or_logs(self, logs: Any) -> Any:
        """The metrics over all replicas; `logs` are the mean of the replicas' own (3.3)."""
        results = self.get_metrics_result()
        # An evaluation logs fewer than there are.
        known = isinstance(logs, dict) and set(logs) <= set(results)
        return {name: results[name] for name in logs} if known else logs

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Since 3.5.
        if iterator is not None and self._distribute_strategy is not None:
            iterator, data_batch = None, self.first_batch(iterator)
        super()._maybe_symbolic_build(iterator, data_batch)


def through_graph(graph: Any, inputs: Any, operation: Any) -> Any:
    """The outputs of a functional model for other inputs, with other layers in the place of its
    own: `_run_through_graph` (3.0). `keras.models.clone_model` does it, and compiles the result.
    """
    return graph._run_through_graph(inputs, operation_fn=operation)


def layers_before(tensor: Any) -> Iterator[Any]:
    """The operations that a symbolic tensor is computed by, nearest first: `_keras_history` (3.0).

    In a configuration there are names only.
    """
    waiting, seen = [tensor], set()
    while waiting:
        operation, node_index, _ = waiting.pop(0)._keras_history
        node = operation._inbound_nodes[node_index]
        if id(node) not in seen:
            seen.add(id(node))
            yield operation
            waiting += node.input_tensors


def forget_layers(layer: Any) -> None:
    """Let a layer lose the layers inside it: `_layers`, `_tracker` (3.0). Its attributes stay."""
    layer._tracker.unlock()
    stored = layer._tracker.stored_ids["layers"]
    stored.difference_update(map(id, layer._layers))
    layer._layers.clear()
