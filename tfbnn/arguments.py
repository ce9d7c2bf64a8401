"""Arguments: one check for each kind of number, so that every function refuses the same things.

A check gives back what a function should work with: a plain Python number, which goes into a
configuration, a manifest and JSON, also where NumPy's or TensorFlow's came in. Everything that the
package computes is float32, so a real number must be one there too: `1e-60` would be zero and
`1e60` infinite, both in silence.
"""

import math
import numbers
import operator
import os
import pathlib
import random
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

_SMALLEST_FLOAT, _LARGEST_FLOAT = (float(getattr(np.finfo("float32"), n)) for n in ("tiny", "max"))

LARGEST_COUNT = 2**31 - 1
"""The largest number of anything: TensorFlow's sizes are numbers of 32 bits."""

SMALLEST_SCALE, LARGEST_SCALE = 1e-12, 1e12
"""Standard deviations whose squares, and those of a million of them, float32 can hold."""

# What Python, NumPy and TensorFlow say of what is no number.
_NOT_A_NUMBER = (AttributeError, NotImplementedError, OverflowError, TypeError, ValueError)


def whole_number(
    name: str, value: Any, minimum: int | None = None, maximum: int | None = None
) -> int:
    """`value` as an `int`, within limits if there are any, or a `ValueError`.

    It is a whole number of Python, NumPy or TensorFlow; no boolean, string or float. `name` is what
    the argument is called, here and below.
    """
    try:
        # A boolean is a number to Python, and never meant to be one.
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except _NOT_A_NUMBER:
        number = None
    low = number is not None and minimum is not None and number < minimum
    high = number is not None and maximum is not None and number > maximum
    if number is None or low or high:
        least = "" if minimum is None else f", at least {minimum}"
        # Only those who came too far have to hear where the end is.
        most = f" and at most {maximum}" if high else ""
        raise ValueError(
            f"`{name}` must be a whole number{least}{most}. Received: {name}={value!r}"
        )
    return number


def count(name: str, value: Any, minimum: int = 1, most: int = LARGEST_COUNT) -> int:
    """`whole_number`, of things that a machine can hold: from `minimum` to `LARGEST_COUNT`."""
    return whole_number(name, value, minimum, most)


def seed(name: str, value: Any, minimum: int = -(2**63), maximum: int = 2**63 - 1) -> int:
    """`whole_number`, of 64 bits."""
    return whole_number(name, value, minimum, maximum)


def seed_or_any(name: str, value: Any) -> int:
    """`seed`, or any other each time for None."""
    return random.randrange(2**62) if value is None else seed(name, value)


def real_number(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    exclusive: bool = False,
    single: bool = True,
) -> float:
    """`value` as a `float` that float32 holds, or a `ValueError`.

    Args:
        name: What the argument is called, for the message.
        value: A number of Python, NumPy or TensorFlow; no boolean or string.
        minimum: The smallest that is allowed.
        maximum: The largest that is allowed.
        exclusive: Whether finite limits are not allowed themselves.
        single: Whether it has to be a number, within its limits, in float32 too. False where
            float64 is computed with.

    Example:

    >>> import numpy as np
    >>> from tfbnn import arguments
    >>> arguments.real_number("scale", np.float32(0.5), minimum=0, exclusive=True)
    0.5
    """
    number = _as_float(value)
    rounded = number if number is None or not single else _in_float32(number)
    inside = (_inside(one, minimum, maximum, exclusive) for one in (number, rounded))
    if number is None or rounded is None or not all(inside):
        limits = _in_words(minimum, maximum, exclusive)
        raise ValueError(f"`{name}` must be {limits}. Received: {name}={value!r}")
    return number


def positive(name: str, value: Any) -> float:
    """`real_number`, above zero."""
    return real_number(name, value, minimum=0.0, exclusive=True)


def not_negative(name: str, value: Any) -> float:
    """`real_number`, zero or above."""
    return real_number(name, value, minimum=0.0)


def share(name: str, value: Any) -> float:
    """`real_number`, from 0 to 1."""
    return real_number(name, value, 0, 1)


def probability(name: str, value: Any) -> float:
    """`real_number`, strictly between 0 and 1."""
    return real_number(name, value, 0, 1, exclusive=True, single=False)


def standard_deviation(name: str, value: Any) -> float:
    """`real_number`, of a size that float32 can square and divide by."""
    return real_number(name, value, SMALLEST_SCALE, LARGEST_SCALE)


def standard_deviation_or_fan_in(name: str, value: Any) -> float | str:
    """`standard_deviation`, or `"fan_in"` for one that a layer knows when it is built."""
    return number_or("fan_in", standard_deviation, name, value)


def number_or(word: str, check: Callable[[str, Any], float], name: str, value: Any) -> float | str:
    """What `check` says of a number, or `value` if it is a word."""
    if isinstance(value, str) and value == word:
        return word
    try:
        return check(name, value)
    except ValueError as error:
        raise ValueError(f"{word!r} or a number: {error}") from None


