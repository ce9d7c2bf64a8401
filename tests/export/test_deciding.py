"""Files that decide: their thresholds are of their own answers, and no others are read."""

import functools
import json
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfbnn
from tests.export import flat
from tfbnn import lite_rules

ROWS = 150
LOSSES = {
    "classes": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 3),
    "yes or no": (keras.losses.BinaryCrossentropy(from_logits=True), 1),
    "numbers": (tfbnn.losses.NormalNLL(0.5), 1),
}


@functools.cache
def model_of(name):
    keras.utils.set_random_seed(0)
    loss, units = LOSSES[name]
    layers = [tfbnn.layers.DenseFlipout(8, activation="relu"), tfbnn.layers.DenseFlipout(units)]
    model = tfbnn.Sequential([keras.Input((5,)), *layers])
    model.compile(loss=loss)
    return model


def rows_of(seed, rows=ROWS):
    return np.random.default_rng(seed).normal(size=(rows, 5)).astype(np.float32)


def labels_of(name, x, seed=0):
    """Labels that the model is right about, most of the time where it is sure."""
    prediction, uncertainty = tfbnn.predict(model_of(name), x, 16, seed=0, verbose=0)
    noise = np.random.default_rng(seed)
    if name == "numbers":
        return prediction + noise.normal(size=prediction.shape) * 0.5 * uncertainty
    wrong = noise.random(len(x)) < 0.3 * (uncertainty / uncertainty.max()) ** 4
    if name == "yes or no":
        return ((prediction[:, 0] > 0.5) ^ wrong).astype(int)
    return (prediction.argmax(axis=-1) + wrong) % 3


def settings_of(name):
    return {"risk": 0.35, "coverage": 0.8, **({"tolerance": 1.0} if name == "numbers" else {})}


@functools.cache
def data_of(name):
    x = rows_of(1)
    return x, labels_of(name, x)


def by_hand(name, answers, y):
    """Thresholds of answers: the definitions once more, as loops over sorted numbers."""
    prediction, uncertainty = answers["prediction"], answers["uncertainty"]
    if name == "numbers":
        scores = np.abs(y.astype(np.float32) - prediction) / uncertainty
    else:
        p = prediction if name == "classes" else np.concatenate([1 - prediction, prediction], -1)
        # Of classes that are as probable, which 8 bits make often, the first comes first.
        scores = np.array(
            [
                sum(row[(row > row[own]) | ((row == row[own]) & (np.arange(len(row)) < own))])
                for row, own in zip(p, y.astype(int), strict=True)
            ]
        )
    # ceil(151 * 0.8) = 121
    return np.sort(scores.reshape(ROWS))[120]


MODES = ["moments", "none", "ensemble", "monte_carlo"]
PRECISIONS = ["float32", "float16", "int8"]
FILES = [(mode, precision) for mode in MODES for precision in PRECISIONS]
FILES += [("none", "full_int8"), ("moments", "posterior")]


def exported(name, folder, uncertainty="moments", precision="float32", **options):
    path = folder / "m.tflite"
    options = {"num_samples": 4, "check_data": rows_of(2), "precision": precision, **options}
    flat.tflite(model_of(name), path, uncertainty, **options)
    return path


def same_as_the_rule(answer, described):
    """What was answered is the rules of the manifest, applied to the answer, bit for bit."""
    found = {}
    for config in described["decisions"]["rules"]:
        rule = lite_rules.rule_of(config)
        found[rule.name] = rule(*answer)
        np.testing.assert_array_equal(answer.outputs[rule.name], found[rule.name])
    return found


@pytest.mark.parametrize("mode, precision", FILES)
def test_a_file_of_every_mode_and_precision_decides(mode, precision, tmp_path):
    path, (x, y) = exported("classes", tmp_path, mode, precision), data_of("classes")
    described = tfbnn.decide(path, x, y, **settings_of("classes"))
    model = tfbnn.lite.Model(path)
    assert model.manifest == described == json.loads((tmp_path / "m.tflite.json").read_text())
    answer = model.predict(rows_of(3))
    found = same_as_the_rule(answer, described)
    assert set(found) == {"set", "accepted"}
    assert answer.set.shape == (ROWS, 3) and answer.accepted.shape == (ROWS,)
    sets, accepted = described["decisions"]["rules"]
    assert np.array_equal(answer.accepted, answer[1] <= np.float32(accepted["threshold"]))
    if mode != "monte_carlo":  # which answers otherwise each time
        assert sets["threshold"] == pytest.approx(by_hand("classes", model.outputs(x), y), abs=1e-6)
        wrong = model.predict(x)[0].argmax(axis=-1) != y
        kept = model.predict(x).accepted
        assert kept.sum() == described["decisions"]["num_kept"] > 0
        assert wrong[kept].mean() <= described["decisions"]["bound"] <= 0.35


