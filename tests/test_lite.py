"""`tfbnn.lite`: any number of rows, bad files, and a machine on which nothing else is installed."""

import copy
import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import venv

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.export import flat

REPOSITORY = pathlib.Path(tfbnn.__file__).parents[1]


def inputs_of(rows):
    return np.random.default_rng(1).normal(size=(rows, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a file at the posterior mean, 4 rows a call, and its manifest."""
    keras.utils.set_random_seed(0)
    layers = [tfbnn.layers.DenseFlipout(64, activation="relu"), tfbnn.layers.DenseFlipout(3)]
    model = tfbnn.Sequential([keras.Input((5,)), *layers])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    folder = tmp_path_factory.mktemp("exported")
    flat.tflite(
        model, folder / "m.tflite", uncertainty="none", batch_size=4, check_data=inputs_of(8)
    )
    return folder


@pytest.fixture
def copied(exported, tmp_path):
    """The same in a folder of the test's own."""
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    return tmp_path / "m.tflite"


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_any_number_of_rows(rows, exported):
    model = tfbnn.lite.Model(exported / "m.tflite")
    prediction, uncertainty = model.predict(inputs_of(9)[:rows])
    assert prediction.shape == (rows, 3) and uncertainty.shape == (rows,)
    whole = model.predict(inputs_of(9))
    np.testing.assert_allclose(prediction, whole[0][:rows], rtol=1e-6)
    np.testing.assert_allclose(uncertainty, whole[1][:rows], rtol=1e-6)


def test_answers_do_not_change_later(exported):
    model = tfbnn.lite.Model(exported / "m.tflite", num_threads=2)
    first = model.predict(inputs_of(4))[0]
    kept = first.copy()
    model.predict(inputs_of(8)[4:])
    np.testing.assert_array_equal(first, kept)


def test_inputs_are_converted(exported):
    model = tfbnn.lite.Model(exported / "m.tflite")
    expected = model.predict(np.ones((2, 5), np.float32))[0]
    for x in (np.ones((2, 5)), np.ones((2, 5), np.uint8), [[1] * 5] * 2, np.ones((2, 10))[:, ::2]):
        np.testing.assert_array_equal(model.predict(x)[0], expected)


def test_the_parts_of_the_uncertainty_have_one_name_for_both_kinds(exported):
    answer = tfbnn.lite.Model(exported / "m.tflite").predict(inputs_of(4))
    assert answer.epistemic is answer.mutual_information
    np.testing.assert_allclose(answer.aleatoric + answer.epistemic, answer[1], atol=1e-6)
    total, part = np.array([[5.0, 1.0]]), np.array([[3.0, 1.1]])
    numbers = tfbnn.lite.Answer({"prediction": total, "uncertainty": total, "epistemic": part})
    assert numbers.epistemic is part
    # Not NaN where rounding makes the part larger than the whole.
    np.testing.assert_allclose(numbers.aleatoric, [[4.0, 0.0]])


def test_manifest_is_read(exported):
    model = tfbnn.lite.Model(exported / "m.tflite")
    assert model.manifest["uncertainty"] == "predictive entropy, nats"
    assert model.input_shape == (4, 5)


@pytest.mark.parametrize(
    "x, message",
    [
        (np.ones((2, 4)), r"must have the shape \(rows, 5\).*x.shape=\(2, 4\)"),
        (np.ones(5), r"must have the shape \(rows, 5\).*x.shape=\(5,\)"),
        (np.ones((0, 5)), r"must have the shape \(rows, 5\).*x.shape=\(0, 5\)"),
        (1.0, r"must have the shape"),
        (np.full((2, 5), np.nan), "NaN or infinite elements.*10 of 10"),
        (np.full((2, 5), np.inf), "NaN or infinite elements"),
        (np.full((2, 5), 1e300), "NaN or infinite elements"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_bad_inputs(x, message, exported):
    with pytest.raises(ValueError, match=message):
        tfbnn.lite.Model(exported / "m.tflite").predict(x)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*m.tflite"):
        tfbnn.lite.Model(tmp_path / "m.tflite")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        tfbnn.lite.Model(tmp_path)


def test_model_without_a_manifest_runs(copied):
    copied.with_name("m.tflite.json").unlink()
    model = tfbnn.lite.Model(copied)
    assert model.manifest is None
    assert model.predict(inputs_of(2))[0].shape == (2, 3)


def test_altered_file(copied):
    content = bytearray(copied.read_bytes())
    content[len(content) // 2] ^= 1
    copied.write_bytes(content)
    with pytest.raises(ValueError, match="is not the file that its manifest m.tflite.json desc"):
        tfbnn.lite.Model(copied)


MANIFESTS = {
    "cut off": b"{",
    "empty": b"",
    "an array": b"[1, 2]",
    "an array of pairs": b'[["sha256", "0"]]',
    "a number": b"3",
    "deep": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": b'{"a":' * 200_000,
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "another encoding": '{"a": 1}'.encode("utf-16"),
    "a number of many digits": b'{"bytes": ' + b"9" * 10_000 + b"}",
    "huge": b'{"a": "' + b"x" * 2**24 + b'"}',
}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS)
def test_damaged_manifest(content, copied):
    copied.with_name("m.tflite.json").write_bytes(content)
    with pytest.raises(ValueError, match="The manifest .*m.tflite.json is damaged"):
        tfbnn.lite.Model(copied)


@pytest.mark.parametrize("kind", ["a folder", "a link to nothing", "a loop", "a pipe"])
def test_a_manifest_that_is_no_file(kind, copied):
    # As if there were none, the file would go unchecked.
    manifest = copied.with_name("m.tflite.json")
    manifest.unlink()
    if kind == "a folder":
        manifest.mkdir()
    elif kind == "a pipe":
        os.mkfifo(manifest)
    else:
        manifest.symlink_to(manifest if kind == "a loop" else copied.with_name("nothing"))
    with pytest.raises(ValueError, match="The manifest .*m.tflite.json is damaged or cannot be"):
        tfbnn.lite.Model(copied)


_MISSING = object()


@pytest.mark.parametrize("checksum", [_MISSING, None, 0, "", [], {}, True, ["0"], 1.5])
def test_a_manifest_without_its_checksum(checksum, copied):
    manifest = copied.with_name("m.tflite.json")
    facts = json.loads(manifest.read_text()) | {"sha256": checksum}
    if checksum is _MISSING:
        del facts["sha256"]
    manifest.write_text(json.dumps(facts))
    match = "m.tflite.json has no checksum|is not the file that its manifest"
    with pytest.raises(ValueError, match=match):
        tfbnn.lite.Model(copied)


@pytest.mark.parametrize("facts", [{"bytes": "many"}, {"bytes": None}, {"bytes": {}}, {}])
def test_numbers_of_a_manifest_are_not_relied_on(facts, copied):
    manifest = copied.with_name("m.tflite.json")
    whole = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({"sha256": whole["sha256"], **facts}))
    assert tfbnn.lite.Model(copied).predict(inputs_of(2))[0].shape == (2, 3)
    copied.write_bytes(copied.read_bytes() + b" ")
    with pytest.raises(ValueError, match="is not the file that its manifest"):
        tfbnn.lite.Model(copied)


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", None, True])
def test_threads_are_a_number(number, exported):
    with pytest.raises(ValueError, match=f"`num_threads` must be .*num_threads={number!r}"):
        tfbnn.lite.Model(exported / "m.tflite", number)


def _written(path, function, dtype=tf.float32):
    """A file of a function, which takes one row of three numbers."""
    module = tf.Module()
    module.function = tf.function(function, autograph=False)
    graph = module.function.get_concrete_function(tf.TensorSpec((1, 3), dtype, name="x"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    path.write_bytes(converter.convert())


@pytest.mark.parametrize(
    "function, dtype, match",
    [
        (lambda x: {"prediction": x, "uncertainty": x[0, 0]}, tf.float32, "'uncertainty' of shape"),
        (
            lambda x: {"prediction": x, "uncertainty": tf.cast(x[:, 0], tf.int32)},
            tf.float32,
            "'uncertainty' of shape .*int32",
        ),
        (
            lambda x: {"prediction": 1.0 * tf.cast(x, tf.float32), "uncertainty": x[:, 0]},
            tf.int64,
            "inputs of shapes .*int64",
        ),
        (
            # An index beyond the end: what a change of one constant makes of a sound file.
            lambda x: {
                "prediction": tf.gather(x, tf.cast(x[0, :1], tf.int32) + 7, axis=1),
                "uncertainty": x[:, 0],
            },
            tf.float32,
            "cannot be run by LiteRT; it is damaged",
        ),
    ],
    ids=["a scalar", "whole numbers", "an input of whole numbers", "an index beyond the end"],
)
def test_a_file_that_is_none_of_ours_is_found_when_it_is_opened(function, dtype, match, tmp_path):
    path = tmp_path / "other.tflite"
    _written(path, function, dtype=dtype)
    with pytest.raises(ValueError, match=f"{path} cannot be r.*LiteRT; it is damaged") as caught:
        tfbnn.lite.Model(path)
    assert re.search(match, str(caught.value))


def test_an_error_of_the_runtime_in_predict_names_the_file(exported, monkeypatch):
    model = tfbnn.lite.Model(exported / "m.tflite")

    def fail(**inputs):
        raise RuntimeError("Node number 3 (GATHER) failed to invoke.")

    monkeypatch.setattr(model, "_runner", fail)
    with pytest.raises(ValueError, match=r"m.tflite cannot be run by LiteRT.*\(Node number 3"):
        model.predict(inputs_of(2))


def test_foreign_file(tmp_path):
    path = tmp_path / "foreign.tflite"
    _written(path, lambda x: {"y": x + 1.0})
    with pytest.raises(ValueError, match="was not written by `tfbnn.export.tflite`"):
        tfbnn.lite.Model(path)


# In a process of its own: a bad file must not take the caller down with it.
_OPEN_ALL = """
import pathlib, sys
import numpy as np
import tfbnn.lite
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.tflite")):
    try:
        model = tfbnn.lite.Model(path)
    except ValueError as error:
        assert path.name in str(error), error
        print(path.name, "ValueError", error)
        continue
    try:
        model.predict(np.ones((1, 5)))
        print(path.name, "ran")
    except ValueError as error:
        assert "must have the shape" in str(error) or path.name in str(error), error
        print(path.name, "ValueError", error)
"""


def test_corrupt_files_do_not_crash_the_process(exported, tmp_path):
    content = (exported / "m.tflite").read_bytes()
    rng = np.random.default_rng(0)
    bad = {f"truncated{n}": content[: len(content) * n // 10] for n in range(10)}
    bad |= {f"random{n}": content[:8] + rng.bytes(len(content)) for n in range(5)}
    bad["noise"] = rng.bytes(1000)
    for n in range(30):
        altered = np.frombuffer(content, np.uint8).copy()
        altered[rng.integers(8, len(content), 20)] = rng.integers(0, 256, 20)
        bad[f"altered{n}"] = altered.tobytes()
    for name, data in bad.items():
        (tmp_path / f"{name}.tflite").write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", _OPEN_ALL, str(tmp_path)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    lines = run.stdout.splitlines()
    assert len(lines) == len(bad)
    # Without a manifest a change of the stored numbers alone is not seen.
    assert all("ValueError" in line for line in lines if not line.startswith("altered"))
    assert "is not a LiteRT model" in next(line for line in lines if line.startswith("noise"))


_ON_A_DEVICE = """
import sys
try:
    import tensorflow
    sys.exit("tensorflow is installed")
except ModuleNotFoundError:
    pass
import {module}
import numpy as np
prediction, uncertainty = {module}.Model(sys.argv[1]).predict(np.load(sys.argv[2]))
np.savez(sys.argv[3], prediction=prediction, uncertainty=uncertainty)
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
"""


@pytest.mark.slow
def test_fresh_environment(exported, copied, tmp_path):
    """numpy and ai-edge-litert alone: the one file copied, and the package without dependencies."""
    environment = tmp_path / "venv"
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    # The tests' own pip, where they have one: to unpack another takes longer than to use it.
    installer = [sys.executable, "-m", "pip", "--python", python]
    borrowed = not subprocess.run([*installer[:3], "--version"], capture_output=True).returncode
    venv.create(environment, with_pip=not borrowed)
    if not borrowed:
        installer = [python, "-m", "pip"]

    def pip(*arguments):
        command = [*installer, "install", "--quiet", "--no-compile", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    installed = pip("numpy", "ai-edge-litert")
    if installed.returncode:
        pytest.skip(f"pip cannot install (no network?): {installed.stderr.strip()[-200:]}")
    shutil.copy(REPOSITORY / "tfbnn" / "lite.py", tmp_path)
    np.save(tmp_path / "x.npy", inputs_of(6))
    expected = tfbnn.lite.Model(exported / "m.tflite").predict(inputs_of(6))
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def check(module):
        code = _ON_A_DEVICE.format(module=module)
        arguments = [python, "-c", code, copied, tmp_path / "x.npy", tmp_path / "answer.npz"]
        run = subprocess.run(arguments, cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        answer = np.load(tmp_path / "answer.npz")
        np.testing.assert_allclose(answer["prediction"], expected[0], rtol=1e-6)
        np.testing.assert_allclose(answer["uncertainty"], expected[1], rtol=1e-6)

    check("lite")
    # A copy: pip builds inside the folder that it is given.
    ignored = shutil.ignore_patterns(".git", "tests", "saved_models", "*.egg-info", "build")
    shutil.copytree(REPOSITORY, tmp_path / "source", ignore=ignored)
    package = pip("--no-deps", str(tmp_path / "source"))
    assert package.returncode == 0, package.stderr[-2000:]
    check("tfbnn.lite")


def test_manifest_is_plain_json(exported):
    text = (exported / "m.tflite.json").read_text()
    assert json.loads(text)["input_shape"] == [None, 5]


def test_an_answer_can_be_copied_and_pickled(exported):
    answer = tfbnn.lite.Model(exported / "m.tflite").predict(inputs_of(3))
    for other in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        np.testing.assert_array_equal(other.mutual_information, answer.mutual_information)
        np.testing.assert_array_equal(other[1], answer.uncertainty)
    np.testing.assert_array_equal(answer.epistemic, answer.mutual_information)
    with pytest.raises(AttributeError, match="no output of this name.*'variance'"):
        answer.variance  # noqa: B018
