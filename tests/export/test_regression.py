"""Exports of a regression on raw targets: several units, and the layer that gives them."""

import keras
import numpy as np
import pytest

import tfbnn
from tests.export import flat
from tests.quiet import QUIET

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype("float32")
MEANS, UNITS = np.array([100.0, 5e3, 0.02]), np.array([50.0, 1e3, 1e-3])
Y = (MEANS + UNITS * (X + 0.3 * RNG.normal(size=X.shape))).astype("float32")


@pytest.fixture(scope="module", params=["learned", "head"])
def model(request):
    mean, variance = MEANS, UNITS**2
    if request.param == "head":
        mean, variance = np.append(mean, [0, 0, 0]), np.append(variance, [1, 1, 1])
    layers = [
        tfbnn.layers.DenseFlipout(8, activation="tanh", **QUIET),
        tfbnn.layers.DenseFlipout(len(mean), **QUIET),
        keras.layers.Normalization(mean=mean, variance=variance, invert=True),
    ]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    loss = tfbnn.losses.NormalNLL(request.param)
    model.compile(loss=loss)
    model.fit(X, Y, epochs=2, verbose=0)
    return model


def test_predictions_are_in_the_units_of_the_targets(model):
    answer = tfbnn.predict(model, X, 20, seed=0)
    outputs = model.predict(X, verbose=0)[:, :3]
    assert (np.abs(outputs - MEANS) < 5 * UNITS).all()
    assert (np.abs(answer.prediction - outputs) < 0.2 * UNITS).all()
    assert (answer.aleatoric > 0.1 * UNITS).all() and (answer.aleatoric < 3 * UNITS).all()


@pytest.mark.parametrize("mode", ["moments", "none"])
def test_a_file_agrees_with_predict(model, mode, tmp_path):
    path = tmp_path / "model.tflite"
    # The export compares the two itself, relative to each output.
    flat.tflite(model, path, uncertainty=mode, num_samples=64, check_data=X)
    prediction, uncertainty = tfbnn.lite.Model(path).predict(X)[:2]
    expected = tfbnn.predict(model, X, 400, seed=0)
    assert (np.abs(prediction - expected.prediction) < 0.02 * UNITS).all()
    if mode == "moments":
        np.testing.assert_allclose(uncertainty, expected.uncertainty, rtol=0.1)


def test_a_saved_model_agrees_with_predict(model, tmp_path):
    flat.saved_model(model, tmp_path / "served", check_data=X)


@pytest.mark.parametrize("mode", ["moments", "none"])
def test_c_agrees_with_tensorflow(model, mode, tmp_path):
    written = flat.c(model, tmp_path / "written", uncertainty=mode, check_data=X)
    assert written
