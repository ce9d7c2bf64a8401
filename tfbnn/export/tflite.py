"""`tfbnn.export.tflite`: one LiteRT file that answers with a prediction and an uncertainty."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import lite
from tfbnn.export import manifest, verification
from tfbnn.export.answers import answer
from tfbnn.export.files import written_whole
from tfbnn.export.freeze import MeanRule, MonteCarloRule, count_calls, freeze
from tfbnn.layers.scopes import forward_rule
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.variational import posterior_of
from tfbnn.pruning.masks import sparsity_of

# Largest difference to Keras that is accepted, of a mean prediction.
TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "int8": 5e-2}

# Below this sparsity the positions of the weights cost more bytes than the zeros they save.
_WORTH_STORING_SPARSE = 0.5


def tflite(
    model: Any,
    path: str | os.PathLike,
    uncertainty: str = "monte_carlo",
    num_samples: int = 16,
    precision: str = "float32",
    sparse: bool | None = None,
    batch_size: int = 1,
    check_data: Any = None,
    tolerance: float | None = None,
    class_names: list[str] | None = None,
    preprocessing: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a `.tflite` file with two outputs, `prediction` and `uncertainty`.

    Only builtin operations are used. The file is run in LiteRT and compared with the Keras model
    before it takes its place.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model` with one input and one output.
        path: Where to write, `.../model.tflite`; the manifest goes to `<path>.json`.
        uncertainty: `"monte_carlo"`: `num_samples` networks are drawn inside the file, anew at
            each call. `"none"`: the network at the posterior mean; its `uncertainty` is that of
            this one prediction (the entropy of its probabilities, or the noise of the targets).
        num_samples: Number of networks, for `"monte_carlo"`.
        precision: Of the stored weights: `"float32"`, `"float16"`, or `"int8"` (dynamic range).
        sparse: Whether zeros are left out of the file. None: where it pays, that is for float32
            and a sparsity of at least 0.5.
        batch_size: Rows in one call of the file; `tfbnn.lite.Model` takes any number.
        check_data: Rows of inputs to compare on; those kept from `fit` by default.
        tolerance: Largest accepted difference of a mean prediction; `TOLERANCES` by default.
        class_names: Names of the classes, for the manifest.
        preprocessing: What the inputs have gone through, in words, for the manifest.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The manifest.

    Raises:
        ValueError: If an argument is out of its range, the runtime computes the combination
            wrongly, or a layer has no builtin operation.
        RuntimeError: If the written file disagrees with the Keras model.
        FileExistsError: If `path` exists.

    Example:

    >>> import keras, numpy as np, os, tempfile, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.tflite")
    >>> written = tfbnn.export.tflite(model, path, check_data=np.eye(3))
    >>> prediction, uncertainty = tfbnn.lite.Model(path).predict(np.eye(3))
    >>> prediction.shape, uncertainty.shape
    ((3, 2), (3,))
    """
    posterior = posterior_of(model)
    _check_arguments(posterior, uncertainty, num_samples, precision, sparse, batch_size)
    if sparse is None:
        sparse = precision == "float32" and sparsity_of(model) >= _WORTH_STORING_SPARSE
    if uncertainty == "none":
        num_samples = 1
    path = pathlib.Path(path)
    rows = verification.check_rows(posterior, check_data)
    with written_whole(path, overwrite) as temporary:
        graph = _graph(posterior, rows, uncertainty, num_samples, batch_size)
        temporary.write_bytes(_convert(graph, precision, sparse))
        run = lite.Model(temporary).predict
        tolerance = TOLERANCES[precision] if tolerance is None else tolerance
        if uncertainty == "none":
            agreement = verification.verify_mean(posterior, run, rows, tolerance)
        else:
            slack = 0.0 if precision == "float32" else tolerance
            agreement = verification.verify_monte_carlo(posterior, run, rows, num_samples, slack)
        described = manifest.describe(
            posterior,
            temporary,
            format="tflite",
            mode=uncertainty,
            num_samples=num_samples,
            precision=precision,
            stored_sparse=sparse,
            batch_size=batch_size,
            tolerance=tolerance,
            agreement=vars(agreement),
            class_names=class_names,
            preprocessing=preprocessing,
            minimum_runtime=_minimum_runtime(temporary),
        )
        # The manifest goes first: a file without one would be taken for a foreign one.
        with written_whole(manifest.manifest_path(path), True) as description:
            manifest.write(described, description)
    return described


