"""Decisions in C: the rules of the manifest, bit for bit, whatever the compiler may do."""

import functools
import json
import pathlib
import shutil
import subprocess
import tempfile

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn import lite_rules

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

ROWS = 120
LOSSES = {
    "classes": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 5),
    "yes or no": (keras.losses.BinaryCrossentropy(from_logits=True), 1),
    "several yes or no": (keras.losses.BinaryCrossentropy(from_logits=True), 3),
    "number": (tfbnn.losses.NormalNLL("head"), 2),
    "numbers": (tfbnn.losses.NormalNLL(0.5), 3),
}
FLAGS = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-march=native"]
COMPILERS = [one for one in ("gcc", "clang") if shutil.which(one)]

PROGRAM = """\
#include "net_decisions.h"

#include <stdio.h>

int main(void)
{
    static net_scratch scratch;
    static %(type)s input[NET_INPUT_SIZE];
    float prediction[NET_PREDICTION_SIZE];
    float uncertainty[NET_UNCERTAINTY_SIZE], third[NET_UNCERTAINTY_SIZE];
    while (fread(input, sizeof input, 1, stdin) == 1) {
        net_predict(input, prediction, uncertainty, third, &scratch);
        fwrite(prediction, sizeof prediction, 1, stdout);
        fwrite(uncertainty, sizeof uncertainty, 1, stdout);
        %(decide)s
    }
    return 0;
}
"""
DECIDE = {
    "set": """\
        unsigned char set[NET_SET_SIZE];
        const int count = net_set(prediction, set);
        fwrite(set, sizeof set, 1, stdout);
        fwrite(&count, sizeof count, 1, stdout);""",
    "interval": """\
        float lower[NET_PREDICTION_SIZE], upper[NET_PREDICTION_SIZE];
        net_interval(prediction, uncertainty, lower, upper);
        fwrite(lower, sizeof lower, 1, stdout);
        fwrite(upper, sizeof upper, 1, stdout);""",
    "accepted": """\
        const int accepted = net_accepted(uncertainty);
        fwrite(&accepted, sizeof accepted, 1, stdout);""",
}


@functools.cache
def model_of(name):
    keras.utils.set_random_seed(0)
    loss, units = LOSSES[name]
    layers = [tfbnn.layers.DenseFlipout(8, activation="relu"), tfbnn.layers.DenseFlipout(units)]
    model = tfbnn.Sequential([keras.Input((4,)), *layers])
    model.compile(loss=loss)
    return model


def rows_of(seed):
    return np.random.default_rng(seed).normal(size=(ROWS, 4)).astype(np.float32)


def labels_of(name, x):
    mean = tfbnn.predict(model_of(name), x, 8, seed=0, verbose=0).prediction
    if "number" in name:
        return mean + np.random.default_rng(0).normal(size=mean.shape)
    return mean.argmax(axis=-1) if name == "classes" else (mean > 0.5).astype(int)


@functools.cache
def written(name):
    """A folder of code, which every test copies."""
    folder = pathlib.Path(tempfile.mkdtemp()) / "net"
    tfbnn.export.c(model_of(name), folder, check_data=rows_of(0))
    return folder


def decided(name, folder, **settings):
    """The manifest of code with decisions, in a folder `net`."""
    shutil.copytree(written(name), folder / "net")
    x = rows_of(1)
    return tfbnn.decide(folder / "net", x, labels_of(name, x), **settings)


