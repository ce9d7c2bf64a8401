"""`model.export`, where a user of Keras looks, and what targets need."""

import json
import sys
import zipfile

import keras
import numpy as np
import pytest

import tfbnn
from tests.targets import READERS
from tfbnn.export import TARGETS

X = np.random.default_rng(0).normal(size=(12, 8, 8, 2)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [
        tfbnn.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        tfbnn.layers.Dense(3),
    ]
    model = tfbnn.Sequential([keras.Input((8, 8, 2)), *layers])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.example_rows = X
    return model


@pytest.mark.parametrize("given", ["tf_saved_model", "litert", *TARGETS])
def test_export_goes_through_the_targets(model, given, tmp_path):
    # What Keras calls two of them.
    format = {"tf_saved_model": "saved_model", "litert": "tflite"}.get(given, given)
    if READERS[format].missing:
        pytest.skip(f"not installed: {READERS[format].missing}")
    manifest = model.export(tmp_path / "net", format=given)
    assert manifest["format"] == format
    (written,) = tmp_path.rglob("net.json")
    assert json.loads(written.read_text())["agreement"] is not None


def test_export_hands_options_on(model, tmp_path):
    path = tmp_path / "m.tflite"
    manifest = model.export(path, "tflite", uncertainty="moments", storage="float16")
    assert (manifest["mode"], manifest["precision"]) == ("moments", "float16")


def test_other_formats_are_those_of_keras_and_say_what_they_lack(model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(keras.Model, "export", lambda *args, **kwargs: asked.append(args[1:]))
    with pytest.warns(UserWarning, match="without an uncertainty.*format='openvino'"):
        model.export(tmp_path / "m.xml", format="openvino")
    assert asked == [(tmp_path / "m.xml", "openvino")]


def test_onnx_that_is_not_installed(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install tfbnn\[onnx\]"):
        tfbnn.export.onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_posterior_of_several_parts_is_one_file(tmp_path, model):
    path = tmp_path / "m.posterior"
    tfbnn.posteriors.Ensemble([model, model]).save(path)
    assert zipfile.ZipFile(path).namelist() == ["posterior.json", "0.keras", "1.keras"]