def _graph(
    posterior: AbstractPosterior,
    rows: np.ndarray,
    uncertainty: str,
    num_samples: int,
    batch_size: int,
) -> tf.Module:
    """A module whose `serve` is the graph of the file, all weights constant."""
    frozen = freeze(posterior)
    calls = count_calls(posterior, rows[:1])
    likelihood = posterior.likelihoods[0]
    shape = (batch_size, *rows.shape[1:])
    others = [(v, v.numpy()) for v in posterior.model.weights]

    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        tiled = tf.tile(inputs, [num_samples] + [1] * (len(shape) - 1)) if num_samples > 1 else inputs
        # A rule holds the draws of one graph, so each trace has its own.
        monte_carlo = uncertainty == "monte_carlo"
        rule = MonteCarloRule(frozen, num_samples, calls) if monte_carlo else MeanRule(frozen)
        # The converter drops the names of the outputs if the graph reads variables.
        constants = [(v, tf.constant(value)) for v, value in others]
        with forward_rule(rule), keras.StatelessScope(state_mapping=constants):
            outputs = posterior.model(tiled, training=False)
        grouped = tf.reshape(outputs, (num_samples, batch_size, *outputs.shape[1:]))
        return answer(likelihood, grouped)

    module = tf.Module()
    signature = [tf.TensorSpec(shape, tf.float32, name="inputs")]
    module.serve = tf.function(serve, input_signature=signature, autograph=False)
    return module


def _convert(module: tf.Module, precision: str, sparse: bool) -> bytes:
    graph = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        with _quiet():
            return converter.convert()
    except Exception as error:
        raise ValueError(
            "The model cannot be converted with the builtin operations of LiteRT. Operations named "
            f"by the converter: {_named_operations(str(error))}"
        ) from error


def _check_arguments(
    posterior: AbstractPosterior,
    uncertainty: str,
    num_samples: int,
    precision: str,
    sparse: bool | None,
    batch_size: int,
) -> None:
    if uncertainty not in ("monte_carlo", "none"):
        raise ValueError(
            "`uncertainty` must be 'monte_carlo' or 'none'. "
            f"Received: uncertainty={uncertainty!r}"
        )
    if precision not in TOLERANCES:
        raise ValueError(
            f"`precision` must be one of {sorted(TOLERANCES)}. Received: precision={precision!r}"
        )
    if sparse and precision != "float32":
        raise ValueError(
            "The runtime computes sparse weights of reduced precision wrongly (int8: garbage or a "
            "file that does not load; float16: NaN). Use `sparse=False` or `precision='float32'`. "
            f"Received: sparse={sparse}, precision={precision!r}"
        )
    for name, value in (("num_samples", num_samples), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
    check_one_input_and_output(posterior)


def check_one_input_and_output(posterior: AbstractPosterior) -> None:
    """Raise a `ValueError` if the model does not map one array to one array."""
    shape = posterior.model.input_shape
    if isinstance(shape, dict) or isinstance(shape[0], tuple) or len(posterior.likelihoods) != 1:
        raise ValueError(
            "Only models with one input and one output are exported. "
            f"Received: input_shape={shape}, {len(posterior.likelihoods)} outputs"
        )


def _minimum_runtime(path: pathlib.Path) -> str | None:
    """The oldest runtime that has every operation of the file, as the converter notes in it."""
    for metadata in _flatbuffer_metadata(path):
        if metadata[0] == b"min_runtime_version":
            return metadata[1].rstrip(b"\0").decode()
    return None


def _flatbuffer_metadata(path: pathlib.Path) -> Iterator[tuple[bytes, bytes]]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        yield entry.Name(), model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()


def _named_operations(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if "tf." in line]
    return "; ".join(lines[:3]) or message.splitlines()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the converter's C++ code prints to the standard error stream."""
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
