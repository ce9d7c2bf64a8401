"""What was written by earlier code is read, and says what it said.

Every folder beside this file was made by `write.py` with the code of its time.
"""

import json
import pathlib
import shutil
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.written_before.write import rows, said

FOLDERS = sorted(path.parent for path in pathlib.Path(__file__).parent.glob("*/answers.npz"))
MODELS = [path for folder in FOLDERS for path in sorted(folder.glob("*.keras"))]
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.tflite"))]


def _answers(path):
    return np.load(path.parent / "answers.npz")


def _name(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", MODELS, ids=_name)
def test_a_model_says_what_it_said(path):
    model = keras.models.load_model(path)
    before = _answers(path)
    for key, value in said(model).items():
        expected = before[f"{path.stem}.{key}"]
        np.testing.assert_allclose(value, expected, rtol=2e-4, atol=1e-5, err_msg=key)


TRAINED = (
    "Convolution2DFlipout",
    "DenseLocalReparameterization",
    "normal_learned",
    "pruned",
    "two_outputs",
    "yes_or_no",
)


@pytest.mark.parametrize("path", [path for path in MODELS if path.stem in TRAINED], ids=_name)
def test_a_model_is_trained_on_and_written_again(path, tmp_path):
    model = keras.models.load_model(path)
    x = rows(model.input_shape[1:])
    y = [_targets(likelihood) for likelihood in model.likelihoods]
    model.fit(x, dict(zip(("label", "size"), y, strict=True)) if y[1:] else y[0], verbose=0)
    model.save(tmp_path / "again.keras")
    again = tfbnn.load_model(tmp_path / "again.keras")
    found = said(again)
    for key, value in said(model).items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def _targets(likelihood):
    if isinstance(likelihood.loss, tfbnn.losses.NormalNLL):
        return rows((2,)) if likelihood.loss.num_scales != 1 else rows((1,))
    return np.arange(6) % 2


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_for_devices_says_what_it_said(path):
    prediction, uncertainty = tfbnn.lite.Model(path).predict(rows((4, 4, 2)))
    before = _answers(path)[path.name]
    found = np.concatenate([np.ravel(prediction), np.ravel(uncertainty)])
    # Its networks are drawn anew at each call.
    tolerance = 0.4 if path.stem == "monte_carlo" else 1e-4
    np.testing.assert_allclose(found, before, atol=tolerance)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_saved_model_says_what_it_said(folder):
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    x = rows((4, 4, 2))
    prediction = loaded.signatures["serving_default"](inputs=tf.constant(x))["prediction"]
    logits = np.load(folder / "answers.npz")["Convolution2DFlipout.mean"].reshape(6, 3)
    np.testing.assert_allclose(prediction, tf.nn.softmax(logits), atol=1e-5)
    drawn = loaded.predict(tf.constant(x), tf.constant(64, tf.int64), tf.constant(1, tf.int64))
    assert sorted(drawn) == ["mutual_information", "prediction", "uncertainty"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_c_compiles_and_agrees_with_its_rows(folder, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    shutil.copytree(folder / "network", tmp_path / "network")
    done = subprocess.run(
        ["make", "-C", tmp_path / "network", "test"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_manifest_has_what_readers_ask_for():
    for path in FILES:
        manifest = json.loads(pathlib.Path(f"{path}.json").read_text())
        assert manifest["format"] == "tflite"
        assert {"mode", "num_samples", "precision", "likelihood", "bytes", "sha256"} <= set(
            manifest
        )
