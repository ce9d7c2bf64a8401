"""The `.tflite` file against the Keras model, and against the closed form of its noise."""

import errno
import functools
import json
import os
import sys

import ai_edge_litert.interpreter as litert
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

import tfbnn
from tests.export import flat
from tests.quiet import QUIET
from tfbnn.export import laws, modes

SCALE = 0.3
LAYERS = tfbnn.layers
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
tflite_module = sys.modules["tfbnn.export.tflite"]


def family():
    return tfbnn.families.Normal(SCALE)


def dense(units, **options):
    return LAYERS.DenseFlipout(units, kernel_posterior=family(), **options)


def convolution(rank, *arguments, **options):
    layer = getattr(LAYERS, f"Convolution{rank}DReparameterization")
    return layer(*arguments, kernel_posterior=family(), **options)


def sequential(shape, *layers, loss=LOGITS):
    model = tfbnn.Sequential([keras.Input(shape), *layers])
    model.compile(loss=loss)
    return randomised(model)


def randomised(model, seed=0):
    """Every variable away from its start: biases, moving averages, standard deviations."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        noise = rng.normal(size=variable.shape) * 0.2
        variable.assign(variable + (np.abs(noise) if "variance" in variable.path else noise))
    return model


def residual():
    inputs = keras.Input((8, 8, 2))
    x = convolution(2, 4, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    y = convolution(2, 4, 3, padding="same", bias_posterior="normal")(x)
    x = keras.layers.MaxPooling2D()(keras.layers.Add()([x, y]))
    x = dense(3)(keras.layers.Dropout(0.5)(keras.layers.Flatten()(x)))
    model = tfbnn.Model(inputs, x)
    model.compile(loss=LOGITS)
    return randomised(model)


def shared():
    inputs = keras.Input((4,))
    layer = dense(4, activation="tanh")
    model = tfbnn.Model(inputs, dense(3)(layer(layer(inputs))))
    model.compile(loss=LOGITS)
    return randomised(model)


def tempered():
    model = sequential((5,), dense(3))
    model.likelihood.temperature = 2.5
    return model


def tempered_mean(loss=LOGITS, units=3):
    model = sequential((5,), dense(units), loss=loss)
    model.likelihood.mean_temperature = 0.6
    return model


def mixed():
    keras.config.set_dtype_policy("mixed_float16")
    model = sequential(
        (5,), dense(8, activation="relu"), keras.layers.LayerNormalization(), dense(3)
    )
    keras.config.set_dtype_policy("float32")
    return model


class Subclassed(tfbnn.Model):
    def __init__(self):
        super().__init__()
        self.first = dense(8, activation="relu")
        self.second = dense(3)

    def call(self, inputs, training=None):
        return self.second(self.first(inputs, training=training), training=training)


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 5), np.float32))
    model.compile(loss=LOGITS)
    return randomised(model)


def flatten():
    return keras.layers.Flatten()


NLL = tfbnn.losses.NormalNLL
PROBABILITIES = keras.losses.CategoricalCrossentropy(from_logits=False)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)
MODELS = {
    "dense": ((5,), lambda: sequential((5,), dense(8, activation="relu"), dense(3))),
    "normal bias": ((5,), lambda: sequential((5,), dense(3, bias_posterior="normal"))),
    "point bias": ((5,), lambda: sequential((5,), dense(3, bias_posterior="point"))),
    "no bias": ((5,), lambda: sequential((5,), dense(3, use_bias=False))),
    "causal": (
        (9, 2),
        lambda: sequential(
            (9, 2), convolution(1, 4, 3, padding="causal", dilation_rate=2), flatten(), dense(3)
        ),
    ),
    "strides": (
        (8, 8, 2),
        lambda: sequential(
            (8, 8, 2), convolution(2, 4, 3, strides=2, padding="same"), flatten(), dense(3)
        ),
    ),
    "dilation": (
        (8, 8, 2),
        lambda: sequential(
            (8, 8, 2), convolution(2, 4, 3, dilation_rate=2), flatten(), dense(3)
        ),
    ),
    "3D": (
        (4, 4, 4, 2),
        lambda: sequential(
            (4, 4, 4, 2), convolution(3, 4, 2, strides=2, padding="same"), flatten(), dense(3)
        ),
    ),
    "residual": ((8, 8, 2), residual),
    "shared": ((4,), shared),
    "sequence": ((6, 3), lambda: sequential((6, 3), dense(4, activation="relu"), dense(2))),
    "binary": ((5,), lambda: sequential((5,), dense(1), loss=BINARY)),
    "temperature": ((5,), tempered),
    "temperature of the mean": ((5,), tempered_mean),
    "binary, temperature of the mean": ((5,), lambda: tempered_mean(BINARY, 1)),
    "probabilities": (
        (5,), lambda: sequential((5,), dense(3, activation="softmax"), loss=PROBABILITIES)
    ),
    "fixed scale": ((5,), lambda: sequential((5,), dense(2), loss=NLL(scale=0.1))),
    "learned scale": ((5,), lambda: sequential((5,), dense(2), loss=NLL("learned"))),
    "predicted scale": ((5,), lambda: sequential((5,), dense(4), loss=NLL("head"))),
    "subclassed": ((5,), subclassed),
}  # fmt: skip


@functools.cache
def model_of(name):
    """One of `MODELS`, made once for all tests that leave it as it is."""
    keras.utils.set_random_seed(0)
    return MODELS[name][1]()


def inputs_of(shape, rows=1000):
    return np.random.default_rng(1).normal(size=(rows, *shape)).astype(np.float32)


def expected_answer(model, x):
    """The pair at the posterior mean, in NumPy and float64."""
    outputs = np.asarray(model(x), np.float64)
    likelihood = model.likelihood
    if likelihood.name == "normal":
        loss = likelihood.loss
        if loss.scale == "head":
            loc, rho = np.split(outputs, 2, axis=-1)
            return loc, loss.unit().numpy() * (np.log1p(np.exp(rho)) + 1e-6)
        scale = loss.scale
        if scale == "learned":
            scale = loss.unit().numpy() * np.log1p(np.exp(loss.rho_variable))
        return outputs, np.broadcast_to(scale, outputs.shape)
    # Of one network the two temperatures are one.
    outputs /= likelihood.temperature * likelihood.mean_temperature
    if likelihood.name == "bernoulli":
        p = 1 / (1 + np.exp(-outputs))
        return p, -(p * np.log(p) + (1 - p) * np.log(1 - p))[..., 0]
    p = np.exp(outputs - outputs.max(-1, keepdims=True)) if likelihood.from_logits else outputs
    p /= p.sum(-1, keepdims=True)
    return p, -(p * np.log(p)).sum(-1)


def draws_of(path, x, count):
    """Predictions of `count` calls for one row, `(count, outputs)`."""
    model = tfbnn.lite.Model(path)
    return np.stack([model.predict(x)[0].ravel() for _ in range(count)]).astype(np.float64)


@pytest.mark.parametrize("name", MODELS)
def test_mean_file_answers_as_keras_does(name, tmp_path):
    model, x = model_of(name), inputs_of(MODELS[name][0])
    flat.tflite(model, tmp_path / "m.tflite", uncertainty="none", check_data=x)
    prediction, uncertainty = tfbnn.lite.Model(tmp_path / "m.tflite").predict(x)
    expected = expected_answer(model, x)
    np.testing.assert_allclose(prediction, expected[0], atol=1e-4)
    np.testing.assert_allclose(uncertainty, expected[1], atol=1e-4)


def test_mixed_precision_model_is_exported_in_float32(tmp_path):
    model, x = mixed(), inputs_of((5,))
    policies = [layer.dtype_policy.name for layer in model.layers]
    manifest = flat.tflite(model, tmp_path / "m.tflite", uncertainty="none", check_data=x)
    assert [layer.dtype_policy.name for layer in model.layers] == policies
    assert manifest["tolerance"] == 5e-3
    prediction, _ = tfbnn.lite.Model(tmp_path / "m.tflite").predict(x)
    np.testing.assert_allclose(prediction, expected_answer(model, x)[0], atol=5e-3)
    assert "CAST" not in manifest["operations"]
    flat.tflite(model, tmp_path / "mc.tflite", num_samples=4, check_data=x)


@pytest.mark.parametrize("rank", [1, 2])
def test_grouped_convolutions_convert(rank, tmp_path):
    shape = (6,) * rank + (4,)
    model = sequential(shape, convolution(rank, 4, 2, groups=2), flatten(), dense(3))
    x = inputs_of(shape)
    for uncertainty in ("none", "monte_carlo"):
        path = tmp_path / f"{uncertainty}.tflite"
        flat.tflite(model, path, uncertainty=uncertainty, num_samples=2, check_data=x)
    found = tfbnn.lite.Model(tmp_path / "none.tflite").predict(x)[0]
    np.testing.assert_allclose(found, keras.ops.softmax(model(x)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("option", [{"groups": 2}, {"dilation_rate": 2}])
def test_what_has_no_builtin_operation_is_named(option, tmp_path):
    model = sequential((6, 6, 6, 4), convolution(3, 4, 2, **option), flatten(), loss=NLL(1.0))
    with pytest.raises(ValueError, match="cannot be converted with the builtin operations.*tf\\."):
        flat.tflite(model, tmp_path / "m.tflite", check_data=inputs_of((6, 6, 6, 4), 4))
    assert not list(tmp_path.iterdir())


class Exponential(keras.layers.Layer):
    def call(self, inputs):
        return tf.linalg.expm(inputs[:, :, None] * inputs[:, None, :])[:, 0]


def test_layer_that_does_not_convert_is_an_error(tmp_path, capfd):
    model = sequential((3,), Exponential(), dense(2))
    with pytest.raises(ValueError, match="Received: .*MatrixSolve.*from the converter"):
        flat.tflite(model, tmp_path / "m.tflite", check_data=inputs_of((3,), 4))
    assert not list(tmp_path.iterdir())
    captured = capfd.readouterr()
    assert "MatrixSolve" not in captured.out + captured.err


def test_a_reader_finds_what_a_killed_export_has_not_put_in_place(tmp_path, monkeypatch):
    x, path, replace = inputs_of((5,), 8), tmp_path / "m.tflite", os.replace
    options = {"check_data": x, "overwrite": True}
    flat.tflite(model_of("dense"), path, "none", **options)

    def refuse(source, target):
        if str(target).endswith(".json"):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="will be put in place by the next export"):
            flat.tflite(model_of("dense"), path, "moments", **options)
    assert json.loads((tmp_path / "m.tflite.json").read_text())["mode"] == "none"
    assert tfbnn.lite.Model(path).manifest["mode"] == "moments"
    with pytest.raises(FileExistsError):
        flat.tflite(model_of("dense"), path, "none", check_data=x)
    assert json.loads((tmp_path / "m.tflite.json").read_text())["mode"] == "moments"
    assert {file.name for file in tmp_path.iterdir()} == {"m.tflite", "m.tflite.json"}


# Layers that repeat themselves.

RECURRENT = {
    "LSTM": lambda **o: keras.layers.LSTM(3, **o),
    "GRU": lambda **o: keras.layers.Bidirectional(keras.layers.GRU(3, **o)),
    "cells": lambda **o: keras.layers.RNN(
        [keras.layers.LSTMCell(3), keras.layers.SimpleRNNCell(2)], **o
    ),
}


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_loop_is_written_and_what_it_is_unrolled_to(name, unroll, tmp_path):
    x, path = inputs_of((4, 2), 64), tmp_path / "m.tflite"
    model = sequential((4, 2), RECURRENT[name](unroll=unroll), dense(3))
    flat.tflite(model, path, "none", check_data=x)
    prediction, _ = tfbnn.lite.Model(path).predict(x)
    np.testing.assert_allclose(prediction, expected_answer(model, x)[0], atol=1e-4)


# Sizes that vary.


def test_the_manifest_has_the_sizes_of_the_file(tmp_path):
    pooling = keras.layers.GlobalMaxPooling1D()
    model = sequential((None, 2), convolution(1, 4, 2), pooling, dense(3))
    path, x = tmp_path / "m.tflite", inputs_of((7, 2), 8)
    manifest = flat.tflite(model, path, "none", check_data=x)
    assert manifest["input_shape"] == [None, 7, 2]
    runtime = tfbnn.lite.Model(path)
    assert runtime.input_shape[1:] == (7, 2)
    np.testing.assert_allclose(runtime.predict(x)[0], expected_answer(model, x)[0], atol=1e-4)
    with pytest.raises(ValueError, match=r"\(rows, 7, 2\): all sizes.*fixed.*x.shape=\(8, 5, 2\)"):
        runtime.predict(x[:, :5])


# The noise.

COUNT = 3000
# Standard errors; at about 200 comparisons in this file, 5 is passed by chance in 1e-4 of runs.
K = 5

MAPS = {
    "dense": ((5,), lambda: dense(3, bias_posterior="normal")),
    "dense, point bias": ((5,), lambda: dense(3, bias_posterior="point")),
    "dense on a sequence": ((4, 3), lambda: dense(2, bias_posterior="normal")),
    "1D": ((6, 2), lambda: convolution(1, 2, 3, padding="causal", bias_posterior="normal")),
    "2D": ((4, 4, 2), lambda: convolution(2, 2, 3, strides=2, padding="same")),
    "3D": ((3, 3, 3, 1), lambda: convolution(3, 2, 2, bias_posterior="normal")),
}


def closed_form(layer, x):
    """Mean and covariance of the outputs: they are linear in the weights."""
    kernel = layer.kernel.loc.numpy()
    basis = np.eye(kernel.size, dtype=np.float32).reshape(-1, *kernel.shape)
    jacobian = np.stack([layer.linear_map(x, e).numpy().ravel() for e in basis], axis=1)
    covariance = (jacobian * layer.kernel.scale.numpy().ravel() ** 2) @ jacobian.T
    if layer.bias.is_random:
        rows = len(covariance) // layer.bias.size
        same = np.tile(np.eye(layer.bias.size), (rows, rows))
        covariance += same * np.tile(layer.bias.scale.numpy() ** 2, rows)
    return layer(x).numpy().ravel(), covariance


def assert_moments(draws, mean, covariance):
    count = len(draws)
    variance = np.diag(covariance)
    assert np.all(np.abs(draws.mean(0) - mean) < K * np.sqrt(variance / count))
    error = np.abs(np.cov(draws.T) - covariance)
    assert np.all(error < K * np.sqrt((np.outer(variance, variance) + covariance**2) / count))


@pytest.mark.parametrize(
    "name, num_samples", [(name, 1) for name in MAPS] + [("dense", 3), ("1D", 3)]
)
def test_covariance_of_the_outputs_of_each_map(name, num_samples, tmp_path):
    shape, make = MAPS[name]
    layer = make()
    model = sequential(shape, layer, loss=NLL(0.1))
    path = tmp_path / "m.tflite"
    x = inputs_of(shape, 20)
    flat.tflite(model, path, num_samples=num_samples, check_data=x)
    draws = draws_of(path, x[:1], COUNT)
    mean, covariance = closed_form(layer, x[:1])
    assert_moments(draws, mean, covariance / num_samples)


@pytest.mark.parametrize("random", [(True, False), (False, True), (True, True)])
def test_each_layer_of_a_deep_model_is_random(random, tmp_path):
    layers = dense(6), dense(2)
    model = sequential((4,), *layers, loss=NLL(0.1))
    for layer, noisy in zip(layers, random, strict=True):
        for weight in layer.variational_weights if not noisy else ():
            weight.rho_variable.assign(np.full(weight.shape, -30.0))
    x = inputs_of((4,), 20)
    flat.tflite(model, tmp_path / "m.tflite", num_samples=1, check_data=x)
    draws = draws_of(tmp_path / "m.tflite", x[:1], COUNT)
    mean, covariance = closed_form(layers[0], x[:1])
    # Var(sum_i h_i w_i) = sum_i E[h_i]**2 s_i**2 + Var(h_i) (m_i**2 + s_i**2), units independent,
    # and that of the bias.
    m, s = layers[1].kernel.loc.numpy(), layers[1].kernel.scale.numpy()
    v = np.diag(covariance)[:, None]
    expected = (mean[:, None] ** 2 * s**2 + v * (m**2 + s**2)).sum(0)
    expected += layers[1].bias.scale.numpy() ** 2
    # Products of normals have heavier tails than normals: the standard error from the draws.
    squares = (draws - draws.mean(0)) ** 2
    standard_error = squares.std(0) / np.sqrt(COUNT)
    assert np.all(np.abs(squares.mean(0) - expected) < K * standard_error)


def test_shared_layer_draws_one_kernel(tmp_path):
    inputs = keras.Input((3,))
    layer = dense(2, use_bias=False)
    outputs = keras.layers.Concatenate()([layer(inputs), layer(2.0 * inputs)])
    model = tfbnn.Model(inputs, outputs)
    model.compile(loss=NLL(0.1))
    path, x = tmp_path / "m.tflite", inputs_of((3,), 8)
    flat.tflite(model, path, num_samples=1, check_data=x)
    draws = draws_of(path, x[:1], 20)
    np.testing.assert_allclose(draws[:, 2:], 2 * draws[:, :2], rtol=1e-5, atol=1e-6)
    assert draws[:, 0].std() > 0.1


def test_calls_layers_and_interpreters_have_separate_noise(tmp_path):
    tf.random.set_seed(1)  # A seed of the exporting process must not be baked in.
    inputs = keras.Input((3,))
    outputs = keras.layers.Concatenate()([dense(2)(inputs), dense(2)(inputs)])
    model = tfbnn.Model(inputs, outputs)
    model.compile(loss=NLL(0.1))
    path, x = tmp_path / "m.tflite", inputs_of((3,), 8)
    flat.tflite(model, path, num_samples=1, check_data=x)
    draws, others = draws_of(path, x[:1], 500), draws_of(path, x[:1], 500)
    assert len(np.unique(draws[:, 0])) == 500
    assert not set(draws[:, 0]) & set(others[:, 0])
    correlation = np.corrcoef(draws.T) - np.eye(4)
    assert np.abs(correlation).max() < K / np.sqrt(500)


def test_zscores_of_entropies(tmp_path):
    model, x = model_of("dense"), inputs_of((5,), 300)
    num_samples, groups = 8, 64
    path = tmp_path / "m.tflite"
    flat.tflite(model, path, num_samples=num_samples, check_data=x)
    entropy = tfbnn.lite.Model(path).predict(x)[1]
    keras_entropies = np.stack(
        [tfbnn.predict(model, x, num_samples, seed=seed).uncertainty for seed in range(groups)]
    )
    spread = keras_entropies.std(0, ddof=1) * np.sqrt(1 + 1 / groups)
    z = (entropy - keras_entropies.mean(0)) / spread
    # The rows are independent in the file; in Keras they share networks, hence the `1 / groups`.
    assert abs(z.mean()) < 4 * np.sqrt(1 / len(z) + 1 / groups)
    expected_square = (groups - 1) / (groups - 3)  # Of Student's t with `groups - 1` degrees.
    standard_error = np.sqrt((z**2).var() / len(z) + 2 / groups)
    assert abs((z**2).mean() - expected_square) < 4 * standard_error


# What is in the file.


def operations_of(path):
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    assert not any(code.CustomCode() for code in codes)
    return {max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes}


def test_builtin_operations_and_signature(tmp_path):
    path = tmp_path / "m.tflite"
    manifest = flat.tflite(
        model_of("residual"), path, num_samples=2, check_data=inputs_of((8, 8, 2), 4)
    )
    codes = operations_of(path)
    assert schema.BuiltinOperator.CUSTOM not in codes
    names = {getattr(schema.BuiltinOperator, name) for name in manifest["operations"]}
    assert names == codes
    assert schema.BuiltinOperator.RANDOM_STANDARD_NORMAL in codes
    signatures = litert.Interpreter(str(path)).get_signature_list()
    outputs = ["mutual_information", "prediction", "uncertainty"]
    assert signatures == {"serving_default": {"inputs": ["inputs"], "outputs": outputs}}


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("name", ["dense", "residual", "learned scale"])
def test_reduced_precision_is_within_its_tolerance(name, precision, tmp_path):
    model, x = model_of(name), inputs_of(MODELS[name][0])
    path = tmp_path / "m.tflite"
    flat.tflite(model, path, uncertainty="none", precision=precision, check_data=x)
    prediction, _ = tfbnn.lite.Model(path).predict(x)
    expected, _ = expected_answer(model, x)
    error = np.abs(prediction - expected).max() / max(1.0, np.abs(expected).max())
    assert error <= tflite_module.LiteRT.tolerances[precision]
    flat.tflite(model, path, num_samples=4, precision=precision, check_data=x, overwrite=True)


@pytest.mark.parametrize("precision", ["int8", "full_int8"])
def test_sparse_weights_of_eight_bits_are_refused(precision, tmp_path):
    model = model_of("dense")
    options = {"uncertainty": "none", "sparse": True, "check_data": inputs_of((5,), 4)}
    with pytest.raises(ValueError, match=f"garbage.*sparse=True, precision='{precision}'"):
        flat.tflite(model, tmp_path / "m.tflite", precision=precision, **options)


@pytest.fixture(scope="module")
def wide():
    return sequential((64,), dense(128, activation="relu"), dense(10))


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95, 0.98])
def test_sparse_files_are_smaller_and_exact(sparsity, wide, tmp_path):
    model, x = tfbnn.prune(wide, sparsity=sparsity), inputs_of((64,), 300)
    sizes, answers = [], []
    for sparse in (False, True):
        path = tmp_path / f"{sparse}.tflite"
        manifest = flat.tflite(model, path, uncertainty="none", sparse=sparse, check_data=x)
        assert manifest["sparsity"] == pytest.approx(sparsity, abs=1e-3)
        sizes.append(manifest["bytes"])
        answers.append(tfbnn.lite.Model(path).predict(x))
    assert sizes[1] < (1.1 - sparsity) * sizes[0] + 6000
    for dense_answer, sparse_answer in zip(*answers, strict=True):
        np.testing.assert_allclose(sparse_answer, dense_answer, atol=1e-6)


def test_sparse_is_the_default_where_it_pays(wide, tmp_path):
    x = inputs_of((64,), 8)

    def stored_sparse(sparsity, **options):
        model = tfbnn.prune(wide, sparsity=sparsity)
        path = tmp_path / "m.tflite"
        return flat.tflite(
            model, path, uncertainty="none", check_data=x, overwrite=True, **options
        )["stored_sparse"]

    assert stored_sparse(0.9)
    assert not stored_sparse(0.2)
    assert not stored_sparse(0.9, precision="int8")


@pytest.mark.parametrize("options", [{"sparse": True}, {"sparse": False}, {"precision": "int8"}])
def test_delegates_agree(options, wide, tmp_path):
    model, x = tfbnn.prune(wide, sparsity=0.9), inputs_of((64,), 50)
    path = tmp_path / "m.tflite"
    flat.tflite(model, path, uncertainty="none", check_data=x, **options)
    plain = litert.Interpreter(
        str(path),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    ).get_signature_runner("serving_default")
    answers = np.concatenate([plain(inputs=row[None])["prediction"] for row in x])
    # Two int8 kernels round the inputs in their own ways.
    atol = 1e-2 if "precision" in options else 1e-5
    np.testing.assert_allclose(answers, tfbnn.lite.Model(path).predict(x)[0], atol=atol)


def test_batch_size(tmp_path):
    model, x = model_of("residual"), inputs_of((8, 8, 2), 10)
    path = tmp_path / "m.tflite"
    flat.tflite(model, path, uncertainty="none", batch_size=4, check_data=x)
    runtime = tfbnn.lite.Model(path)
    assert runtime.input_shape == (4, 8, 8, 2)
    np.testing.assert_allclose(runtime.predict(x)[0], expected_answer(model, x)[0], atol=1e-4)
    path = tmp_path / "mc.tflite"
    flat.tflite(model, path, num_samples=3, batch_size=4, check_data=x)
    assert tfbnn.lite.Model(path).predict(x)[1].shape == (10,)


def test_manifest(tmp_path):
    prior = tfbnn.priors.ScaleMixture(pi=0.5, sigma1=1.0, sigma2=0.01)
    layer = LAYERS.DenseFlipout(
        3, kernel_prior=prior, bias_prior="laplace", bias_posterior="normal"
    )
    model = tfbnn.Sequential([keras.Input((4,)), layer])
    model.compile(loss=LOGITS)
    x = inputs_of((4,), 20)
    model.fit(x, np.arange(20) % 3, verbose=0)
    path = tmp_path / "m.tflite"
    returned = flat.tflite(
        tfbnn.prune(model, sparsity=0.5),
        path,
        check_data=x,
        class_names=["a", "b", "c"],
        preprocessing="divided by 126",
    )
    manifest = json.loads((tmp_path / "m.tflite.json").read_text())
    assert manifest == json.loads(json.dumps(returned))
    assert manifest["format"] == "tflite" and manifest["mode"] == "monte_carlo"
    assert manifest["num_samples"] == 16 and manifest["batch_size"] == 1
    assert manifest["class_names"] == ["a", "b", "c"]
    assert manifest["preprocessing"] == "divided by 126"
    assert manifest["likelihood"]["kind"] == "categorical"
    assert manifest["prediction"] == "mean probability of each class"
    assert manifest["uncertainty"] == "predictive entropy, nats"
    assert manifest["num_examples"] == 20
    assert [p["class"] for p in manifest["priors"]] == ["ScaleMixture", "Laplace"]
    assert manifest["priors"][0]["sigma2"] == 0.01
    assert manifest["sparsity"] == 0.5 and manifest["kernel_weights"] == 6
    assert manifest["bytes"] == path.stat().st_size
    assert manifest["tolerance"] == 1e-4 and manifest["precision"] == "float32"
    assert manifest["agreement"]["rows"] == 20
    assert manifest["agreement"]["rms_z"] < 2.5
    assert manifest["versions"]["tensorflow"] == tf.__version__
    assert manifest["minimum_runtime"].split()[-1].count(".") == 2
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_loaded_model_needs_check_data(tmp_path):
    x = inputs_of((5,), 8)
    trained = MODELS["dense"][1]()
    trained.fit(x, np.arange(8) % 3, verbose=0)
    # The rows that `fit` saw are kept.
    kept = flat.tflite(trained, tmp_path / "kept.tflite", uncertainty="none")
    assert kept["agreement"]["rows"] == 8
    trained.save(tmp_path / "m.keras")
    model = tfbnn.load_model(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="pass `check_data=`.*Received: check_data=None"):
        flat.tflite(model, tmp_path / "m.tflite")
    flat.tflite(model, tmp_path / "m.tflite", uncertainty="none", check_data=x)
    prediction, _ = tfbnn.lite.Model(tmp_path / "m.tflite").predict(x)
    np.testing.assert_allclose(prediction, expected_answer(model, x)[0], atol=1e-4)


# What is refused, and that nothing is left behind.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"uncertainty": "laplace"}, "`uncertainty` must be one of.*uncertainty='laplace'"),
        ({"scale": "rank_two"}, "`standard_deviations` must be one of.*='rank_two'"),
        ({"input_type": "int16"}, "`type` must be one of.*type='int16'"),
        ({"uncertainty": "moments", "num_samples": 5}, "must be even.*num_points=5"),
        ({"precision": "full_int8"}, "Variances do not fit.*precision='full_int8'"),
        (
            {
                "precision": "full_int8",
                "uncertainty": "none",
                "representative_data": np.ones((9, 6)),
            },
            r"`representative_data` must have the shape \(rows, 5\).*\(9, 6\)",
        ),
        ({"precision": "int4"}, "`precision` must be one of.*precision='int4'"),
        ({"num_samples": 0}, "`num_samples` must be a whole.*at least 1.*num_samples=0"),
        ({"batch_size": 0}, "`batch_size` must be a whole.*at least 1.*batch_size=0"),
        ({"check_data": np.ones((3, 6))}, r"must have the shape \(rows, 5\).*\(3, 6\)"),
        ({"check_data": np.ones((0, 5))}, r"must have the shape \(rows, 5\).*\(0, 5\)"),
        ({"check_data": np.full((3, 5), np.nan)}, "`check_data` has NaN.*15 of 15"),
    ],
)  # fmt: skip
def test_bad_arguments(options, message, tmp_path):
    model = model_of("dense")
    options = {"check_data": inputs_of((5,), 4)} | options
    with pytest.raises(ValueError, match=message):
        flat.tflite(model, tmp_path / "m.tflite", **options)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite(tmp_path):
    model = MODELS["dense"][1]()
    model.layers[0].kernel.loc_variable.assign(np.full((5, 8), np.nan))
    with pytest.raises(ValueError, match="`the weights of the model` has NaN.*40"):
        flat.tflite(model, tmp_path / "m.tflite", check_data=inputs_of((5,), 4))


@pytest.mark.parametrize("uncertainty", ["none", "monte_carlo"])
@pytest.mark.parametrize("factor", [1.5, np.nan])
def test_wrong_means_are_found(uncertainty, factor, tmp_path, monkeypatch):
    call = laws.MeanRule.__call__
    monkeypatch.setattr(
        laws.MeanRule, "__call__", lambda rule, layer, x: factor * call(rule, layer, x)
    )
    stored = modes.of_stored

    def altered(posterior, networks, hold):
        return stored(posterior, [[factor * v for v in one] for one in networks], hold)

    monkeypatch.setattr(modes, "of_stored", altered)
    model, x = model_of("fixed scale"), inputs_of((5,), 100)
    with pytest.raises(RuntimeError, match="disagrees with the Keras model.*on 100 rows"):
        flat.tflite(model, tmp_path / "m.tflite", uncertainty=uncertainty, check_data=x)
    assert not list(tmp_path.iterdir())


def test_wrong_noise_is_found(tmp_path, monkeypatch):
    normals = laws._fresh_normals
    monkeypatch.setattr(laws, "_fresh_normals", lambda shape: 5.0 * normals(shape))
    model, x = model_of("dense"), inputs_of((5,), 100)
    with pytest.raises(
        RuntimeError,
        match="z-scores of .* third output on 100 rows",
    ):
        flat.tflite(model, tmp_path / "m.tflite", check_data=x)
    assert not list(tmp_path.iterdir())


def test_failed_export_keeps_the_old_file(tmp_path, monkeypatch):
    model, x = model_of("dense"), inputs_of((5,), 8)
    path = tmp_path / "m.tflite"
    options = {"uncertainty": "none", "check_data": x}
    flat.tflite(model, path, **options)
    old = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="exists and is not overwritten.*`overwrite=True`"):
        flat.tflite(model, path, **options)
    monkeypatch.setattr(tflite_module, "smaller", lambda *_, **__: b"no model")
    with pytest.raises(ValueError, match="not a LiteRT model"):
        flat.tflite(model, path, overwrite=True, **options)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == old


@pytest.mark.parametrize("uncertainty, rho", [("none", 0.0), ("ensemble", -8.0)])
def test_small_variances_in_8_bits(uncertainty, rho, tmp_path):
    """LiteRT ends the process if an operation of 8 bits cannot have the scale it was given."""
    model = tfbnn.Sequential([keras.Input((2,)), LAYERS.DenseFlipout(1, **QUIET)])
    model.compile(loss=tfbnn.losses.NormalNLL(0.7))
    model.layers[0].kernel.rho_variable.assign([[rho], [rho]])
    x = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")
    path = tmp_path / "model.tflite"
    options = {"precision": "full_int8", "num_samples": 4, "representative_data": x}
    flat.tflite(model, path, uncertainty, check_data=x, **options)
    answer = tfbnn.lite.Model(path).predict(x)
    np.testing.assert_allclose(answer.prediction, model(x), atol=0.1)
    assert np.all(np.abs(answer.uncertainty - 0.7) < 0.2)
    assert answer.epistemic.max() < 0.5 and (uncertainty != "none" or not answer.epistemic.any())
