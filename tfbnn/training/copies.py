"""Copies of a model in memory, by way of its configuration.

A configuration refers to code by names, under which Keras has to find it: a class that is not
registered is not found, a lambda becomes bytes without the variables around it, and of two
functions of one name the first would be taken for both. The code of a model in memory needs no
finding. So while a copy is made every function and class of the model has a name of its own.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfbnn.layers.keras_internals import (
    REGISTERED_NAMES,
    SerializableDict,
    all_layers,
    compile_arguments,
)
from tfbnn.layers.variational import variational_weights

_NUMBERS = itertools.count()
# Names belong to the process.
_ONE_AT_A_TIME = threading.RLock()


def rebuilt(
    model: Any,
    change: Callable[[dict[str, Any]], None] = lambda config: None,
    prepare: Callable[[Any], None] = lambda copy: None,
) -> Any:
    """A model of the same class and configuration, not compiled.

    It is built if `model` is, its variables at their initial values. `change` changes the
    configuration, in place; `prepare` is called with the new model before it is built, if it does
    not build itself.
    """
    with named_code(model) as serialized:
        config = serialized(model.get_config())
        change(config)
        copy = type(model).from_config(config)
        prepare(copy)
        build_config = model.get_build_config()
        if build_config and not copy.built:
            copy.build_from_config(build_config)
            copy.built = True
    return copy


def compile_like(source: Any, target: Any, for_training: bool = True) -> None:
    """Compile a model as another one was, if it was.

    Where it is not `for_training`, the optimizer of `source` need not be one that can be copied.
    """
    if not source.compiled:
        return
    with named_code(source) as serialized:
        if for_training:
            config = serialized(source.get_compile_config())
        else:
            unused = {"optimizer": "sgd", "metrics": None, "weighted_metrics": None}
            config = serialized({**compile_arguments(source), **unused})
        target.compile_from_config(config)


def copy_state(source: Any, target: Any, for_training: bool = True) -> None:
    """Compile a model as another one was, with its temperatures and example rows."""
    compile_like(source, target, for_training)
    for old, new in zip(source.likelihoods, target.likelihoods, strict=True):
        new.take_temperatures(old)
    target.example_rows = source.example_rows


def copy_variables(source: Any, target: Any, apart: Callable[[Any], list[Any]]) -> None:
    """Let a copy have the values of a model's variables, but for some of each random weight's.

    Args:
        source: A model of tfbnn.
        target: The copy.
        apart: Gives those of a random weight that only one of the two has.
    """
    pairs = zip(_shared(source, apart), _shared(target, apart), strict=True)
    for old, new in pairs:
        new.assign(old)
    remake_constants(target)


def _shared(model: Any, apart: Callable[[Any], list[Any]]) -> Iterator[keras.Variable]:
    """The variables that a model and its copy have, in the same order in both."""
    own = [variable for weight in variational_weights(model) for variable in apart(weight)]
    # Those of the noise: `compile` makes them, before or after the model's own variables.
    noise = [v for one in model.likelihoods for v in getattr(one.loss, "variables", [])]
    left_out = {id(variable) for variable in (*own, *noise)}
    yield from (variable for variable in model.weights if id(variable) not in left_out)
    yield from noise


def remake_constants(model: Any) -> None:
    """After variables were assigned: let layers make anew what they keep of them as constants."""
    for layer in all_layers(model):
        # The only one of Keras; what others have learnt is in their configuration.
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


@contextlib.contextmanager
def named_code(model: Any) -> Iterator[Callable[[Any], Any]]:
    """Gives a function that serializes what can be deserialized while the block lasts."""
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        names = {stack.enter_context(_registered(code)) for code in _code_to_name(model)}

        def serialized(item: Any) -> Any:
            config = keras.saving.serialize_keras_object(item)
            _refer_by_name(config, names)
            return config

        yield serialized


@contextlib.contextmanager
def _registered(code: Any) -> Iterator[str]:
    """A name that is this function's or class' alone, under which Keras finds it."""
    name = f"tfbnn_copy>{next(_NUMBERS)}"
    before = REGISTERED_NAMES.get(code)
    own_name = getattr(code, "__name__", None)
    # Keras turns what is called `<lambda>` to bytes, and asks others for a name.
    nameless = own_name in (None, "<lambda>")
    REGISTERED_NAMES[code] = name
    keras.saving.get_custom_objects()[name] = code
    if nameless:
        code.__name__ = "nameless"
    try:
        yield name
    finally:
        if nameless and own_name is None:
            del code.__name__
        elif nameless:
            code.__name__ = own_name
        del keras.saving.get_custom_objects()[name], REGISTERED_NAMES[code]
        if before is not None:
            REGISTERED_NAMES[code] = before


def _code_to_name(model: Any) -> list[Any]:
    """The functions and classes of a model that Keras would not find, or find others for."""
    found: dict[int, Any] = {}
    seen: dict[int, Any] = {}
    # The schedule of a model of tfbnn is in no configuration.
    waiting = [model, getattr(getattr(model, "objective", None), "kl_schedule", None)]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen[id(item)] = item
        code = None
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)
        elif hasattr(type(item), "get_config") or isinstance(item, SerializableDict):
            waiting.extend(vars(item).values())
            code = type(item)
        elif callable(item):
            code = item
        if code is not None and _can_be_named(code) and not _is_found(code):
            found[id(code)] = code
    return list(found.values())


def _can_be_named(code: Any) -> bool:
    return type(code).__hash__ is not None and (
        hasattr(code, "__name__") or hasattr(code, "__dict__")
    )


def _is_found(code: Any) -> bool:
    """Whether Keras finds a function or class by its name, and no other one."""
    if str(getattr(code, "__module__", "")).split(".")[0] == "keras":
        return True
    if not hasattr(code, "__name__"):
        return False
    return keras.saving.get_registered_object(keras.saving.get_registered_name(code)) is code


def _refer_by_name(config: Any, names: set[str]) -> None:
    """Have methods, partial functions and other callables looked up as functions are."""
    if isinstance(config, dict):
        name = config.get("config")
        if isinstance(name, str) and name in names:
            config.update(class_name="function", registered_name=name)
    if isinstance(config, dict | list | tuple):
        for item in config.values() if isinstance(config, dict) else config:
            _refer_by_name(item, names)