@pytest.mark.parametrize("name", ["yes or no", "numbers"])
def test_other_answers_decide_too(name, tmp_path):
    path, (x, y) = exported(name, tmp_path), data_of(name)
    described = tfbnn.decide(path, x, y, **settings_of(name))
    model = tfbnn.lite.Model(path)
    answer = model.predict(x)
    found = same_as_the_rule(answer, described)
    assert set(found) == {"interval" if name == "numbers" else "set", "accepted"}
    threshold = np.ravel(described["decisions"]["rules"][0]["threshold"])
    np.testing.assert_allclose(threshold, by_hand(name, model.outputs(x), y), atol=1e-6)
    if name == "numbers":
        lower, upper = answer.interval
        assert lower.shape == answer[0].shape
        assert 0.79 < np.mean((lower <= y) & (y <= upper)) < 0.82
    else:
        assert answer.set.shape == (ROWS, 2)


@pytest.fixture
def decided(tmp_path):
    path = exported("classes", tmp_path)
    tfbnn.decide(path, *data_of("classes"), coverage=0.8)
    return path


def test_only_what_was_asked_for_is_answered(decided):
    answer = tfbnn.lite.Model(decided).predict(rows_of(3))
    assert answer.set.any() and len(answer) == 2
    with pytest.raises(AttributeError, match="no output of this name.*'accepted'"):
        answer.accepted  # noqa: B018
    tfbnn.decide(decided, *data_of("classes"), risk=0.35)
    answer = tfbnn.lite.Model(decided).predict(rows_of(3))
    assert answer.accepted.any() and "set" not in answer.outputs
    assert "set" not in tfbnn.lite.Model(decided).outputs(rows_of(3))


def test_another_export_has_no_thresholds(decided):
    exported("classes", decided.parent, overwrite=True)
    assert "decisions" not in tfbnn.lite.Model(decided).manifest
    assert "set" not in tfbnn.lite.Model(decided).predict(rows_of(3)).outputs


def test_a_network_that_changed_after_calibration_is_an_error(decided, tmp_path):
    other = exported("classes", tmp_path / "other", "none")
    manifest = decided.with_name("m.tflite.json")
    shutil.copy(other, decided)
    with pytest.raises(ValueError, match="is not the file that its manifest m.tflite.json desc"):
        tfbnn.lite.Model(decided)
    with pytest.raises(ValueError, match="is not the file that its manifest m.tflite.json desc"):
        tfbnn.decide(decided, *data_of("classes"), coverage=0.8)
    # A manifest of the new file with the old decisions.
    old = json.loads(manifest.read_text())
    new = json.loads(other.with_name("m.tflite.json").read_text())
    manifest.write_text(json.dumps({**new, "decisions": old["decisions"]}))
    with pytest.raises(ValueError, match="are about another file.*call `tfbnn.decide`"):
        tfbnn.lite.Model(decided)


def test_two_files_copied_beside_it_are_enough(decided):
    for name in ("lite.py", "lite_rules.py"):
        shutil.copy(pathlib.Path(tfbnn.__file__).with_name(name), decided.parent)
    np.save(decided.parent / "x.npy", rows_of(3))
    code = "import lite, sys, numpy as np; model = lite.Model('m.tflite'); x = np.load('x.npy')"
    code += "; np.save('set.npy', model.predict(x).set); assert 'tfbnn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=decided.parent, check=True)
    expected = tfbnn.lite.Model(decided).predict(rows_of(3)).set
    np.testing.assert_array_equal(np.load(decided.parent / "set.npy"), expected)


@pytest.mark.parametrize("decisions", [1, {}, {"rules": [{}]}, {"rules": 1}])
def test_damaged_decisions(decisions, decided):
    manifest = decided.with_name("m.tflite.json")
    described = json.loads(manifest.read_text())
    if decisions == {"rules": [{}]}:
        decisions = {**decisions, "sha256": described["sha256"]}
    manifest.write_text(json.dumps({**described, "decisions": decisions}))
    with pytest.raises(ValueError, match="decisions in the manifest are damaged|A rule must be on"):
        tfbnn.lite.Model(decided)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "Ask for sets and intervals with `coverage=`"),
        ({"coverage": 0.999}, "needs 999 labelled rows or more.*Received: 150 rows"),
        ({"risk": 0.01}, "needs 299 labelled rows or more.*Received: 150 rows"),
        ({"risk": 0.5, "tolerance": 1.0}, "`tolerance` is for real numbers"),
        ({"coverage": 0.8, "y": np.zeros(3)}, "the same number of rows.*150 rows of x"),
        ({"coverage": 0.8, "y": np.full(ROWS, 7)}, "`labels` must be from 0 to 2"),
    ],
)
def test_bad_arguments_leave_the_file_as_it_was(settings, message, tmp_path):
    path, (x, y) = exported("classes", tmp_path), data_of("classes")
    before = path.with_name("m.tflite.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        tfbnn.decide(path, **{"x": x, "y": y, **settings})
    assert path.with_name("m.tflite.json").read_bytes() == before


def test_formats_without_decisions(tmp_path):
    x, y = data_of("classes")
    tfbnn.export.saved_model(model_of("classes"), tmp_path / "saved", "none", check_data=x)
    with pytest.raises(ValueError, match="kept for `.tflite` files and for C.*'saved_model'"):
        tfbnn.decide(tmp_path / "saved", x, y, coverage=0.8)
    with pytest.raises(FileNotFoundError, match="There is no file .*nothing"):
        tfbnn.decide(tmp_path / "nothing", x, y, coverage=0.8)
