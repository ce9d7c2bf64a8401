"""`tfbnn.export.tflite`: one LiteRT file that answers with a prediction and an uncertainty."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfbnn import arguments, lite
from tfbnn.export import flatbuffer, manifest, verification
from tfbnn.export.bits import UNROUNDED, WIDTHS, Bits, wider
from tfbnn.export.conversion import convert
from tfbnn.export.encoding import can_round, smaller
from tfbnn.export.files import written_whole
from tfbnn.export.graph import MODES, Graph
from tfbnn.export.options import checked_class_names, checked_tolerance, checked_words
from tfbnn.export.variances import FORMS
from tfbnn.layers.keras_internals import all_layers
from tfbnn.layers.steps import steps_of
from tfbnn.posterior.mean_field import mean_field
from tfbnn.prediction import moments
from tfbnn.pruning.masks import sparsity_of

# Largest difference to Keras that is accepted, of a mean prediction, by the precision of the
# weights: of probabilities, or of real numbers relative to the largest.
TOLERANCES = {
    "float32": 1e-4,
    "float16": 5e-3,
    "int8": 5e-2,
    "posterior": 1e-1,
    "full_int8": 1e-1,
}

# Below this sparsity the positions of the weights cost more bytes than the zeros they save.
_WORTH_STORING_SPARSE = 0.5
_SPARSE_PRECISIONS = ("float32", "float16")
_SCALES = ("full", *FORMS)
_INPUT_TYPES = ("float32", "uint8")
# Networks of a file that draws; points at which moments are averaged.
_NUM_SAMPLES = {"moments": 64, "monte_carlo": 16, "ensemble": 8, "none": 1}


def tflite(
    model: Any,
    path: str | os.PathLike,
    uncertainty: str = "monte_carlo",
    num_samples: int | None = None,
    precision: str = "float32",
    sparse: bool | None = None,
    batch_size: int = 1,
    check_data: Any = None,
    tolerance: float | None = None,
    class_names: list[str] | None = None,
    preprocessing: str | Callable | None = None,
    overwrite: bool = False,
    scale: str = "full",
    representative_data: Any = None,
    input_type: str = "float32",
    seed: int = 0,
) -> dict[str, Any]:
    """Write a `.tflite` file with the outputs `prediction`, `uncertainty` and a part of the latter.

    Only builtin operations are used. The file is run in LiteRT and compared with the Keras model
    before it takes its place. It computes in float32, also for a model with mixed precision.

    The third output is `mutual_information` for classes and `epistemic` for real numbers: how much
    of the uncertainty is about the weights. With a temperature of the mean (`tfbnn.calibrate`) it
    is of the draws before that, and `expected_entropy` is a fourth.

    The noise of a `"monte_carlo"` file cannot be seeded: every interpreter, also of the same
    process, has a stream of its own, so answers do not repeat. The rows of one call share drawn
    kernels where a kernel meets an example more than once (convolutions); elsewhere each has its
    own noise.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model` with one input and one output. A size
            that may vary, as in `keras.Input((None, 3))`, is in the file that of `check_data`.
        path: Where to write, `.../model.tflite`; the manifest goes to `<path>.json`.
        uncertainty: `"moments"`: one pass with means and variances, which is fast and repeats;
            for layers that `tfbnn.prediction.moments` can pass. `"monte_carlo"`: `num_samples`
            networks are drawn inside the file, anew at each call. `"ensemble"`: `num_samples`
            networks are drawn now and stored. `"none"`: the network at the posterior mean; its
            `uncertainty` is that of this one prediction (the entropy of its probabilities, or the
            noise of the targets).
        num_samples: Number of networks, 16 for `"monte_carlo"` and 8 for `"ensemble"` by default;
            for `"moments"` the number of fixed points at which the outputs are averaged, 64.
        precision: Of the stored weights: `"float32"`, `"float16"`, `"int8"` (activations stay real
            numbers), `"posterior"` (4, 8 or 16 bits for each kernel, as many as its standard
            deviations ask for; see `tfbnn.export.bits`), or `"full_int8"` (activations too), for
            `"none"` and `"ensemble"`.
        sparse: Whether zeros are left out of the file. None: where it pays and the runtime takes
            it, that is from a sparsity of 0.5 on for float32 and float16.
        batch_size: Rows in one call of the file; `tfbnn.lite.Model` takes any number.
        check_data: Rows of inputs to compare on, as the file takes them; those kept from `fit` by
            default.
        tolerance: Largest accepted difference of a mean prediction, relative to the largest
            prediction if that is above 1; that of `precision` in `TOLERANCES` by default.
        class_names: Names of the classes, for the manifest.
        preprocessing: What the inputs have gone through, in words, for the manifest; or a layer,
            such as `keras.layers.Rescaling(1 / 255)`, which the file then applies by itself.
        overwrite: Whether an existing file may be replaced.
        scale: How standard deviations are stored: `"full"`, one for each weight; `"rank_one"`,
            variances as the product of one number for each input and one for each output;
            `"unit"`, one for each output. See `tfbnn.export.variances`.
        representative_data: Rows of inputs, for `"full_int8"`; `check_data` by default.
        input_type: Type of the file's input, `"float32"` or `"uint8"` (pixels).
        seed: Of the networks of an `"ensemble"`.

    Returns:
        The manifest.

    Raises:
        TypeError: If `model` is another posterior than the mean-field one.
        ValueError: If an argument is out of its range, the runtime computes the combination
            wrongly, or a layer has no builtin operation or no moments.
        RuntimeError: If the written file disagrees with the Keras model.
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
    posterior = mean_field(model)
    _check_choices(uncertainty=uncertainty, precision=precision, scale=scale, input_type=input_type)
    num_samples = _NUM_SAMPLES[uncertainty] if num_samples is None else num_samples
    num_samples = arguments.count("num_samples", num_samples)
    batch_size = arguments.count("batch_size", batch_size)
    sparse = None if sparse is None else arguments.boolean("sparse", sparse)
    seed = arguments.seed("seed", seed, minimum=0)
    overwrite, path = arguments.boolean("overwrite", overwrite), arguments.path("path", path)
    class_names = checked_class_names(posterior, class_names)
    inside = preprocessing if callable(preprocessing) else None
    words = checked_words(preprocessing if inside is None else _in_words(inside))
    _check_combination(uncertainty, num_samples, precision, sparse)
    verification.check_model(posterior)
    if uncertainty == "moments":
        moments.check(steps_of(posterior.model))
    if sparse is None:
        sparse = (
            precision in _SPARSE_PRECISIONS
            and sparsity_of(posterior.model) >= _WORTH_STORING_SPARSE
        )
    tolerance = checked_tolerance(
        tolerance, lambda: max(TOLERANCES[precision], verification.keras_tolerance(posterior))
    )
    rows = verification.check_rows(posterior, check_data, raw=inside is not None)
    verification.check_type("check_data", rows, input_type)
    graph = Graph(
        posterior,
        uncertainty,
        (batch_size, *rows.shape[1:]),
        1 if uncertainty == "none" else num_samples,
        # Networks that are drawn now, or none: no standard deviation is stored.
        scale if uncertainty in ("moments", "monte_carlo") else "full",
        seed,
        input_type,
        inside,
    )
    data = rows
    if representative_data is not None:
        data = verification.checked_rows("representative_data", representative_data, rows.shape[1:])
        verification.check_type("representative_data", data, input_type)
    facts = {
        "tolerance": tolerance,
        "class_names": class_names,
        "preprocessing": words,
    }
    return _write(graph, path, _Storage(precision, sparse, data), rows, overwrite, facts)


@dataclasses.dataclass(frozen=True)
class _Storage:
    """How the numbers of a file are stored."""

    precision: str
    sparse: bool
    representative_data: np.ndarray

    def converted(self, graph: Graph) -> bytes:
        """The file as the converter writes it."""
        return convert(
            graph.module(), self.precision, self.representative_data.astype(graph.input_type)
        )

    def content(self, converted: bytes, bits: Bits) -> bytes:
        """The bytes of the file; `bits` are those of some kernels."""
        widths = [(one.kernel.loc.numpy(), b) for one, b in bits.items() if b in WIDTHS]
        halved = self.precision in ("float16", "posterior")
        return smaller(converted, self.sparse, halved, widths)

    def bits(self, graph: Graph, converted: bytes, rows: np.ndarray) -> Bits:
        """Bits of each kernel that the file lets us round, from the posterior if that is asked."""
        if self.precision != "posterior":
            return {}
        needed = graph.needed_bits(rows)
        return {
            one: bits if can_round(converted, one.kernel.loc.numpy()) else UNROUNDED
            for one, bits in needed.items()
        }


def _write(
    graph: Graph,
    path: pathlib.Path,
    storage: _Storage,
    rows: np.ndarray,
    overwrite: bool,
    facts: dict[str, Any],
) -> dict[str, Any]:
    targets = [path, manifest.manifest_path(path)]
    with written_whole(targets, overwrite) as (temporary, description):
        bits, agreement = _write_agreeing(graph, temporary, storage, rows, facts["tolerance"])
        described = manifest.describe(
            graph.posterior,
            temporary,
            graph.shape[1:],
            **facts,
            format="tflite",
            mode=graph.mode,
            num_samples=graph.num_samples,
            precision=storage.precision,
            bits={one.full_name: b for one, b in bits.items()},
            stored_sparse=storage.sparse,
            scale=graph.scale,
            batch_size=graph.shape[0],
            input_type=graph.input_type,
            agreement=vars(agreement),
            memory=flatbuffer.memory(temporary),
            operations=flatbuffer.operations(temporary),
            minimum_runtime=f"LiteRT (TensorFlow Lite) {flatbuffer.minimum_runtime(temporary)}",
        )
        manifest.write(described, description)
    return described


def _write_agreeing(
    graph: Graph, path: pathlib.Path, storage: _Storage, rows: np.ndarray, tolerance: float
) -> tuple[Bits, verification.Agreement]:
    """Write the file, with kernels as narrow as the check lets them be; what it found."""
    converted = storage.converted(graph)
    _check_no_loops(graph.posterior.model, converted)
    bits = storage.bits(graph, converted, rows)
    while True:
        path.write_bytes(storage.content(converted, bits))
        model = lite.Model(path)
        try:
            return bits, verification.verify(
                graph, functools.partial(_answers, graph, model), rows, tolerance
            )
        except RuntimeError:
            # The rule is about variances; the answers may ask for more.
            if min(bits.values(), default=UNROUNDED) == UNROUNDED:
                raise
            bits = wider(bits)


def _check_no_loops(model: keras.Model, converted: bytes) -> None:
    if flatbuffer.num_graphs(converted) == 1:
        return
    layers = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.RNN)]
    names = [f"{layer.name!r} ({type(layer).__name__})" for layer in layers if not layer.unroll]
    raise ValueError(
        "The model computes in a loop, and a file with one is not written. Build recurrent layers "
        "with `unroll=True`, replace others that repeat themselves, or export with "
        f"`tfbnn.export.saved_model`. Received: the layers {', '.join(names) or 'of the model'}"
    )


def _answers(graph: Graph, model: lite.Model, x: np.ndarray) -> list[np.ndarray]:
    return verification.listed(graph.posterior, model.predict(x).outputs)


def _in_words(preprocessing: Callable) -> str:
    settings = getattr(preprocessing, "get_config", dict)()
    named = {key: value for key, value in settings.items() if key in ("scale", "offset")}
    return f"inside the file: {type(preprocessing).__name__} {named or ''}".strip()


_CHOICES = {
    "uncertainty": MODES,
    "precision": tuple(TOLERANCES),
    "scale": _SCALES,
    "input_type": _INPUT_TYPES,
}


def _check_choices(**chosen: str) -> None:
    for name, value in chosen.items():
        arguments.one_of(name, value, _CHOICES[name])


def _check_combination(
    uncertainty: str, num_samples: int, precision: str, sparse: bool | None
) -> None:
    if sparse and precision not in _SPARSE_PRECISIONS:
        raise ValueError(
            "The runtime cannot load sparse integer weights, or computes garbage from them. Use "
            "`sparse=False`, or `precision='float16'`. "
            f"Received: sparse={sparse}, precision={precision!r}"
        )
    if precision == "full_int8" and uncertainty in ("moments", "monte_carlo"):
        raise ValueError(
            "Variances do not fit in activations of 8 bits. Use `precision='int8'`, or "
            "`uncertainty='ensemble'` or 'none'. "
            f"Received: precision={precision!r}, uncertainty={uncertainty!r}"
        )
    if precision == "posterior" and uncertainty == "ensemble":
        raise ValueError(
            "The drawn networks of an ensemble have no standard deviations to round by. Use "
            f"`precision='int8'`. Received: precision={precision!r}, uncertainty={uncertainty!r}"
        )
    if uncertainty == "moments" and num_samples % 2:
        raise ValueError(
            "`num_samples` must be even for `uncertainty='moments'`: the points come in pairs. "
            f"Received: num_samples={num_samples}"
        )
