"""Values: the bad ones that arguments are tried with, and what each kind of argument makes of them.

The rules are written here a second time, without the checks of the package.
"""

import dataclasses
import decimal
import fractions
import math
import numbers
import operator
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

LARGEST = 2**31 - 1
_FLOAT32 = np.finfo(np.float32)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of argument.

    Attributes:
        name: What it is, for `--replay` and messages.
        fits: Whether a value must be accepted (True) or refused (False); None: either will do.
    """

    name: str
    fits: Callable[[Any], bool | None]


def whole(minimum: int = 1, maximum: int = LARGEST) -> Kind:
    """A whole number, not a boolean, of Python, NumPy or TensorFlow."""

    def fits(value: Any) -> bool:
        number = _index(value)
        return number is not None and minimum <= number <= maximum

    return Kind(f"whole number from {minimum} to {maximum}", fits)


def real(
    minimum: float = -math.inf, maximum: float = math.inf, inside: bool = False, single: bool = True
) -> Kind:
    """A real number in its limits; `inside` excludes them. `single`: in float32."""

    def fits(value: Any) -> bool:
        number = _float(value)
        if number is None or not math.isfinite(number):
            return False
        if single and number and not _FLOAT32.tiny <= np.float64(abs(number)) <= _FLOAT32.max:
            return False
        if inside and single:
            return minimum < number < maximum and minimum < float(np.float32(number)) < maximum
        return minimum < number < maximum or (not inside and number in (minimum, maximum))

    return Kind(f"number from {minimum:g} to {maximum:g}", fits)


def scale() -> Kind:
    """A standard deviation."""
    return real(1e-12, 1e12)


def boolean() -> Kind:
    """True or False."""
    return Kind("boolean", lambda value: isinstance(value, bool | np.bool_))


def choice(*names: Any) -> Kind:
    """One of some strings."""
    return Kind(f"one of {names}", lambda value: isinstance(value, str) and value in names)


def text() -> Kind:
    """A string."""
    return Kind("string", lambda value: isinstance(value, str))


def path() -> Kind:
    """The name of a file. What the file system says of it is another thing."""

    def fits(value: Any) -> bool | None:
        named = isinstance(value, str | pathlib.Path) and bool(str(value))
        return None if named and "\0" not in str(value) else False

    return Kind("path", fits)


def verbosity() -> Kind:
    """`"auto"`, 0, 1 or 2, or a boolean."""
    return any_of(choice("auto"), boolean(), whole(0, 2))


def listed(kind: Kind, empty: bool = True) -> Kind:
    """A list, a tuple or an array of one axis."""

    def fits(value: Any) -> bool | None:
        if not isinstance(value, list | tuple) and (
            len(getattr(value, "shape", ())) != 1 or isinstance(value, memoryview)
        ):
            return False
        return _all(kind.fits(element) for element in value) if len(value) else empty

    return Kind(f"list of {kind.name}", fits)


def choices(kind: Kind) -> Kind:
    """A tuple of at least one value."""
    inner = listed(kind, empty=False)
    return Kind(f"tuple of {kind.name}", lambda v: isinstance(v, tuple) and inner.fits(v))


def optional(kind: Kind) -> Kind:
    """The same, or None."""
    return Kind(f"{kind.name} or None", lambda v: True if v is None else kind.fits(v))


def any_of(*kinds: Kind) -> Kind:
    """Whatever one of the kinds takes."""

    def fits(value: Any) -> bool | None:
        answers = [kind.fits(value) for kind in kinds]
        return True if True in answers else None if None in answers else False

    return Kind(" or ".join(kind.name for kind in kinds), fits)


def thing(*types: type) -> Kind:
    """An object that the right call has, and no bad value is."""
    return Kind("object", lambda value: None if types and isinstance(value, types) else False)


def anything() -> Kind:
    """What Keras reads, as far as it does: accepted, or refused in a clear way."""
    return Kind("anything", lambda value: None)


def array() -> Kind:
    """An array or nested lists of real numbers; the shape is another thing."""

    def fits(value: Any) -> bool | None:
        try:
            return None if np.asarray(value).dtype.kind in "biuf" else False
        except (TypeError, ValueError, NotImplementedError):
            return False

    return Kind("array", fits)


def rows() -> Kind:
    """The same, but for lists, which are structures of several arrays."""
    inner = array()
    return Kind("rows", lambda v: inner.fits(v) if hasattr(v, "shape") else _structure(v))


def _structure(value: Any) -> bool | None:
    return None if isinstance(value, list | tuple | dict) else False


def _all(answers: Any) -> bool | None:
    answers = list(answers)
    return False if False in answers else None if None in answers else True


def _index(value: Any) -> int | None:
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except (AttributeError, TypeError, ValueError):
        return None


def _float(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_):
        return None
    of_array = getattr(value, "shape", None) == () and "complex" not in str(value.dtype)
    if not (isinstance(value, numbers.Real | decimal.Decimal) or of_array):
        return None
    try:
        return float(value)
    except (AttributeError, OverflowError, TypeError, ValueError):
        return None


class _Nothing:
    """An object that nobody expects."""

    def __repr__(self) -> str:
        return "<an object>"


# As functions, so that each try has a value of its own.
VALUES: tuple[Callable[[], Any], ...] = (
    *(lambda v=v: v for v in (None, True, False, np.True_, Ellipsis, NotImplemented)),
    *(lambda v=v: v for v in (-1, 0, 1, 2, 3, 5, -(2**70), 2**31, 2**40, 2**63, 10**30, 10**400)),
    *(lambda v=v: np.int32(v) for v in (-1, 0, 1, 2, 3)),
    *(lambda v=v: v for v in (np.int64(3), np.uint8(2), np.int64(-(2**62)), np.uint64(2**63))),
    *(lambda v=v: v for v in (0.5, 1.0, 2.0, 0.999999999, -0.5, -0.0, 3.7, 1e9, 1e20)),
    *(lambda v=v: v for v in (math.nan, math.inf, -math.inf, 1e-50, 1e-40, 1e-20, 1e39, 1e300)),
    *(lambda v=v: v for v in (np.float32(0.5), np.float64(0.25), np.float16(2), np.float32("nan"))),
    *(
        lambda v=v: v
        for v in (fractions.Fraction(1, 2), decimal.Decimal("0.5"), 1j, np.complex64(1))
    ),
    *(
        lambda v=v: v
        for v in ("", "nonsense", "3", "None", "0.5", "nan", "a\0b", "é" * 300, "auto")
    ),
    *(lambda v=v: v for v in (b"", b"3", bytearray(b"3"), memoryview(b"3"))),
    lambda: np.array(2),
    lambda: np.array(0.5),
    lambda: np.array("a"),
    lambda: np.datetime64("2020-01-01"),
    lambda: tf.constant(2),
    lambda: tf.constant(0.5),
    lambda: tf.constant("a"),
    lambda: tf.constant([1, 2]),
    lambda: [],
    lambda: (),
    lambda: {},
    lambda: set(),
    lambda: [1],
    lambda: (1, 2),
    lambda: (2, 2, 2, 2),
    lambda: [0.5],
    lambda: (0.1, 0.9),
    lambda: (0.9, 0.1),
    lambda: [None],
    lambda: ["a"],
    lambda: ("a", 1),
    lambda: [[1], [1, 2]],
    lambda: [math.nan],
    lambda: {"a": 1},
    lambda: {1, 2},
    lambda: {"class_name": "Nonsense", "config": {}},
    lambda: {"class_name": "Normal", "config": {"scale": -1.0}},
    lambda: {"class_name": "Zeros", "config": {}, "module": "keras.initializers"},
    lambda: {"class_name": "dict", "config": {}, "module": "builtins"},
    lambda: {"class_name": 3, "config": None},
    lambda: {"config": {}},
    lambda: range(2),
    lambda: iter([1, 2]),
    lambda: np.ones(2),
    lambda: np.ones((2, 2)),
    lambda: np.ones((2, 3)),
    lambda: np.zeros((0, 3)),
    lambda: np.full((6, 3), np.nan),
    lambda: np.full((6, 3), 1e300),
    lambda: np.array(["a", "b"]),
    lambda: np.array([None, 1]),
    lambda: np.ones((6, 3), complex),
    lambda: _Nothing(),
    lambda: lambda: 0,
    lambda: int,
    lambda: keras.layers.Dense,
    lambda: keras.layers.Dense(2),
    lambda: keras.Input((3,)),
    lambda: keras.initializers.Zeros(),
    lambda: keras.Sequential(),
    lambda: tf.data.Dataset.range(3),
    lambda: pathlib.Path("nonsense"),
    lambda: ValueError("nonsense"),
    lambda: math,
)
