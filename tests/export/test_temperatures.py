"""A temperature of the mean in every file: what it answers, and what is said of it."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

import tfbnn
from tests.export import flat
from tests.export.c_source.networks import written
from tfbnn.export.modes import MODES

VALUE = 0.6
X = np.random.default_rng(1).normal(size=(40, 5)).astype("float32")
LOSSES = {
    "classes": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 3, None),
    "probabilities": (keras.losses.CategoricalCrossentropy(), 3, "softmax"),
    "yes or no": (keras.losses.BinaryCrossentropy(from_logits=True), 1, None),
    "several yes or no": (keras.losses.BinaryCrossentropy(), 2, "sigmoid"),
}
FILES = (*MODES, "saved_model", "c")


def model_of(name, mean_temperature, scale=0.5):
    """The same network each time, but for the temperature."""
    keras.utils.set_random_seed(0)
    loss, units, activation = LOSSES[name]
    family = tfbnn.families.Normal(scale)
    options = {"kernel_posterior": family, "bias_posterior": family}
    layers = [
        tfbnn.layers.DenseFlipout(8, activation="relu", **options),
        tfbnn.layers.DenseFlipout(units, activation=activation, **options),
    ]
    model = tfbnn.Sequential([keras.Input((5,)), *layers])
    model.compile(loss=loss)
    model.likelihood.mean_temperature = mean_temperature
    return model


def answers_of(model, kind, folder, **options):
    """The outputs of a file by their names, and its manifest."""
    folder.mkdir()
    if kind == "c":
        network = written(model, folder / "net", X, **options)
        names = ("prediction", "uncertainty", "mutual_information")
        return dict(zip(names, network(), strict=True)), network.manifest
    if kind == "saved_model":
        path = folder / "saved"
        manifest = flat.saved_model(model, path, num_samples=8, check_data=X)
        loaded = tf.saved_model.load(str(path))
        found = loaded.predict(tf.constant(X), num_samples=8, seed=0)
        return {name: value.numpy() for name, value in found.items()}, manifest
    path = folder / "m.tflite"
    manifest = flat.tflite(model, path, kind, check_data=X, **options)
    return tfbnn.lite.Model(path).predict(X).outputs, manifest


def tempered(name, p):
    """`p**(1 / T)`, of each class or of yes and no, and the entropy."""
    p = p.astype(np.float64)
    categories = np.stack([1 - p, p], axis=-1) if "yes" in name else p
    power = categories ** (1 / VALUE)
    power /= power.sum(axis=-1, keepdims=True)
    entropy = -special.xlogy(power, power).sum(axis=-1)
    if "yes" not in name:
        return power, entropy
    return power[..., 1], entropy[..., 0] if p.shape[-1] == 1 else entropy


# Draws made at each call differ from file to file; the exporter itself compares them.
@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "monte_carlo"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_alone_is_tempered(name, kind, tmp_path):
    plain, _ = answers_of(model_of(name, 1.0), kind, tmp_path / "plain")
    found, manifest = answers_of(model_of(name, VALUE), kind, tmp_path / "tempered")
    prediction, entropy = tempered(name, plain["prediction"])
    np.testing.assert_allclose(found["prediction"], prediction, atol=2e-6)
    np.testing.assert_allclose(found["uncertainty"], entropy, atol=2e-5)
    # The parts are those of the draws.
    information = plain["mutual_information"]
    np.testing.assert_allclose(found["mutual_information"], information, atol=2e-6)
    if kind != "c":
        rest = plain["uncertainty"] - information
        np.testing.assert_allclose(found["expected_entropy"], rest, atol=2e-6)
    assert manifest["likelihood"]["mean_temperature"] == VALUE
    assert manifest["likelihood"]["temperature"] == 1.0
    assert manifest["uncertainty"] == "entropy of the tempered mean, nats"
    assert "before the mean was tempered" in manifest["mutual_information"]


@functools.cache
def without_noise(name):
    model = model_of(name, VALUE, scale=1e-6)
    return model, tfbnn.predict(model, X, num_samples=4, seed=0, verbose=0)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", LOSSES)
def test_without_noise_every_file_answers_as_predict(name, kind, tmp_path):
    model, expected = without_noise(name)
    found, _ = answers_of(model, kind, tmp_path / "files")
    np.testing.assert_allclose(found["prediction"], expected.prediction, atol=1e-4)
    np.testing.assert_allclose(found["uncertainty"], expected.uncertainty, atol=1e-4)
    np.testing.assert_allclose(found["mutual_information"], expected.epistemic, atol=1e-4)
    if kind != "c":
        np.testing.assert_allclose(found["expected_entropy"], expected.aleatoric, atol=1e-4)


@pytest.mark.parametrize("precision", ["float16", "int8", "full_int8"])
@pytest.mark.parametrize("name", ["classes", "yes or no"])
def test_fewer_bits_take_a_temperature_too(name, precision, tmp_path):
    model, options = model_of(name, VALUE), {"precision": precision}
    if precision == "full_int8":
        options["representative_data"] = X
    found, _ = answers_of(model, "ensemble", tmp_path / "files", **options)
    expected, _ = answers_of(model, "ensemble", tmp_path / "exact")
    assert np.abs(found["prediction"] - expected["prediction"]).max() < 0.1


def test_without_it_a_file_is_what_it_was(tmp_path):
    found, manifest = answers_of(model_of("classes", 1.0), "moments", tmp_path / "files")
    assert set(found) == {"prediction", "uncertainty", "mutual_information"}
    assert manifest["uncertainty"] == "predictive entropy, nats"
    assert manifest["mutual_information"] == "mutual information of label and weights, nats"


def test_the_reader_knows_what_is_left(tmp_path):
    model = model_of("classes", VALUE)
    flat.tflite(model, tmp_path / "m.tflite", "ensemble", check_data=X)
    answer = tfbnn.lite.Model(tmp_path / "m.tflite").predict(X)
    assert answer.aleatoric is answer.expected_entropy
    assert answer.epistemic is answer.mutual_information
    assert np.abs(answer.aleatoric + answer.epistemic - answer[1]).max() > 0.01
