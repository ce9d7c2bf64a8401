"""Text: functions and constant arrays of a C file, and templates for them."""

import dataclasses
import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_C_TYPES = {
    np.dtype(np.float32): "float",
    np.dtype(np.int8): "int8_t",
    np.dtype(np.uint8): "uint8_t",
    np.dtype(np.uint16): "uint16_t",
    np.dtype(np.uint32): "uint32_t",
}
_PER_LINE = 12
# Between the two characters that begin or end a comment, or begin a trigraph.
_SPECIAL = re.compile(r"(?<=/)(?=\*)|(?<=\*)(?=/)|(?<=\?)(?=\?)")
# What a line of a template ends in that is not always there.
_CONDITION = re.compile(r" *//\? ([\w! ]+)$")


@dataclasses.dataclass(frozen=True)
class Function:
    """A static C function or a type, and those that must be written before it."""

    name: str
    text: str
    needs: tuple["Function", ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Array:
    """A constant array of a C file."""

    name: str
    values: np.ndarray

    @property
    def num_bytes(self) -> int:
        """Bytes in the flash of a device; C has no empty arrays, so at least one element."""
        return max(self.values.nbytes, self.values.itemsize)

    def definition(self) -> str:
        """`static const float name[size] = {...};`"""
        values = self.values.ravel() if self.values.size else np.zeros(1, self.values.dtype)
        items = literals(values)
        lines = [
            ", ".join(items[start : start + _PER_LINE]) for start in range(0, len(items), _PER_LINE)
        ]
        body = ",\n    ".join(lines)
        c_type = _C_TYPES[values.dtype]
        return f"static const {c_type} {self.name}[{len(values)}] = {{\n    {body}\n}};\n"


def filled(template: str, conditions: Mapping[str, bool], **holes: Any) -> str:
    """C from a template with holes `${name}`.

    A line that ends in `//? one !other` is there where the first condition holds and the second
    does not.

    Example:

    >>> filled("x = ${x};  //? known\\nx = 0;  //? !known\\n", {"known": True}, x=2)
    'x = 2;\\n'
    """
    kept = []
    for line in template.splitlines(keepends=True):
        text, *names = re.split(_CONDITION, line.rstrip("\n"))
        wanted = names[0].split() if names else []
        if all(conditions[name.lstrip("!")] != name.startswith("!") for name in wanted):
            kept.append(f"{text}\n" if names else line)
    return string.Template("".join(kept)).substitute(holes)


def literals(values: np.ndarray) -> list[str]:
    """The elements of an array of one axis as C constants."""
    if values.dtype == np.float32:
        return [float_literal(value) for value in values.tolist()]
    return list(map(str, values.tolist()))


def float_literal(value: float) -> str:
    """A C constant of type float; nine digits tell any two of them apart.

    Example:

    >>> float_literal(1), float_literal(1e-12), float_literal(-0.25)
    ('1.0f', '1e-12f', '-0.25f')
    """
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def in_comment(text: str) -> str:
    """A text in one line of ASCII that does not begin or end a comment, whatever is in it.

    Example:

    >>> in_comment("/* what? */ ??/")
    '/ * what? * / ? ?/'
    """
    line = " ".join(text.split()).encode("unicode_escape").decode("ascii")
    return _SPECIAL.sub(" ", line)


def in_order(functions: Iterable[Function]) -> list[Function]:
    """Each function once, after all that it needs."""
    ordered: dict[str, Function] = {}
    for function in functions:
        for needed in (*in_order(function.needs), function):
            ordered.setdefault(needed.name, needed)
    return list(ordered.values())
