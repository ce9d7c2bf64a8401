"""`tfbnn.export.tflite`: one LiteRT file that answers with a prediction and an uncertainty."""

import os
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import lite
from tfbnn.export import flatbuffer, manifest, verification
from tfbnn.export.answers import answer
from tfbnn.export.conversion import convert
from tfbnn.export.files import written_whole
from tfbnn.export.freeze import MeanRule, MonteCarloRule, count_calls, freeze, in_float32
from tfbnn.layers.scopes import forward_rule
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.variational import posterior_of
from tfbnn.pruning.masks import sparsity_of

# Largest difference to Keras that is accepted, of a mean prediction, by the precision of the
# weights: of probabilities, or of real numbers relative to the largest.
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
    before it takes its place. It computes in float32, also for a model with mixed precision.

    The noise of a Monte Carlo file cannot be seeded: every interpreter, also of the same process,
    has a stream of its own, so answers do not repeat. The rows of one call share drawn kernels
    where a kernel meets an example more than once (convolutions); elsewhere each has its own noise.

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
        tolerance: Largest accepted difference of a mean prediction, relative to the largest
            prediction if that is above 1; that of `precision` in `TOLERANCES` by default.
        class_names: Names of the classes, for the manifest.
        preprocessing: What the inputs have gone through, in words, for the manifest.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The manifest.

    Raises:
        ValueError: If an argument is out of its range, the runtime computes the combination
            wrongly, or a layer has no builtin operation.
        RuntimeError: If the written file disagrees with the Keras model.
        FileExistsError: If `path` or its manifest exists.
        OSError: If the folder is full or cannot be written to. Nothing is left in it.

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
    _check_arguments(uncertainty, num_samples, precision, sparse, batch_size)
    verification.check_model(posterior)
    if sparse is None:
        sparse = precision == "float32" and sparsity_of(model) >= _WORTH_STORING_SPARSE
    if uncertainty == "none":
        num_samples = 1
    if tolerance is None:
        tolerance = max(TOLERANCES[precision], verification.keras_tolerance(posterior))
    path = pathlib.Path(path)
    rows = verification.check_rows(posterior, check_data)
    targets = [path, manifest.manifest_path(path)]
    with written_whole(targets, overwrite) as (temporary, description):
        graph = _graph(posterior, rows, uncertainty, num_samples, batch_size)
        temporary.write_bytes(convert(graph, precision, sparse))
        run = lite.Model(temporary).predict
        if uncertainty == "none":
            agreement = verification.verify_mean(posterior, run, rows, tolerance)
        else:
            exact = tolerance <= TOLERANCES["float32"]
            slack = 0.0 if exact else tolerance
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
            operations=flatbuffer.operations(temporary),
            minimum_runtime=f"LiteRT (TensorFlow Lite) {flatbuffer.minimum_runtime(temporary)}",
        )
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
        tiled = (
            tf.tile(inputs, [num_samples] + [1] * (len(shape) - 1)) if num_samples > 1 else inputs
        )
        # A rule holds the draws of one graph, so each trace has its own.
        monte_carlo = uncertainty == "monte_carlo"
        rule = MonteCarloRule(frozen, num_samples, calls) if monte_carlo else MeanRule(frozen)
        # The converter drops the names of the outputs if the graph reads variables.
        constants = [(v, tf.constant(value)) for v, value in others]
        scope = keras.StatelessScope(state_mapping=constants)
        with forward_rule(rule), scope, in_float32(posterior.model):
            outputs = posterior.model(tiled, training=False)
            grouped = tf.reshape(outputs, (num_samples, batch_size, *outputs.shape[1:]))
            return answer(likelihood, grouped)

    module = tf.Module()
    signature = [tf.TensorSpec(shape, tf.float32, name="inputs")]
    module.serve = tf.function(serve, input_signature=signature, autograph=False)
    return module


def _check_arguments(
    uncertainty: str,
    num_samples: int,
    precision: str,
    sparse: bool | None,
    batch_size: int,
) -> None:
    if uncertainty not in ("monte_carlo", "none"):
        raise ValueError(
            f"`uncertainty` must be 'monte_carlo' or 'none'. Received: uncertainty={uncertainty!r}"
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
