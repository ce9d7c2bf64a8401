"""Named objects: what a name, a configuration or an object of the user's stands for."""

from collections.abc import Callable
from typing import Any

import keras

from tfbnn import arguments


def named_object(
    name: str, value: Any, table: dict[str, Any], check: Callable[[Any], Any], module: str
) -> Any:
    """The object that a name in the table, a configuration or an object stands for; None for None.

    `check` gives an object back, or raises an error if it is none of the kind, which then is a
    `ValueError` that says in which module these are.
    """
    if value is None or (isinstance(value, str) and value in table):
        return value and table[value]

    def interpret(value: Any) -> Any:
        deserialize = keras.saving.deserialize_keras_object
        return check(deserialize(value) if isinstance(value, dict) else value)

    expected = f"None, one of the names {sorted(table)}, or an object of `{module}`"
    return arguments.interpreted(name, value, interpret, expected)
