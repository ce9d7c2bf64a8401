"""`model.export`, where a user of Keras looks, and ONNX."""

import json
import sys
import zipfile

import keras
import numpy as np
import pytest

import tfbnn

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


@pytest.mark.parametrize(
    "given, format",
    [("tf_saved_model", "saved_model"), ("litert", "tflite"), ("onnx", "onnx"), ("c", "c")],
)
def test_export_goes_through_the_targets(model, given, format, tmp_path):
    manifest = model.export(tmp_path / "net", format=given)
    assert manifest["format"] == format
    written = tmp_path / ("net/net.json" if given == "c" else "net.json")
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


@pytest.mark.parametrize("mode", ["none", "ensemble", "moments"])
def test_an_onnx_file_runs_without_tfbnn(model, mode, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    tfbnn.export.onnx(model, tmp_path / "m.onnx", mode)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"inputs": X[:5]}), strict=True))
    if mode == "none":
        expected = keras.ops.softmax(model.predict(X[:5], verbose=0))
        np.testing.assert_allclose(found["prediction"], expected, atol=1e-5)
    if mode == "ensemble":
        expected = tfbnn.predict(model, X[:5], 8, seed=0)
        np.testing.assert_allclose(found["prediction"], expected.prediction, atol=1e-5)
        information = found["mutual_information"]
        np.testing.assert_allclose(information, expected.mutual_information, atol=1e-5)
    assert found["uncertainty"].shape == (5,)


@pytest.mark.parametrize("format", ["onnx", "tflite", "saved_model"])
def test_numbers_that_a_layer_keeps_are_in_the_file(format, tmp_path):
    x = X.reshape(len(X), -1)[:, :6] * 3 + 1
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    model = tfbnn.Sequential([keras.Input((6,)), normalization, tfbnn.layers.Dense(3)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    manifest = getattr(tfbnn.export, format)(model, tmp_path / "net", "none", check_data=x)
    assert manifest["agreement"]["max_error"] < 1e-5


def test_onnx_that_is_not_installed(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install tfbnn\[onnx\]"):
        tfbnn.export.onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_posterior_of_several_parts_is_one_file(tmp_path, model):
    path = tmp_path / "m.posterior"
    tfbnn.posteriors.Ensemble([model, model]).save(path)
    assert zipfile.ZipFile(path).namelist() == ["posterior.json", "0.keras", "1.keras"]
