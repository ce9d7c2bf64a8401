"""Conversion: from a traced graph to the bytes of a LiteRT file, with builtin operations only."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf


def convert(
    module: tf.Module, precision: str, representative_data: Sequence[np.ndarray] = ()
) -> bytes:
    """The LiteRT file for `module.serve`.

    Args:
        module: A module with a traced function `serve`.
        precision: `"int8"` for weights of 8 bits, `"full_int8"` for activations too; all else is
            for `encoding`.
        representative_data: Rows of each input, from which `"full_int8"` learns the range of each
            activation.

    Raises:
        ValueError: If LiteRT has no builtin operation for something in the graph.
    """
    graph = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    if precision in ("int8", "full_int8"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "full_int8":
        converter.representative_dataset = lambda: _batches(module, representative_data)
    try:
        with _quiet():
            return converter.convert()
    except Exception as error:
        raise ValueError(
            "The model cannot be converted with the builtin operations of LiteRT; export it with "
            "`tfbnn.export.saved_model`, or replace the layer. "
            f"Received: {_named_operations(str(error))} (from the converter)"
        ) from error


def _batches(module: tf.Module, data: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Whole batches of the size of the file, the first rows again in the last one."""
    rows = module.serve.input_signature[0].shape[0]
    for start in range(0, len(data[0]), rows):
        chosen = np.arange(start, start + rows)
        yield [np.take(one, chosen, axis=0, mode="wrap") for one in data]


def _named_operations(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if "error: 'tf." in line]
    return "; ".join(lines[:3]) or (message.splitlines() or ["none"])[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the converter's C++ code prints to the descriptors, past `sys.stderr`."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(tempfile.TemporaryFile())
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            # A process without a terminal may have closed either of them.
            with contextlib.suppress(OSError, AttributeError, ValueError):
                stream.flush()
                saved = os.dup(descriptor)
                os.dup2(sink.fileno(), descriptor)
                stack.callback(_restore, saved, descriptor)
        yield


def _restore(saved: int, descriptor: int) -> None:
    os.dup2(saved, descriptor)
    os.close(saved)