def answered(folder, described, compiler="cc"):
    """Prediction, uncertainty and what the C functions decide, of some rows."""
    names = [lite_rules.RULES[one["rule"]].name for one in described["decisions"]["rules"]]
    decide = "\n".join(DECIDE[name] for name in names)
    program = folder / "main.c"
    program.write_text(PROGRAM % {"type": "float", "decide": decide.strip()})
    sources = [str(program), str(folder / "net" / "net.c")]
    command = [compiler, *FLAGS, f"-I{folder / 'net'}", *sources, "-o", f"{folder / 'main'}", "-lm"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    rows = rows_of(2).tobytes()
    return subprocess.run([folder / "main"], input=rows, capture_output=True).stdout


def table_of(described, name, prediction_size, uncertainty_size):
    """The type of what one row writes."""
    classes = 5 if name == "classes" else 2 * prediction_size
    kinds = {
        "set": [("set", np.uint8, (classes,)), ("count", np.int32)],
        "interval": [("interval", np.float32, (2, prediction_size))],
        "accepted": [("accepted", np.int32)],
    }
    rules = [lite_rules.RULES[one["rule"]].name for one in described["decisions"]["rules"]]
    fields = [("prediction", np.float32, (prediction_size,))]
    fields += [("uncertainty", np.float32, (uncertainty_size,))]
    return np.dtype(fields + [field for rule in rules for field in kinds[rule]])


SETTINGS = {
    "classes": {"coverage": 0.9, "risk": 0.3},
    "yes or no": {"coverage": 0.9, "risk": 0.3},
    "several yes or no": {"coverage": 0.8},
    "number": {"coverage": 0.9, "risk": 0.4, "tolerance": 1.5},
    "numbers": {"coverage": 0.9},
}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", LOSSES)
def test_the_code_decides_as_the_rules_do(name, compiler, tmp_path):
    described = decided(name, tmp_path, **SETTINGS[name])
    answers = answered(tmp_path, described, compiler)
    uncertainty_size = 1 if name == "classes" else model_of(name).output_shape[-1]
    uncertainty_size = 1 if name == "number" else uncertainty_size
    size = 1 if name == "number" else model_of(name).output_shape[-1]
    found = np.frombuffer(answers, table_of(described, name, size, uncertainty_size))
    assert len(found) == ROWS
    for config in described["decisions"]["rules"]:
        rule = lite_rules.rule_of(config)
        expected = rule(found["prediction"], found["uncertainty"])
        if rule.name == "interval":
            expected = np.moveaxis(expected, 0, 1)
        expected = expected.reshape(found[rule.name].shape)
        np.testing.assert_array_equal(found[rule.name], expected)
        if rule.name == "set":
            np.testing.assert_array_equal(found["count"], expected.sum(axis=-1))
        if rule.name == "accepted":
            assert described["decisions"]["num_kept"] > 0


@pytest.mark.parametrize("num_unpenalised", [0, 2])
def test_penalised_sets(num_unpenalised, tmp_path):
    settings = {"coverage": 0.9, "penalty": 0.07, "num_unpenalised": num_unpenalised}
    described = decided("classes", tmp_path, **settings)
    found = np.frombuffer(answered(tmp_path, described), table_of(described, "classes", 5, 1))
    (rule,) = map(lite_rules.rule_of, described["decisions"]["rules"])
    np.testing.assert_array_equal(found["set"], rule(found["prediction"], None))


def test_thresholds_of_another_network_do_not_compile(tmp_path):
    described = decided("classes", tmp_path, coverage=0.9)
    other = tfbnn.clone_model(model_of("classes"))
    kernel = other.layers[0].kernel.loc_variable
    kernel.assign(kernel * 1.1)
    tfbnn.export.c(other, tmp_path / "net", check_data=rows_of(0), overwrite=True)
    with pytest.raises(RuntimeError, match="the thresholds are of another network than net.h"):
        answered(tmp_path, described)
    manifest = json.loads((tmp_path / "net" / "net.json").read_text())
    assert "decisions" not in manifest


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros((5, 3)), r"`x` must have the shape \(rows, 4\).*x of shape \(5, 3\)"),
        (np.zeros((0, 4)), r"`x` must have the shape \(rows, 4\)"),
        (np.full((5, 4), np.nan), "`x`.*NaN"),
        ([["a"] * 4], "`x` must be an array of real numbers"),
    ],
)
def test_bad_inputs(x, message, tmp_path):
    shutil.copytree(written("classes"), tmp_path / "net")
    with pytest.raises(ValueError, match=message):
        tfbnn.decide(tmp_path / "net", x, np.zeros(len(x), int), coverage=0.5)
    assert not (tmp_path / "net" / "net_decisions.h").exists()


def test_code_that_changed_is_an_error(tmp_path):
    shutil.copytree(written("classes"), tmp_path / "net")
    with open(tmp_path / "net" / "net.c", "a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match="net.c is not the file that its manifest net.json desc"):
        tfbnn.decide(tmp_path / "net", rows_of(0), np.zeros(ROWS, int), coverage=0.5)
