"""`tfbnn.export.saved_model`: a TensorFlow SavedModel with sparse weights, which needs no tfbnn."""

import errno
import inspect
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.export import modes
from tfbnn.export.agreement import Answers, Run
from tfbnn.export.laws import FrozenWeight
from tfbnn.export.options import Inputs
from tfbnn.export.rows import of_networks
from tfbnn.export.shipping import AbstractTarget, Shipment, ship
from tfbnn.export.sparse import SparseWeight
from tfbnn.layers.precision import in_float32
from tfbnn.posterior.gaussian import AbstractGaussianPosterior
from tfbnn.requirements import reason_of
from tfbnn.weights import noise
from tfbnn.weights.tracing import traced


def saved_model(
    model: Any,
    path: str | os.PathLike,
    uncertainty: Any = "monte_carlo",
    storage: Any = "float32",
    inputs: Inputs | None = None,
    check_data: Any = None,
    class_names: list[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a SavedModel that plain `tf.saved_model.load` reads where tfbnn is not installed.

    Of each weight tensor with a normal law only the elements that are not pruned are stored.
    Signatures:

    * `serving_default(inputs)`: `prediction` and `uncertainty` of the network at the mean, or of
      all of them where there is no mean.
    * `predict_with_uncertainty(inputs)`: the same over the networks of `uncertainty`.

    Both have the further outputs that `tfbnn.export.tflite` has, `mutual_information` or
    `epistemic` and, with a temperature of the mean, `expected_entropy`; with several inputs or
    outputs, these go by their names.

    With `"monte_carlo"` the loaded object also has `predict(inputs, num_samples, seed)`, whose
    draws repeat with the seed.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model`, or a posterior. A size that may vary,
            as in `keras.Input((None, 3))`, may vary in the file too.
        path: Folder to write; the manifest goes to `<path>.json`.
        uncertainty: As in `tfbnn.export.tflite`; `"none"` is half as large as `"monte_carlo"`.
        storage: `"float32"`, or a `tfbnn.export.Storage` for the tolerance.
        inputs: What the file takes, as in `tfbnn.export.tflite`; any number of rows.
        check_data: Rows of inputs to compare on; those kept from `fit` by default.
        class_names: Names of the classes, for the manifest.
        overwrite: Whether an existing folder may be replaced.

    Returns:
        The manifest.

    Raises:
        TypeError: If the posterior has no such mode; the message says which it has.
        ValueError: If an argument is out of its range.
        RuntimeError: If the written model disagrees with the posterior.
        FileExistsError: If `path` or its manifest exists.
        OSError: If the folder is full or cannot be written to. Nothing is left in it.

    Example:

    >>> import keras, numpy as np, os, tempfile, tensorflow as tf, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> path = os.path.join(tempfile.mkdtemp(), "saved_model")
    >>> written = tfbnn.export.saved_model(model, path, check_data=np.eye(3))
    >>> loaded = tf.saved_model.load(path)
    >>> answer = loaded.signatures["predict_with_uncertainty"](inputs=tf.eye(3))
    >>> sorted(answer)
    ['mutual_information', 'prediction', 'uncertainty']
    """
    target = SavedModel()
    return ship(
        target, model, path, uncertainty, storage, inputs, check_data, class_names, overwrite
    )


class SavedModel(AbstractTarget):
    """A folder that TensorFlow loads."""

    name = "saved_model"
    modes = (modes.Moments, modes.MonteCarlo, modes.Ensemble, modes.Mean)
    # Float32 sums in another order; the same operations otherwise.
    tolerances = {"float32": 1e-4}
    input_types = ("float32", "uint8")

    def write(self, shipment: Shipment, paths: Sequence[pathlib.Path]) -> dict[str, Any]:
        (path,) = paths
        _save(_Builder(shipment), path)
        loaded = tf.saved_model.load(str(path))
        agreement = shipment.compare(_runner(loaded, _LAST, shipment))
        found = vars(agreement)
        if _LAST in loaded.signatures and shipment.posterior.mean() is not None:
            mean = modes.Mean().compare(shipment, _runner(loaded, _DEFAULT, shipment))
            found = {**found, "max_error": mean.max_error}
        return {
            "agreement": found,
            "stored_sparse": True,
            "minimum_runtime": f"TensorFlow {tf.__version__}",
        }


_DEFAULT, _LAST = "serving_default", "predict_with_uncertainty"


class _Builder:
    """Makes the module that is saved: its numbers are variables, which all functions share."""

    def __init__(self, shipment: Shipment):
        self._shipment = shipment
        self._posterior = shipment.posterior
        self.module = tf.Module()
        # A SavedModel wants every variable that a function reads to hang on an attribute.
        self.module.held = []
        self._weights: list[SparseWeight] = []
        replaced: set[int] = set()
        if isinstance(self._posterior, AbstractGaussianPosterior):
            laws = self._posterior.laws()
            for weight in self._posterior.weights:
                frozen = FrozenWeight(*laws[weight]).in_numpy()
                self._weights.append(SparseWeight(frozen, shipment.mode.draws_inside))
                replaced |= {id(variable) for variable in weight.variables}
        self.module.weights = self._weights
        self.signatures = self._functions()
        variables = (v for model in shipment.models for v in model.variables)
        self.module.variables_of_models = [v.value for v in variables if id(v) not in replaced]

    def _functions(self) -> dict[str, Any]:
        """The functions that a server calls by name."""
        mode, functions = self._shipment.mode, {}
        if self._posterior.mean() is not None:
            functions[_DEFAULT] = self.module.mean = self._traced(self._mean())
        if mode.draws_inside:
            scalars = (tf.TensorSpec([], tf.int64, name) for name in ("num_samples", "seed"))
            self.module.predict = self._traced(self._draw, *scalars)
            functions[_LAST] = self._traced(self._draw_anew)
        elif not mode.is_at_mean:
            functions[_LAST] = self._traced(mode.computation(self._shipment, self._hold))
        return {_DEFAULT: functions.get(_LAST), **functions}

    def _traced(self, compute: Callable[..., Any], *others: tf.TensorSpec) -> Any:
        """A function of the inputs, by name, and of others that gives the answers."""
        shipment = self._shipment
        pairs = zip(shipment.signature.inputs, shipment.signature.shapes, strict=True)
        specs = [tf.TensorSpec(s, shipment.inputs.type, name=name) for name, s in pairs]

        def serve(*given: tf.Tensor) -> dict[str, tf.Tensor]:
            inputs, rest = given[: len(specs)], given[len(specs) :]
            inputs = shipment.signature.packed(shipment.inputs.prepared(inputs))
            with in_float32(*shipment.models):
                return shipment.signature.answer(compute(inputs, *rest))

        # What is loaded takes its arguments by name.
        inputs = ["inputs"] if len(specs) == 1 else [f"inputs_{n}" for n in range(len(specs))]
        names, kind = inputs + [one.name for one in others], inspect.Parameter.POSITIONAL_OR_KEYWORD
        serve.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
        return traced(serve, input_signature=[*specs, *others])

    def _hold(self, array: np.ndarray) -> tf.Variable:
        self.module.held.append(tf.Variable(array, trainable=False))
        return self.module.held[-1]

    def _mean(self) -> Callable[[Any], Any]:
        if not self._weights:
            return modes.Mean().computation(self._shipment, self._hold)

        def mean(inputs: Any) -> Any:
            values = [weight.decode().mean() for weight in self._weights]
            return of_networks([self._posterior.network(values, inputs)])

        return mean

    def _draw(self, inputs: Any, num_samples: tf.Tensor, seed: tf.Tensor) -> Any:
        """Outputs of networks that the seed gives."""
        decoded = [weight.decode() for weight in self._weights]

        def network(number: tf.Tensor) -> list[tf.Tensor]:
            one = tf.stack([seed, number])
            if not decoded:
                values = self._posterior.draw(one)
            else:
                seeds = noise.split(one, len(decoded))
                values = [w.sample(s) for w, s in zip(decoded, seeds, strict=True)]
            outputs = tf.nest.flatten(self._posterior.network(values, inputs))
            return [tf.cast(output, tf.float32) for output in outputs]

        types = [tf.float32] * len(self._posterior.likelihoods)
        return tf.map_fn(network, tf.range(num_samples), fn_output_signature=types)

    def _draw_anew(self, inputs: Any) -> Any:
        # `tf.random.uniform` would bake in the global seed of the process that exports.
        zero, limit = tf.constant(0, tf.int64), tf.constant(tf.int64.max, tf.int64)
        seed = tf.raw_ops.RandomUniformInt(
            shape=tf.constant([], tf.int32), minval=zero, maxval=limit
        )
        return self._draw(inputs, tf.constant(self._shipment.mode.num_samples, tf.int64), seed)


def _save(builder: _Builder, path: pathlib.Path) -> None:
    """Write the folder, or raise an `OSError`."""
    try:
        tf.saved_model.save(builder.module, str(path), signatures=builder.signatures)
    except tf.errors.OpError as error:
        # TensorFlow has errors of its own, which quote the system's.
        codes = (code for code in errno.errorcode if os.strerror(code) in error.message)
        code = next(codes, errno.EIO)
        raise OSError(code, os.strerror(code), str(path)) from error


def _runner(loaded: Any, name: str, shipment: Shipment) -> Run:
    function = loaded.signatures[name if name in loaded.signatures else _DEFAULT]

    def run(rows: Sequence[np.ndarray]) -> Answers:
        typed = [tf.constant(one.astype(shipment.inputs.type)) for one in rows]
        named = dict(zip(shipment.signature.inputs, typed, strict=True))
        try:
            return {key: value.numpy() for key, value in function(**named).items()}
        except tf.errors.OpError as error:
            raise ValueError(
                "The exported graph fails on `check_data`. A layer that needs sizes which are "
                "not known before the data come, such as `TimeDistributed`, is replaced, or "
                f"`keras.Input` given all of them. Received: {reason_of(error)} (from "
                "TensorFlow)"
            ) from error

    return run
