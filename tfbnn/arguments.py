"""Arguments: one check for each kind of number, so that every function refuses the same things.

A check gives back what a function should work with: a plain Python number, which goes into a
configuration, a manifest and JSON, also where NumPy's or TensorFlow's came in. Everything that the
package computes is float32, so a real number must be one there too: `1e-60` would be zero and
`1e60` infinite, both in silence.
"""

import math
import numbers
import operator
from collections.abc import Collection
from typing import Any

import numpy as np

_FLOAT32 = np.finfo(np.float32)


def whole_number(name: str, value: Any, minimum: int | None = None) -> int:
    """`value` as an `int`.

    Args:
        name: What the argument is called, for the message.
        value: A whole number of Python, NumPy or TensorFlow; no boolean, string or float.
        minimum: The smallest that is allowed, or None.

    Raises:
        ValueError: If it is something else, or too small.

    Example:

    >>> import numpy as np
    >>> from tfbnn import arguments
    >>> arguments.whole_number("units", np.int64(4), minimum=1)
    4
    """
    try:
        # A boolean is a number to Python, and never meant to be one.
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (minimum is not None and number < minimum):
        least = "" if minimum is None else f", at least {minimum}"
        raise ValueError(f"`{name}` must be a whole number{least}. Received: {name}={value!r}")
    return number


def real_number(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    exclusive: bool = False,
) -> float:
    """`value` as a `float` that float32 holds.

    Args:
        name: What the argument is called, for the message.
        value: A number of Python, NumPy or TensorFlow; no boolean or string.
        minimum: The smallest that is allowed.
        maximum: The largest that is allowed.
        exclusive: Whether finite limits are not allowed themselves.

    Raises:
        ValueError: If it is something else, is not finite, or is beyond its limits, in float32 too.

    Example:

    >>> import numpy as np
    >>> from tfbnn import arguments
    >>> arguments.real_number("scale", np.float32(0.5), minimum=0, exclusive=True)
    0.5
    """
    number = _as_float(value)
    if number is None or not _inside(number, minimum, maximum, exclusive):
        limits = _in_words(minimum, maximum, exclusive)
        raise ValueError(f"`{name}` must be {limits}. Received: {name}={value!r}")
    return number


def positive(name: str, value: Any) -> float:
    """`real_number`, above zero."""
    return real_number(name, value, minimum=0.0, exclusive=True)


def one_of(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """`value`, if it is one of those allowed.

    Raises:
        ValueError: If it is not.

    Example:

    >>> from tfbnn import arguments
    >>> arguments.one_of("scope", "layer", ("global", "layer"))
    'layer'
    """
    # An array compares to an array, and a list has no hash.
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise ValueError(f"`{name}` must be one of {tuple(allowed)}. Received: {name}={value!r}")
    return value


def boolean(name: str, value: Any) -> bool:
    """`value` as a `bool`.

    Raises:
        ValueError: If it is no boolean of Python or NumPy.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def _as_float(value: Any) -> float | None:
    """A finite float that is not lost in float32, or None."""
    if isinstance(value, bool | np.bool_ | str | bytes) or np.iscomplexobj(value):
        return None
    if not isinstance(value, numbers.Real) and np.shape(value) != ():
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    fits = abs(number) <= _FLOAT32.max and (number == 0 or abs(number) >= _FLOAT32.tiny)
    return number if fits else None


def _inside(number: float, minimum: float, maximum: float, exclusive: bool) -> bool:
    # `0.99999999999` is below 1 as a float and 1 in float32.
    for one in (number, float(np.float32(number))):
        strictly = minimum < one < maximum
        if not (strictly or (not exclusive and minimum <= one <= maximum)):
            return False
    return True


def _in_words(minimum: float, maximum: float, exclusive: bool) -> str:
    strictly = "strictly " if exclusive else ""
    if math.isfinite(minimum) and math.isfinite(maximum):
        return f"a number {strictly}between {minimum:g} and {maximum:g}"
    if minimum == 0 and exclusive:
        return "a positive number, finite in float32"
    if math.isfinite(minimum):
        return f"a number {strictly and 'above' or 'of at least'} {minimum:g}, finite in float32"
    return "a number, finite in float32"
