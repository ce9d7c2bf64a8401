"""`tfbnn.export.tflite`: one LiteRT file that answers with a prediction and an uncertainty."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfbnn import lite
from tfbnn.export import bits, flatbuffer
from tfbnn.export.agreement import Agreement, Answers
from tfbnn.export.bits import UNROUNDED, WIDTHS, Bits
from tfbnn.export.conversion import convert
from tfbnn.export.encoding import can_round, smaller
from tfbnn.export.laws import freeze
from tfbnn.export.modes import Ensemble, Mean, Moments, MonteCarlo
from tfbnn.export.options import Inputs
from tfbnn.export.shipping import AbstractTarget, Shipment, ship
from tfbnn.export.variances import FORMS
from tfbnn.posterior.gaussian import AbstractGaussianPosterior
from tfbnn.pruning.masks import prunable_weights, sparsity_of

# Below this sparsity the positions of the weights cost more bytes than the zeros they save.
_WORTH_STORING_SPARSE = 0.5
_SPARSE_PRECISIONS = ("float32", "float16")


def tflite(
    model: Any,
    path: str | os.PathLike,
    uncertainty: Any = "monte_carlo",
    storage: Any = "float32",
    inputs: Inputs | None = None,
    check_data: Any = None,
    class_names: list[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a `.tflite` file with the outputs `prediction`, `uncertainty` and a part of the latter.

    Only builtin operations are used. The file is run in LiteRT and compared with the posterior
    before it takes its place. It computes in float32, also for a model with mixed precision.

    The third output is `mutual_information` for classes and `epistemic` for numbers: how much
    of the uncertainty is about the weights. With a temperature of the mean (`tfbnn.calibrate`) it
    is of the draws before that, and `expected_entropy` is a fourth. With several outputs, each name
    begins with that of its output: `label_prediction`.

    The noise of a `"monte_carlo"` file cannot be seeded: every interpreter, also of the same
    process, has a stream of its own, so answers do not repeat. The rows of one call share drawn
    kernels where a kernel meets an example more than once (convolutions); elsewhere each has its
    own noise.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model`, or a posterior. A size that may vary,
            as in `keras.Input((None, 3))`, is in the file that of `check_data`, and in the
            manifest.
        path: Where to write, `.../model.tflite`; the manifest goes to `<path>.json`.
        uncertainty: A mode of `tfbnn.export`, or its name. `Moments(64)` or `"moments"`: one pass
            with means and variances, which is fast and repeats; for layers that
            `tfbnn.prediction.moments` can pass. `MonteCarlo(16)` or `"monte_carlo"`: networks are
            drawn inside the file, anew at each call. `Ensemble(8)` or `"ensemble"`: networks are
            drawn now and stored. `Mean()` or `"none"`: the network at the mean; its `uncertainty`
            is that of this one prediction.
        storage: How numbers are stored, a `tfbnn.export.Storage` or the name of a precision:
            `"float32"`, `"float16"`, `"int8"`, `"posterior"`, or, for `"none"` and `"ensemble"`,
            `"full_int8"`.
        inputs: What the file takes, a `tfbnn.export.Inputs`: rows in a call, pixels or real
            numbers, preprocessing.
        check_data: Rows of inputs to compare on, as the file takes them; those kept from `fit` by
            default.
        class_names: Names of the classes, for the manifest.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The manifest.

    Raises:
        TypeError: If the posterior has no such mode; the message says which it has.
        ValueError: If an argument is out of its range, the runtime computes the combination
            wrongly, or a layer has no builtin operation or no moments.
        RuntimeError: If the written file disagrees with the posterior.
        FileExistsError: If `path` or its manifest exists.
        OSError: If the folder is full or cannot be written to. Nothing is left in it.

    Example:

    >>> import keras, numpy as np, os, tempfile, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.tflite")
    >>> written = tfbnn.export.tflite(model, path, "moments", check_data=np.eye(3))
    >>> prediction, uncertainty = tfbnn.lite.Model(path).predict(np.eye(3))
    >>> prediction.shape, uncertainty.shape
    ((3, 2), (3,))
    """
    return ship(
        LiteRT(), model, path, uncertainty, storage, inputs, check_data, class_names, overwrite
    )


