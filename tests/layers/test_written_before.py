"""Layers written when a layer had other defaults: they are still what they were written with.

`written_before/defaults_of_0_1_0.keras` was written with nothing given but sizes and an activation,
when the prior of a kernel was `Normal()`, its posterior began at softplus(-5), and biases were
points. The numbers below are what the model said then.
"""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn import families, priors

FILE = pathlib.Path(__file__).parent / "written_before" / "defaults_of_0_1_0.keras"
X = np.linspace(-1, 1, 15, dtype="float32").reshape(5, 3)
Y = np.arange(5) % 2
SCALE = float(np.log1p(np.exp(-5.0)))
OUTPUTS = [
    [0.6823716759681702, -0.7722903490066528],
    [0.28165239095687866, -0.37478265166282654],
    [0.018437083810567856, 0.005941346287727356],
    [-0.008704567328095436, 0.038860760629177094],
    [-0.01015561819076538, 0.04184999316930771],
]
KL = [54.53879165649414, 36.417510986328125]
FIRST_CLASS_IN_FOUR_DRAWS = [
    0.8103476166725159,
    0.6582769155502319,
    0.5033342242240906,
    0.48855826258659363,
    0.48773059248924255,
]


def _configurations():
    config = json.loads(zipfile.ZipFile(FILE).read("config.json"))
    return [layer["config"] for layer in config["config"]["layers"][1:]]


def _check_laws(layer):
    assert layer.kernel_prior == layer.bias_prior == priors.Normal(0.0, 1.0)
    assert layer.kernel_posterior.initial_scale == pytest.approx(SCALE)
    assert isinstance(layer.bias_posterior, families.Point)


def test_a_configuration_stands_for_the_layer_it_was_written_of():
    for config in _configurations():
        layer = tfbnn.layers.DenseFlipout.from_config(config)
        _check_laws(layer)
        written_again = layer.get_config()
        # Those of the kernel had shorter names.
        for name, former in (
            ("kernel_prior", "prior"),
            ("bias_prior", "bias_prior"),
            ("kernel_posterior", "posterior"),
            ("bias_posterior", "bias_posterior"),
        ):
            assert written_again[name]["config"] == config[former]["config"], name
        layer.build((None, 3))
        assert [v.name for v in layer.weights] == ["kernel_loc", "kernel_rho", "bias"]
        assert layer.variational_weights == (layer.kernel,)
        np.testing.assert_allclose(layer.kernel.scale, SCALE, rtol=1e-5)
        loc = layer.kernel.loc.numpy()
        expected = np.sum((loc**2 + SCALE**2 - 1) / 2 - np.log(SCALE))
        assert float(layer.kernel.kl()) == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def loaded():
    return keras.models.load_model(FILE)


def test_a_file_has_the_layers_it_was_written_with(loaded):
    for layer, kl in zip(loaded.layers, KL, strict=True):
        _check_laws(layer)
        assert [v.name for v in layer.weights] == ["kernel_loc", "kernel_rho", "bias"]
        assert layer.kernel.prior == priors.Normal(0.0, 1.0)
        assert float(layer.kernel.kl()) == pytest.approx(kl, rel=1e-5)


def test_a_file_says_what_it_said(loaded):
    np.testing.assert_allclose(loaded.predict(X, verbose=0), OUTPUTS, rtol=1e-4, atol=1e-6)
    drawn = tfbnn.predict(loaded, X, 4, seed=3).prediction
    np.testing.assert_allclose(drawn[:, 0], FIRST_CLASS_IN_FOUR_DRAWS, rtol=1e-4)


def test_a_file_is_trained_and_written_again(loaded, tmp_path):
    loaded.fit(X, Y, verbose=0)
    loaded.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    for layer in again.layers:
        _check_laws(layer)
    np.testing.assert_allclose(again.predict(X, verbose=0), loaded.predict(X, verbose=0))
