"""Overriding: an object that does something else while a block lasts."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def overridden(owner: Any, **attributes: Any) -> Iterator[None]:
    """An object with other attributes or methods.

    By Python's own means: Keras would take them for state of a layer.
    """
    before = {name: vars(owner)[name] for name in attributes if name in vars(owner)}
    vars(owner).update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del vars(owner)[name]
        vars(owner).update(before)
