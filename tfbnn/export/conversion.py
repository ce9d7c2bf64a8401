"""Conversion: from a traced graph to the bytes of a LiteRT file, with builtin operations only."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf


def convert(
    module: tf.Module, precision: str, representative_data: np.ndarray | None = None
) -> bytes:
    """The LiteRT file for `module.serve`.

    Args:
        module: A module with a traced function `serve`.
        precision: Of the stored weights: `"float32"`, `"float16"`, `"int8"` (activations stay real
            numbers) or `"full_int8"` (activations too).
        representative_data: Rows from which `"full_int8"` learns the range of each activation.

    Raises:
        ValueError: If LiteRT has no builtin operation for something in the graph.
    """
    graph = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "full_int8":
        rows = graph.inputs[0].shape[0]
        batches = [
            representative_data[i : i + rows] for i in range(0, len(representative_data), rows)
        ]
        converter.representative_dataset = lambda: ([b] for b in batches if len(b) == rows)
    try:
        with _quiet():
            return converter.convert()
    except Exception as error:
        raise ValueError(
            "The model cannot be converted with the builtin operations of LiteRT; export it with "
            "`tfbnn.export.saved_model`, or replace the layer. Operations named by the converter: "
            f"{_named_operations(str(error))}"
        ) from error


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
