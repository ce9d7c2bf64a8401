"""`tfbnn.lite`: any number of rows, bad files, and a machine on which nothing else is installed."""

import copy
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import venv

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn

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
    tfbnn.export.tflite(
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


@pytest.mark.parametrize("text", ["{", "[1, 2]", "3"])
def test_damaged_manifest(text, copied):
    copied.with_name("m.tflite.json").write_text(text)
    with pytest.raises(ValueError, match="The manifest .*m.tflite.json is damaged"):
        tfbnn.lite.Model(copied)


def test_foreign_file(tmp_path):
    function = tf.function(lambda x: {"y": x + 1.0}, autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec((1, 3), tf.float32, name="x"))
    path = tmp_path / "foreign.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())
    with pytest.raises(ValueError, match="was not written by `tfbnn.export.tflite`"):
        tfbnn.lite.Model(path)


# In a process of its own: a bad file must not take the caller down with it.
_OPEN_ALL = """
import pathlib, sys
import numpy as np
import tfbnn.lite
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.tflite")):
    try:
        tfbnn.lite.Model(path).predict(np.ones((1, 5)))
        print(path.name, "ran")
    except ValueError as error:
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
    with pytest.raises(AttributeError, match="no output of this name.*'epistemic'"):
        answer.epistemic  # noqa: B018
