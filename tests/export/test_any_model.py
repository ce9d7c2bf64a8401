"""Files of models with several inputs and outputs, with loops, and with sizes that vary."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.targets import READERS
from tfbnn.export import TARGETS
from tfbnn.export.modes import get

RNG = np.random.default_rng(0)
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = {
    "a": RNG.normal(size=(20, 4)).astype("float32"),
    "b": RNG.normal(size=(20, 3)).astype("float32"),
}
SEQUENCES = RNG.normal(size=(20, 5, 6)).astype("float32")
Y = {"label": np.arange(20) % 3, "size": RNG.normal(size=(20, 1)).astype("float32")}


def several(as_list):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    hidden = keras.layers.Concatenate()([a, b])
    hidden = tfbnn.layers.Dense(8, activation="relu")(hidden)
    label = tfbnn.layers.Dense(3, name="label")(hidden)
    size = tfbnn.layers.Dense(1, name="size")(hidden)
    inputs, outputs = {"a": a, "b": b}, {"label": label, "size": size}
    losses = {"label": LOGITS, "size": tfbnn.losses.NormalNLL(scale=0.5)}
    if as_list:
        inputs, outputs, losses = (list(one.values()) for one in (inputs, outputs, losses))
    model = tfbnn.Model(inputs, outputs)
    model.compile(loss=losses)
    return model


def answers_of(predictions):
    predictions = (
        predictions if isinstance(predictions, dict) else dict(zip(Y, predictions, strict=True))
    )
    return {
        f"{output}_{name}": value
        for output, one in predictions.items()
        for name, value in zip(("prediction", "uncertainty"), one, strict=True)
    }


@pytest.fixture(scope="module", params=[False, True], ids=["dict", "list"])
def model(request):
    return several(request.param), (list(X.values()) if request.param else X)


def test_lite_answers_for_each_output(model, tmp_path):
    model, x = model
    path = tmp_path / "m.tflite"
    manifest = tfbnn.export.tflite(model, path, tfbnn.export.Ensemble(3, seed=5), check_data=x)
    assert manifest["inputs"] == {"a": [None, 4], "b": [None, 3]}
    assert set(manifest["outputs"]) == {"label", "size"}
    expected = answers_of(tfbnn.predict(model, x, 3, seed=5))
    found = tfbnn.lite.Model(path).predict(X)
    assert set(found) == {"label", "size"}
    for name, value in answers_of(found).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(found["label"].epistemic, found["label"].mutual_information)


def test_lite_says_what_it_takes(model, tmp_path):
    model, x = model
    tfbnn.export.tflite(model, tmp_path / "m.tflite", "none", check_data=x)
    file = tfbnn.lite.Model(tmp_path / "m.tflite")
    with pytest.raises(ValueError, match=r"a dict with an array for each.*\['a', 'b'\].*ndarray"):
        file.predict(X["a"])
    with pytest.raises(ValueError, match=r"`x\['b'\]` must have the shape \(rows, 3\)"):
        file.predict({"a": X["a"], "b": X["a"]})
    with pytest.raises(ValueError, match="the same number of rows"):
        file.predict({"a": X["a"], "b": X["b"][:5]})


@pytest.mark.parametrize("mode", ["none", "ensemble", "monte_carlo"])
def test_a_saved_model_answers_by_name(model, mode, tmp_path):
    model, x = model
    tfbnn.export.saved_model(model, tmp_path / "m", mode, check_data=x)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    found = loaded.signatures["serving_default"](**{k: tf.constant(v) for k, v in X.items()})
    mean = model(x, training=False)
    size = mean["size"] if isinstance(mean, dict) else mean[1]
    np.testing.assert_allclose(found["size_prediction"], size, atol=1e-5)
    assert found["label_uncertainty"].shape == (20,)


def test_what_several_inputs_cannot_do(model, tmp_path):
    model, x = model
    with pytest.raises(ValueError, match="one input and one output"):
        tfbnn.export.tflite(model, tmp_path / "m", "moments", check_data=x)
    with pytest.raises(ValueError, match="one input and one output"):
        tfbnn.export.c(model, tmp_path / "m", "none", check_data=x)
    with pytest.raises(ValueError, match="the structure of the model's inputs"):
        tfbnn.export.tflite(model, tmp_path / "m", check_data=X["a"])
    assert not list(tmp_path.iterdir())


def test_evaluate_scores_each_output(model):
    model, x = model
    y = Y if isinstance(x, dict) else list(Y.values())
    found = tfbnn.evaluate(model, x, y, 4, seed=1)
    found = list(found.values()) if isinstance(found, dict) else found
    predictions = tfbnn.predict(model, x, 4, seed=1)
    predictions = list(predictions.values()) if isinstance(predictions, dict) else predictions
    chosen = predictions[0].prediction[np.arange(20), Y["label"]]
    assert found[0].nll == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
    assert found[1].rmse == pytest.approx(
        np.sqrt(np.mean((predictions[1].prediction - Y["size"]) ** 2)), rel=1e-4
    )
    with pytest.raises(ValueError, match="an array for each of the 2 outputs"):
        tfbnn.evaluate(model, x, Y["label"])


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_a_file_with_a_loop(cell, storage, tmp_path):
    keras.utils.set_random_seed(0)
    recurrent = getattr(keras.layers, cell)(16)
    model = tfbnn.Sequential([keras.Input((5, 6)), recurrent, tfbnn.layers.Dense(3)])
    model.compile(loss=LOGITS)
    path = tmp_path / "m.tflite"
    mode = tfbnn.export.Ensemble(2)
    manifest = tfbnn.export.tflite(model, path, mode, storage, check_data=SEQUENCES)
    assert "WHILE" in manifest["operations"]
    expected = tfbnn.predict(model, SEQUENCES, 2, seed=0)
    found = tfbnn.lite.Model(path).predict(SEQUENCES)
    tolerance = {"float32": 1e-5, "float16": 5e-3, "int8": 5e-2}[storage]
    np.testing.assert_allclose(found[0], expected.prediction, atol=tolerance)
    pruned = tfbnn.prune(model, sparsity=0.5)
    tfbnn.export.tflite(pruned, path, "none", check_data=SEQUENCES, overwrite=True)


@pytest.fixture
def of_any_length():
    layers = [keras.layers.GlobalAveragePooling1D(), tfbnn.layers.Dense(3)]
    convolution = tfbnn.layers.Conv1D(4, 3, activation="relu")
    model = tfbnn.Sequential([keras.Input((None, 6)), convolution, *layers])
    model.compile(loss=LOGITS)
    return model


@pytest.mark.parametrize("mode", ["none", "moments", "ensemble", "monte_carlo"])
# C asks for all sizes in the model.
@pytest.mark.parametrize("target", [name for name in TARGETS if name != "c"])
def test_sizes_that_vary(target, mode, of_any_length, tmp_path, capsys):
    if READERS[target].missing or not isinstance(get(mode), TARGETS[target].modes):
        pytest.skip("no such files here")
    export, path = getattr(tfbnn.export, target), tmp_path / "m"
    manifest = export(of_any_length, path, mode, check_data=SEQUENCES)
    varies = target == "saved_model" and mode != "moments"
    assert manifest["input_shape"] == [None, None if varies else 5, 6]
    said = capsys.readouterr().out
    assert ("sizes of the file are those of `check_data`" in said) == (not varies)
    if varies:
        longer = np.concatenate([SEQUENCES, SEQUENCES], axis=1)
        loaded = tf.saved_model.load(str(path))
        found = loaded.signatures["serving_default"](inputs=tf.constant(longer))["prediction"]
        if mode != "ensemble":
            np.testing.assert_allclose(found, tf.nn.softmax(of_any_length(longer)), atol=1e-5)
