"""Models in any precision become files in float32: every policy with every target."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.export import flat
from tests.targets import READERS
from tfbnn.posterior import posterior_of

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
K = keras.layers


def network(dtype):
    """Layers of Keras with every kind of numbers: variables, statistics, adapted constants."""
    keras.utils.set_random_seed(0)
    adapted = K.Normalization(dtype=dtype(0))
    adapted.adapt(np.random.default_rng(0).normal(1, 2, (50, 6)))
    family = tfbnn.families.Normal(0.2)
    layers = [
        adapted,
        K.Rescaling(0.5, 0.1, dtype=dtype(1)),
        K.Dense(7, activation="relu", dtype=dtype(2)),
        K.BatchNormalization(dtype=dtype(3)),
        tfbnn.layers.DenseFlipout(5, activation="tanh", kernel_posterior=family, dtype=dtype(4)),
        tfbnn.layers.DenseFlipout(3, kernel_posterior=family, dtype=dtype(5)),
        K.Softmax(dtype=dtype(6)),
    ]
    inputs = keras.Input((6,), dtype="float64" if dtype(0) == "float64" else None)
    model = tfbnn.Sequential([inputs, *layers])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy())
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "moving" in variable.path:
            variable.assign(variable + np.abs(rng.normal(size=variable.shape) * 0.2))
    return model


MIXTURE = ("float64", "float16", "mixed_bfloat16", "float64", "float64", "mixed_float16", "float32")
POLICIES = {
    "float64": lambda _: "float64",
    "float16": lambda _: "float16",
    "bfloat16": lambda _: "bfloat16",
    "mixed_float16": lambda _: "mixed_float16",
    "mixture": lambda layer: MIXTURE[layer],
}
# An ensemble is what the mean is, more than once.
FILES = [
    *(
        (name, mode.name, {"num_samples": 2})
        for name, target in tfbnn.export.TARGETS.items()
        for mode in target.modes
        if mode.name != "ensemble"
    ),
    ("c", "moments", {"precision": "int8"}),
]


@pytest.fixture(scope="module", params=POLICIES)
def model(request):
    return network(POLICIES[request.param])


def parts(model):
    return [
        *(layer.dtype_policy for layer in model.layers),
        *(str(variable.dtype) for variable in model.variables),
        *(tensor.dtype for tensor in model.inputs),
        str(model.layers[0].mean.dtype),
    ]


@pytest.mark.parametrize("target, mode, options", FILES)
def test_every_policy_with_every_target(target, mode, options, model, tmp_path):
    if READERS[target].missing:
        pytest.skip(f"not installed: {READERS[target].missing}")
    before = parts(model)
    path = tmp_path / "net"
    manifest = getattr(flat, target)(model, path, mode, check_data=X, **options)
    assert parts(model) == before
    error = manifest["agreement"]["max_error"]
    # The model itself computes in its precision; int8 is another rounding.
    assert error is None or error <= manifest["tolerance"]
    if target == "tflite":
        assert not {"CAST", "DEQUANTIZE"} & set(manifest["operations"])
    if mode == "none":
        expected = model(X).numpy().astype(np.float32)
        prediction = READERS[target].read(path, posterior_of(model))(X)["prediction"]
        np.testing.assert_allclose(prediction, expected, atol=manifest["tolerance"])
    if mode == "moments" and target != "saved_model" and "precision" not in options:
        # Moments are in float32 in TensorFlow too. A SavedModel tells the error of its mean.
        assert error < 1e-5


def test_float64_is_met_to_the_last_digits_of_float32(tmp_path):
    model = network(POLICIES["float64"])
    path = tmp_path / "m"
    flat.saved_model(model, path, num_samples=2, check_data=X)
    answer = tf.saved_model.load(str(path)).signatures["serving_default"](inputs=tf.constant(X))
    np.testing.assert_allclose(answer["prediction"], model(X), atol=1e-6)


def test_distillation_by_moments_in_float64():
    model = network(POLICIES["float64"])
    answers = tfbnn.predict(model, X, num_samples=8, seed=0, verbose=0)
    history = tfbnn.distill(model, X, answers, epochs=3, verbose=0).history
    assert history["cross_entropy"][-1] < history["cross_entropy"][0]


@pytest.mark.parametrize("policy", ["float64", "mixed_bfloat16"])
def test_layers_that_keras_leaves_to_cast_by_themselves(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    layers = [K.Embedding(10, 6), K.LayerNormalization(), K.GroupNormalization(2), K.Flatten()]
    assert not any(layer.autocast for layer in layers[:3])
    model = tfbnn.Sequential([keras.Input((4,)), *layers, tfbnn.layers.DenseFlipout(3)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.arange(20, dtype="float32").reshape(5, 4) % 10
    flat.tflite(model, tmp_path / "model.tflite", "none", check_data=x)
    answer = tfbnn.lite.Model(tmp_path / "model.tflite").predict(x)
    expected = keras.ops.softmax(keras.ops.cast(model(x), "float32"))
    tolerance = 1e-6 if policy == "float64" else 2e-2
    np.testing.assert_allclose(answer.prediction, expected, atol=tolerance)
    assert not any(layer.autocast for layer in layers[:3])