class LiteRT(AbstractTarget):
    """A `.tflite` file."""

    name = "tflite"
    modes = (Moments, MonteCarlo, Ensemble, Mean)
    tolerances = {
        "float32": 1e-4,
        "float16": 5e-3,
        "int8": 5e-2,
        "posterior": 1e-1,
        "full_int8": 1e-1,
    }
    deviations = ("full", *FORMS)
    input_types = ("float32", "uint8")

    def check(self, shipment: Shipment) -> None:
        mode, storage = shipment.mode, shipment.storage
        by_laws = isinstance(shipment.posterior, AbstractGaussianPosterior)
        if mode.draws_inside and not by_laws:
            raise TypeError(
                "A `.tflite` file draws weight by weight, from laws that this posterior has not. "
                "Use `uncertainty='ensemble'`, or `tfbnn.export.saved_model`, which draws. "
                f"Received: a posterior of type {type(shipment.posterior).__name__}"
            )
        if storage.sparse and storage.precision not in _SPARSE_PRECISIONS:
            raise ValueError(
                "The runtime cannot load sparse integer weights, or computes garbage from them. "
                "Use `sparse=False`, or `precision='float16'`. "
                f"Received: sparse={storage.sparse}, precision={storage.precision!r}"
            )
        if storage.precision == "full_int8" and mode.has_deviations:
            raise ValueError(
                "Variances do not fit in activations of 8 bits. Use `storage='int8'`, or "
                "`uncertainty='ensemble'` or 'none'. "
                f"Received: precision={storage.precision!r}, uncertainty={mode.name!r}"
            )
        if storage.precision == "posterior" and isinstance(mode, Ensemble):
            raise ValueError(
                "The drawn networks of an ensemble have no standard deviations to round by. "
                f"Use `storage='int8'`. Received: uncertainty={mode.name!r}"
            )
        self._representative(shipment)

    def write(self, shipment: Shipment, paths: Sequence[pathlib.Path]) -> dict[str, Any]:
        (path,) = paths
        module = shipment.module(shipment.specs(shipment.inputs.batch_size))
        converted = convert(module, shipment.storage.precision, self._representative(shipment))
        sparse = _is_sparse(shipment)
        widths, agreement = _written(shipment, path, converted, sparse)
        return {
            "agreement": vars(agreement),
            "batch_size": shipment.inputs.batch_size,
            "bits": {one.full_name: width for one, width in widths.items()},
            "stored_sparse": sparse,
            "memory": flatbuffer.memory(path),
            "operations": flatbuffer.operations(path),
            "minimum_runtime": f"LiteRT (TensorFlow Lite) {flatbuffer.minimum_runtime(path)}",
        }

    def answers(self, path: pathlib.Path, described: dict[str, Any], x: Any) -> Answers:
        return lite.Model(path).outputs(x)

    def _representative(self, shipment: Shipment) -> list[np.ndarray]:
        data, rows = shipment.storage.representative_data, shipment.rows
        if data is not None:
            rows = shipment.signature.rows("representative_data", data)
            shipment.inputs.check("representative_data", rows)
        return [one.astype(shipment.inputs.type) for one in rows]


def _is_sparse(shipment: Shipment) -> bool:
    storage, model = shipment.storage, shipment.posterior.model
    if storage.sparse is not None:
        return storage.sparse
    worth = bool(prunable_weights(model)) and sparsity_of(model) >= _WORTH_STORING_SPARSE
    return worth and storage.precision in _SPARSE_PRECISIONS


def _written(
    shipment: Shipment, path: pathlib.Path, converted: bytes, sparse: bool
) -> tuple[Bits, Agreement]:
    """Write the file, with kernels as narrow as the comparison lets them be; what it found."""
    widths = _needed_bits(shipment, converted)
    halved = shipment.storage.precision in ("float16", "posterior")
    while True:
        rounded = [(_means(shipment, one), b) for one, b in widths.items() if b in WIDTHS]
        path.write_bytes(smaller(converted, sparse, halved, rounded))
        try:
            return widths, shipment.compare(lite.Model(path).outputs)
        except RuntimeError:
            # The rule is about variances; the answers may ask for more.
            if min(widths.values(), default=UNROUNDED) == UNROUNDED:
                raise
            widths = bits.wider(widths)


def _needed_bits(shipment: Shipment, converted: bytes) -> Bits:
    """Bits of each kernel that the file lets us round, from the posterior if that is asked."""
    if shipment.storage.precision != "posterior":
        return {}
    frozen = freeze(shipment.posterior, shipment.deviations)
    needed = bits.needed(shipment.posterior, frozen, shipment.prepared)
    return {
        one: width if can_round(converted, _means(shipment, one)) else UNROUNDED
        for one, width in needed.items()
    }


def _means(shipment: Shipment, one: Any) -> np.ndarray:
    return shipment.posterior.laws()[one.kernel].loc.numpy()
