"""`tfbnn.export.saved_model`: a TensorFlow SavedModel with sparse weights, which needs no tfbnn."""

import errno
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.export import manifest, verification
from tfbnn.export.files import written_whole
from tfbnn.export.freeze import freeze
from tfbnn.export.options import checked_class_names, checked_tolerance, checked_words
from tfbnn.export.sparse import SparseWeight
from tfbnn.layers.precision import in_float32
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.scopes import forward_rule
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.mean_field import mean_field
from tfbnn.prediction.answers import answer
from tfbnn.training.requirements import reason_of
from tfbnn.weights import noise
from tfbnn.weights.tracing import traced

# Float32 sums in another order; the same operations otherwise.
TOLERANCE = 1e-4


def saved_model(
    model: Any,
    path: str | os.PathLike,
    uncertainty: str = "monte_carlo",
    num_samples: int = 32,
    check_data: Any = None,
    tolerance: float | None = None,
    class_names: list[str] | None = None,
    preprocessing: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a SavedModel that plain `tf.saved_model.load` reads where tfbnn is not installed.

    Of each weight tensor only the elements that are not pruned are stored. Signatures:

    * `serving_default(inputs)`: `prediction` and `uncertainty` of the network at the posterior
      mean.
    * `predict_with_uncertainty(inputs)`: the same over `num_samples` drawn networks, other ones at
      each call.

    Both have the further outputs that `tfbnn.export.tflite` has, `mutual_information` or
    `epistemic` and, with a temperature of the mean, `expected_entropy`.

    The loaded object also has `predict(inputs, num_samples, seed)`, whose draws repeat with the
    seed.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model` with one input and one output. A size
            that may vary, as in `keras.Input((None, 3))`, may vary in the file too.
        path: Folder to write; the manifest goes to `<path>.json`.
        uncertainty: `"monte_carlo"`, or `"none"` for the posterior mean alone, in half the bytes.
        num_samples: Number of networks in the signature `predict_with_uncertainty`.
        check_data: Rows of inputs to compare on; those kept from `fit` by default.
        tolerance: Largest accepted difference of a mean prediction, relative to the largest
            prediction if that is above 1; `TOLERANCE` by default.
        class_names: Names of the classes, for the manifest.
        preprocessing: What the inputs have gone through, in words, for the manifest.
        overwrite: Whether an existing folder may be replaced.

    Returns:
        The manifest.

    Raises:
        TypeError: If `model` is another posterior than the mean-field one.
        ValueError: If an argument is out of its range.
        RuntimeError: If the written model disagrees with the Keras model.
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
    posterior = mean_field(model)
    arguments.one_of("uncertainty", uncertainty, ("monte_carlo", "none"))
    num_samples = arguments.count("num_samples", num_samples)
    overwrite, path = arguments.boolean("overwrite", overwrite), arguments.path("path", path)
    class_names = checked_class_names(posterior, class_names)
    preprocessing = checked_words(preprocessing)
    verification.check_model(posterior)
    tolerance = checked_tolerance(
        tolerance, lambda: max(TOLERANCE, verification.keras_tolerance(posterior))
    )
    rows = verification.check_rows(posterior, check_data)
    builder = _Builder(posterior, num_samples, with_uncertainty=uncertainty == "monte_carlo")
    targets = [path, manifest.manifest_path(path)]
    with written_whole(targets, overwrite) as (temporary, description):
        builder.save(temporary)
        agreement = _verify(posterior, temporary, rows, num_samples, tolerance)
        described = manifest.describe(
            posterior,
            temporary,
            verification.input_shape(posterior.model)[1:],
            format="saved_model",
            mode=uncertainty,
            num_samples=num_samples,
            precision="float32",
            stored_sparse=True,
            tolerance=tolerance,
            agreement=agreement,
            class_names=class_names,
            preprocessing=preprocessing,
            minimum_runtime=f"TensorFlow {tf.__version__}",
        )
        manifest.write(described, description)
    return described


class _Builder:
    """Makes the module that is saved: sparse weights, the other layers' variables, functions."""

    def __init__(self, posterior: AbstractPosterior, num_samples: int, with_uncertainty: bool):
        self._posterior = posterior
        self._num_samples = num_samples
        self._stored = {
            one: [
                weight and SparseWeight(weight, with_uncertainty)
                for weight in (frozen.kernel, frozen.bias)
            ]
            for one, frozen in freeze(posterior).items()
        }
        self.module = self._module(with_uncertainty)

    def save(self, path: pathlib.Path) -> None:
        """Write the folder.

        Raises:
            OSError: If it cannot be written.
        """
        try:
            tf.saved_model.save(self.module, str(path), signatures=self._signatures())
        except tf.errors.OpError as error:
            # TensorFlow has errors of its own, which quote the system's.
            codes = (code for code in errno.errorcode if os.strerror(code) in error.message)
            code = next(codes, errno.EIO)
            raise OSError(code, os.strerror(code), str(path)) from error

    def _signatures(self) -> dict[str, Any]:
        """The functions that a server calls by name."""
        functions = {"serving_default": self.module.mean}
        if hasattr(self.module, "predict"):
            functions["predict_with_uncertainty"] = self.module.predict_with_uncertainty
        return functions

    def _module(self, with_uncertainty: bool) -> tf.Module:
        module = tf.Module()
        # A SavedModel wants every variable that a function reads to hang on an attribute.
        module.weights = [w for pair in self._stored.values() for w in pair if w is not None]
        replaced = {id(v) for one in self._stored for v in one.variables}
        others = [v for v in self._posterior.model.variables if id(v) not in replaced]
        module.variables_of_other_layers = [v.value for v in others]

        shape = verification.input_shape(self._posterior.model)
        inputs = tf.TensorSpec(shape, tf.float32, name="inputs")
        scalar = tf.TensorSpec([], tf.int64)
        module.mean = traced(self._mean, input_signature=[inputs])
        if with_uncertainty:
            module.predict = traced(self._predict, input_signature=[inputs, scalar, scalar])
            module.predict_with_uncertainty = traced(
                self._predict_with_uncertainty, input_signature=[inputs]
            )
        return module

    def _mean(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        weights = _map(self._stored, lambda weight: weight.decode().mean())
        return self._answer(self._network(weights, inputs)[tf.newaxis])

    def _predict(
        self, inputs: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        decoded = _map(self._stored, lambda weight: weight.decode())

        def draw(number: tf.Tensor) -> tf.Tensor:
            seeds = iter(noise.split(tf.stack([seed, number]), 2 * len(decoded)))
            return self._network(_map(decoded, lambda w: w.sample(next(seeds))), inputs)

        outputs = tf.map_fn(draw, tf.range(num_samples), fn_output_signature=tf.float32)
        return self._answer(outputs)

    def _predict_with_uncertainty(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        # `tf.random.uniform` would bake in the global seed of the process that exports.
        zero, limit = tf.constant(0, tf.int64), tf.constant(tf.int64.max, tf.int64)
        seed = tf.raw_ops.RandomUniformInt(
            shape=tf.constant([], tf.int32), minval=zero, maxval=limit
        )
        return self._predict(inputs, tf.constant(self._num_samples, tf.int64), seed)

    def _network(self, weights: dict[RandomMap, list[Any]], inputs: tf.Tensor) -> tf.Tensor:
        model = self._posterior.model
        with forward_rule(_FixedRule(weights)), in_float32(model):
            return tf.cast(model(inputs, training=False), tf.float32)

    def _answer(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(self._posterior.likelihoods[0], outputs)


class _FixedRule:
    """A random map with given weights."""

    def __init__(self, weights: dict[RandomMap, list[tf.Tensor | None]]):
        self._weights = weights

    def __call__(self, one: RandomMap, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias = self._weights[one]
        outputs = one.linear_map(inputs, kernel)
        if bias is None:
            return outputs
        return outputs + tf.reshape(bias, one.linear_map.bias_shape(len(outputs.shape)))


def _map(weights: dict[Any, list[Any]], function: Any) -> dict[Any, list[Any]]:
    return {
        one: [None if weight is None else function(weight) for weight in pair]
        for one, pair in weights.items()
    }


def _verify(
    posterior: AbstractPosterior,
    path: pathlib.Path,
    rows: np.ndarray,
    num_samples: int,
    tolerance: float,
) -> dict[str, Any]:
    """Load the folder and compare both signatures with Keras."""
    loaded = tf.saved_model.load(str(path))

    def runner(name: str) -> verification.Run:
        def run(x: np.ndarray) -> list[np.ndarray]:
            try:
                answers = loaded.signatures[name](inputs=tf.constant(x))
            except tf.errors.OpError as error:
                raise ValueError(
                    "The exported graph fails on `check_data`. A layer that needs sizes which are "
                    "not known before the data come, such as `TimeDistributed`, is replaced, or "
                    f"`keras.Input` given all of them. Received: {reason_of(error)} (from "
                    "TensorFlow)"
                ) from error
            return verification.listed(posterior, answers)

        return run

    mean = verification.verify_mean(posterior, runner("serving_default"), rows, tolerance)
    if "predict_with_uncertainty" not in loaded.signatures:
        return vars(mean)
    run = runner("predict_with_uncertainty")
    slack = 0.0 if tolerance <= TOLERANCE else tolerance
    expected = verification.replicated_answers(posterior, rows, num_samples)
    monte_carlo = verification.verify_monte_carlo(expected, run, rows, slack)
    return vars(monte_carlo) | {"max_error": mean.max_error}