def one_of(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """`value`, if it is one of those allowed, or a `ValueError`."""
    # An array compares to an array, and a list has no hash.
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise ValueError(f"`{name}` must be one of {tuple(allowed)}. Received: {name}={value!r}")
    return value


def boolean(name: str, value: Any) -> bool:
    """`value` as a `bool`, or a `ValueError` if it is no boolean of Python or NumPy."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def verbosity(name: str, value: Any) -> str | int:
    """How much to print, as Keras takes it: `"auto"`, or 0, 1 or 2."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    try:
        auto = isinstance(value, str) and value == "auto"
        return "auto" if auto else whole_number(name, value, 0, 2)
    except ValueError:
        raise ValueError(
            f'`{name}` must be "auto", or 0, 1 or 2. Received: {name}={value!r}'
        ) from None


def text(name: str, value: Any) -> str:
    """`value`, if it is a string, or a `ValueError`."""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be a string. Received: {name}={value!r}")
    return str(value)


def path(name: str, value: Any) -> pathlib.Path:
    """`value` as a path, or a `ValueError` if it is none, or no file system has such a name."""
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(
            f"`{name}` must be the name of a file or folder, a string or a `pathlib.Path`. "
            f"Received: {name}={value!r}"
        )
    return pathlib.Path(path)


def listed(name: str, value: Any, check: Callable[[str, Any], Any]) -> list[Any]:
    """The elements of a sequence, each as `check(name, element)` gives it back.

    Raises:
        ValueError: If it is no list, tuple or array of one axis, or an element is refused.
    """
    # Bytes behind a `memoryview` have a shape as well, and no elements of a type.
    array = hasattr(value, "dtype") and len(getattr(value, "shape", ())) == 1
    if isinstance(value, type) or not (isinstance(value, list | tuple) or array):
        raise ValueError(f"`{name}` must be a list or a tuple. Received: {name}={value!r}")
    return [check(f"{name}[{index}]", element) for index, element in enumerate(value)]


def real_array(name: str, value: Any) -> np.ndarray:
    """`value` as an array of real numbers, of whatever type, or a `ValueError` if it is none.

    NumPy would read some out of strings.
    """
    try:
        array = np.asarray(value)
        problem = f"an array of type {array.dtype}" if array.dtype.kind in "OSUTcMm" else ""
    except (TypeError, ValueError, NotImplementedError) as error:
        problem = f"{type(value).__name__} ({error})"
    if problem:
        raise ValueError(f"`{name}` must be an array of real numbers. Received: {name}={problem}")
    return array


def instance(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> Any:
    """`value`, if it is an object of some class, or a `TypeError` that says what was `expected`."""
    if not isinstance(value, kind):
        raise TypeError(
            f"`{name}` must be {expected}. Received: {name} of type {type(value).__name__}"
        )
    return value


def interpreted(name: str, value: Any, interpret: Callable[[Any], Any], expected: str) -> Any:
    """`interpret(value)`, or a `ValueError` that says which argument could not be, and why.

    Example:

    >>> import keras
    >>> from tfbnn import arguments
    >>> arguments.interpreted("activation", "relu", keras.activations.get, "an activation").__name__
    'relu'
    """
    try:
        return interpret(value)
    except Exception as error:
        why = str(error)
        if "Received: " in why:
            raise ValueError(f"`{name}`: {why}") from error
        raise ValueError(
            f"`{name}` must be {expected} ({why}). Received: {name}={value!r}"
        ) from error


def check_fields(settings: Any, **checks: Callable[[str, Any], Any]) -> None:
    """Have fields of a frozen dataclass checked, and kept as the checks give them back."""
    for name, check in checks.items():
        object.__setattr__(settings, name, check(name, getattr(settings, name)))


def _as_float(value: Any) -> float | None:
    """A finite float, or None."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        return None
    try:
        if np.iscomplexobj(value) or (not isinstance(value, numbers.Real) and len(np.shape(value))):
            return None
        number = float(value)
    except _NOT_A_NUMBER:
        return None
    return number if math.isfinite(number) else None


def _in_float32(number: float) -> float | None:
    """The number as float32 has it; None if it is lost there."""
    if number != 0 and not _SMALLEST_FLOAT <= abs(number) <= _LARGEST_FLOAT:
        return None
    return float(np.float32(number))


def _inside(number: float, minimum: float, maximum: float, exclusive: bool) -> bool:
    # `0.99999999999` is below 1 as a float and 1 in float32; `1e-12` is below itself there.
    strictly = minimum < number < maximum
    limits = (minimum, maximum, *(float(np.float32(limit)) for limit in (minimum, maximum)))
    return strictly or (not exclusive and number in limits)


def _in_words(minimum: float, maximum: float, exclusive: bool) -> str:
    strictly = "strictly " if exclusive else ""
    if math.isfinite(minimum) and math.isfinite(maximum):
        return f"a number {strictly}between {minimum:g} and {maximum:g}"
    if minimum == 0 and exclusive:
        return "a positive number, finite in float32"
    if math.isfinite(minimum):
        return f"a number {strictly and 'above' or 'of at least'} {minimum:g}, finite in float32"
    return "a number, finite in float32"
