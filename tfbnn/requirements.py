"""Requirements on the numbers of a batch, which hold inside a traced step as they do outside.

A step is traced once for many batches, and TensorFlow forgets what it knows of their shapes when a
function is traced again. A check in Python then passes what comes later. `require` checks the batch
itself: in eager mode it raises at once, in a graph it becomes an assertion, and `clear_errors`
turns the failed assertion into the same `ValueError`.

XLA leaves assertions out of what it compiles (`jit_compile=True`, Keras' choice on a GPU). Shapes
are static there, and the values of `fit` and `evaluate` are checked on their way to the step
(`feeding.fed`); only there a one-hot row without any class passes.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

# So that our own assertions are told from those of others.
_MARK = "tfbnn: "


def require(condition: Any, *message: Any) -> list[tf.Operation]:
    """Raise a `ValueError` with the parts of a message, strings and tensors, unless all are true.

    The first part is a string. In a graph the assertion is returned, for `tf.control_dependencies`
    of what would fail after it; `clear_errors` makes the `ValueError` of it.
    """
    condition = tf.reduce_all(condition)
    if tf.executing_eagerly():
        if not bool(condition):
            raise ValueError(" ".join(map(_in_words, message)))
        return []
    first, *others = message
    return [tf.debugging.Assert(condition, [f"{_MARK}{first}", *others], summarize=16)]


def require_finite(name: str, value: Any) -> list[tf.Operation]:
    """`require` that a tensor, or a structure of them, has no NaN and nothing infinite in float32.

    What is no dense tensor of real numbers passes. `name` is what it is called in the message.
    """
    required = []
    for tensor in tf.nest.flatten(value):
        if not isinstance(tensor, tf.Tensor) or not tensor.dtype.is_floating:
            continue
        finite = tf.math.is_finite(tf.cast(tensor, tf.float32))
        size = tf.size(finite)
        required += require(
            finite,
            f"`{name}` has NaN or infinite elements, or some beyond the range of float32; remove "
            "or replace them. Received:",
            size - tf.math.count_nonzero(finite, dtype=tf.int32),
            "of",
            size,
            "elements",
        )
    return required


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn a requirement that failed inside a graph into the `ValueError` that it is."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        message = _message(str(error))
        if message is None:
            raise
        raise ValueError(message) from error


def reason_of(error: Exception) -> str:
    """What TensorFlow or Keras says that went wrong, in one line, without the places in a graph."""
    text = getattr(error, "message", None) or str(error)
    lines = [_NO_WORDS.sub("", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("Exception encountered")]
    # The reason stands before the nodes in which it came up, and those before all others.
    nodes = next((i for i, line in enumerate(lines) if line.startswith("[[")), 0)
    return lines[max(nodes - 1, 0)] if lines else type(error).__name__


# Names of nodes, of operations, and the colours of a terminal.
_NO_WORDS = re.compile(r"\{\{.*?\}\}|\[Op:\w+\]|\x1b\[\d*m")


def _message(text: str) -> str | None:
    """The parts of a message, which TensorFlow prints as `[part] [part]`, or None."""
    found = re.search(rf"assertion failed: \[{_MARK}(.*)\]", text)
    return None if found is None else found[1].replace("] [", " ")


def _in_words(part: Any) -> str:
    return str(part.numpy()) if isinstance(part, tf.Tensor) else str(part)
