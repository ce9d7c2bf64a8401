"""`tfbnn.export.onnx`: an ONNX file that answers with a prediction and an uncertainty."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from tfbnn.export.modes import Ensemble, Mean, Moments
from tfbnn.export.options import Inputs
from tfbnn.export.shipping import AbstractTarget, Shipment, ship
from tfbnn.export.variances import FORMS

# The newest that tf2onnx writes without a warning, and older than any runtime of the last years.
_OPSET = 17


def onnx(
    model: Any,
    path: str | os.PathLike,
    uncertainty: Any = "ensemble",
    storage: Any = "float32",
    inputs: Inputs | None = None,
    check_data: Any = None,
    class_names: list[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write an `.onnx` file with the outputs that `tfbnn.export.tflite` has.

    It takes any number of rows, and is run in onnxruntime and compared with the posterior before it
    takes its place. Needs `pip install tfbnn[onnx]`.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model`, or a posterior. A size that may vary
            is in the file that of `check_data`.
        path: Where to write, `.../model.onnx`; the manifest goes to `<path>.json`.
        uncertainty: `"ensemble"`, `"moments"` or `"none"`, as in `tfbnn.export.tflite`.
        storage: `"float32"`, or a `tfbnn.export.Storage` for the standard deviations of moments.
        inputs: What the file takes, a `tfbnn.export.Inputs`.
        check_data: Rows of inputs to compare on; those kept from `fit` by default.
        class_names: Names of the classes, for the manifest.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The manifest.

    Raises:
        ImportError: If tf2onnx, onnx or onnxruntime is not installed.
        TypeError: If the posterior has no such mode; the message says which it has.
        ValueError: If an argument is out of its range.
        RuntimeError: If the written file disagrees with the posterior.
        FileExistsError: If `path` or its manifest exists.
        OSError: If the folder is full or cannot be written to. Nothing is left in it.

    Example:

    `tfbnn.export.onnx(model, "model.onnx", "ensemble")`
    """
    return ship(
        ONNX(), model, path, uncertainty, storage, inputs, check_data, class_names, overwrite
    )


class ONNX(AbstractTarget):
    """An `.onnx` file."""

    name = "onnx"
    modes = (Moments, Ensemble, Mean)
    tolerances = {"float32": 1e-4}
    deviations = ("full", *FORMS)
    input_types = ("float32", "uint8")
    instead = "Use `uncertainty='ensemble'`, whose networks are drawn now."

    def check(self, shipment: Shipment) -> None:
        _packages()

    def write(self, shipment: Shipment, paths: Sequence[pathlib.Path]) -> dict[str, Any]:
        (path,) = paths
        tf2onnx, onnxruntime = _packages()
        specs = shipment.specs(None)
        converted, _ = tf2onnx.convert.from_function(
            shipment.module(specs).serve, input_signature=specs, opset=_OPSET
        )
        path.write_bytes(converted.SerializeToString())
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        agreement = shipment.compare(
            lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))
        )
        return {
            "agreement": vars(agreement),
            "operations": sorted({node.op_type for node in converted.graph.node}),
            "minimum_runtime": f"ONNX opset {_OPSET}",
        }


def _packages() -> tuple[Any, Any]:
    try:
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            f"ONNX files need tf2onnx and onnxruntime: `pip install tfbnn[onnx]`. Received: {error}"
        ) from error
    return tf2onnx, onnxruntime
