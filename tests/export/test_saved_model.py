"""The SavedModel against the Keras model, in this process and in one without tfbnn and Keras."""

import errno
import importlib
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfbnn
from tests.export import flat
from tfbnn.export import files, laws, sparse

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
saved_model_module = importlib.import_module("tfbnn.export.saved_model")


def randomised(model):
    rng = np.random.default_rng(0)
    for variable in model.weights:
        noise = rng.normal(size=variable.shape) * 0.2
        variable.assign(variable + (np.abs(noise) if "variance" in variable.path else noise))
    return model


def network(loss=LOGITS, outputs=3):
    family = tfbnn.families.Normal(0.3)
    inputs = keras.Input((8, 8, 2))
    x = tfbnn.layers.Convolution2DFlipout(4, 3, activation="relu", kernel_posterior=family)(inputs)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    x = tfbnn.layers.DenseFlipout(outputs, kernel_posterior=family, bias_posterior="normal")(x)
    model = tfbnn.Model(inputs, x)
    model.compile(loss=loss)
    return randomised(model)


def inputs_of(shape, rows=1000):
    return np.random.default_rng(1).normal(size=(rows, *shape)).astype(np.float32)


X = inputs_of((8, 8, 2))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A pruned model, its folder, and the folder's content as plain TensorFlow loads it."""
    model = tfbnn.prune(network(), sparsity=0.5)
    path = tmp_path_factory.mktemp("export") / "saved_model"
    flat.saved_model(model, path, num_samples=8, check_data=X)
    return model, path, tf.saved_model.load(str(path))


def test_mean_answers_as_keras_does(exported):
    model, _, loaded = exported
    answer = loaded.signatures["serving_default"](inputs=tf.constant(X))
    p = tf.nn.softmax(model(X)).numpy()
    np.testing.assert_allclose(answer["prediction"], p, atol=1e-4)
    entropy = -(p * np.log(np.maximum(p, 1e-38))).sum(-1)
    np.testing.assert_allclose(answer["uncertainty"], entropy, atol=1e-4)


def test_predict_repeats_with_its_seed(exported):
    loaded = exported[2]
    first, again, other = (
        loaded.predict(tf.constant(X[:5]), num_samples=4, seed=seed)["prediction"].numpy()
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_signature_draws_anew_at_each_call(exported):
    predict = exported[2].signatures["predict_with_uncertainty"]
    answers = [predict(inputs=tf.constant(X[:5]))["prediction"].numpy() for _ in range(2)]
    assert np.abs(answers[0] - answers[1]).max() > 1e-3


def test_draws_are_independent_of_the_seed_at_export(tmp_path):
    model, answers = network(), []
    for name in "ab":
        tf.random.set_seed(1)
        flat.saved_model(model, tmp_path / name, num_samples=1, check_data=X[:8])
        tf.random.set_seed(1)
        loaded = tf.saved_model.load(str(tmp_path / name))
        predict = loaded.signatures["predict_with_uncertainty"]
        answers.append(predict(inputs=tf.constant(X[:5]))["prediction"].numpy())
    assert np.abs(answers[0] - answers[1]).max() > 1e-3


def test_zscores_of_entropies(exported):
    model, _, loaded = exported
    rows, num_samples, groups = X[:50], 8, 64
    entropies = {
        "keras": [
            tfbnn.predict(model, rows, num_samples, seed=s).uncertainty for s in range(groups)
        ],
        "file": [
            loaded.predict(tf.constant(rows), num_samples, 1000 + s)["uncertainty"].numpy()
            for s in range(groups)
        ],
    }
    reference, ours = (np.stack(entropies[name]) for name in ("keras", "file"))
    # The rows of one call share networks: each row is compared over calls.
    difference = ours.mean(0) - reference.mean(0)
    z = difference / np.sqrt((ours.var(0, ddof=1) + reference.var(0, ddof=1)) / groups)
    assert np.abs(z).max() < 5
    log_ratio = np.log(ours.var(0) / reference.var(0))
    # The variance of the logarithm of a variance; an entropy's tails may be those of no normal.
    kurtosis = stats.kurtosis(np.concatenate([ours, reference]), fisher=False)
    assert np.abs(log_ratio / np.sqrt(2 * (kurtosis - 1) / groups)).max() < 5


def test_regression_with_a_learned_scale(tmp_path):
    model = network(tfbnn.losses.NormalNLL("learned"), outputs=2)
    flat.saved_model(model, tmp_path / "m", check_data=X[:64])
    answer = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"](
        inputs=tf.constant(X)
    )
    np.testing.assert_allclose(answer["prediction"], model(X), atol=1e-4)
    scale = np.tile(model.likelihood.loss.constant_scale(), [len(X), 1])
    np.testing.assert_allclose(answer["uncertainty"], scale, rtol=1e-4)


def test_mixed_precision_model_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = network()
    keras.config.set_dtype_policy("float32")
    manifest = flat.saved_model(model, tmp_path / "m", num_samples=4, check_data=X[:64])
    assert manifest["tolerance"] == 5e-3
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    p = tf.nn.softmax(tf.cast(model(X), tf.float32)).numpy()
    answer = loaded.signatures["serving_default"](inputs=tf.constant(X))["prediction"]
    np.testing.assert_allclose(answer, p, atol=5e-3)
    assert model.layers[1].compute_dtype == "float16"


# A process in which neither tfbnn nor Keras can be imported.
_PLAIN = """
import sys
sys.modules["tfbnn"] = sys.modules["keras"] = sys.modules["tf_keras"] = None
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
x = tf.constant(np.load(sys.argv[2]))
answers = [
    loaded.signatures["serving_default"](inputs=x),
    loaded.signatures["predict_with_uncertainty"](inputs=x),
    loaded.predict(x, num_samples=3, seed=4),
]
for answer in answers:
    print(answer["prediction"].numpy().tolist())
"""


def test_loads_without_tfbnn_and_keras(exported, tmp_path):
    model, path, loaded = exported
    np.save(tmp_path / "x.npy", X[:4])
    arguments = [sys.executable, "-c", _PLAIN, str(path), str(tmp_path / "x.npy")]
    run = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    mean, random, seeded = map(json.loads, run.stdout.splitlines())
    np.testing.assert_allclose(mean, tf.nn.softmax(model(X[:4])), atol=1e-4)
    np.testing.assert_allclose(np.sum(random, -1), 1.0, atol=1e-5)
    here = loaded.predict(tf.constant(X[:4]), num_samples=3, seed=4)["prediction"]
    np.testing.assert_allclose(seeded, here, atol=1e-5)


def test_manifest(exported):
    model, path, _ = exported
    manifest = json.loads(path.with_name("saved_model.json").read_text())
    assert manifest["format"] == "saved_model" and manifest["num_samples"] == 8
    assert manifest["sparsity"] == 0.5
    assert manifest["bytes"] == files.num_bytes(path)
    assert manifest["agreement"]["max_error"] <= manifest["tolerance"] == 1e-4
    assert manifest["agreement"]["rms_z"] < 2.5
    assert manifest["minimum_runtime"] == f"TensorFlow {tf.__version__}"
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "saved_model",
        "saved_model.json",
    ]


@pytest.mark.parametrize("uncertainty, share", [("none", 0.15), ("monte_carlo", 0.25)])
def test_share_of_the_bytes_of_a_keras_export(uncertainty, share, tmp_path):
    """The numbers of the 784-1200-1200-10 net are in benchmarks/export_size.py."""
    sizes = (784, 600, 600)
    layers = [tfbnn.layers.DenseFlipout(n, activation="relu") for n in sizes[1:]]
    model = tfbnn.Sequential([keras.Input(sizes[:1]), *layers, tfbnn.layers.DenseFlipout(10)])
    model.compile(loss=LOGITS)
    pruned = tfbnn.prune(randomised(model), sparsity=0.95)
    manifest = flat.saved_model(
        pruned, tmp_path / "ours", uncertainty=uncertainty, num_samples=2,
        check_data=inputs_of((784,), 8),
    )  # fmt: skip
    plain = [keras.layers.Dense(n, activation="relu") for n in sizes[1:]]
    plain = keras.Sequential([keras.Input(sizes[:1]), *plain, keras.layers.Dense(10)])
    plain.export(tmp_path / "keras", verbose=False)
    assert manifest["bytes"] <= share * files.num_bytes(tmp_path / "keras")
    # Keras 3.15 writes every variable twice; the share holds of one copy too.
    assert manifest["bytes"] <= share * 4 * plain.count_params()


@pytest.mark.parametrize("gap", [100, 70_000])
def test_sparse_weight_comes_back(gap):
    loc = np.zeros((gap, 3), np.float32)
    loc[0, 1], loc[-1, 2], loc[gap // 2, 0] = 1.0, 2.0, 3.0
    weight = sparse.SparseWeight(laws.FrozenWeight(loc, np.abs(loc)), with_scale=True)
    np.testing.assert_array_equal(weight.decode().mean(), loc)
    draw = weight.decode().sample([1, 2]).numpy()
    assert ((draw != 0) == (loc != 0)).all()


def test_sparse_weight_that_is_all_zero():
    zeros = np.zeros((4, 2), np.float32)
    weight = sparse.SparseWeight(laws.FrozenWeight(zeros, zeros), with_scale=True)
    np.testing.assert_array_equal(weight.decode().sample([1, 2]), zeros)


def test_sizes_that_vary_vary_in_the_folder_too(tmp_path):
    family = tfbnn.families.Normal(0.3)
    layers = [
        tfbnn.layers.Convolution1DFlipout(4, 2, kernel_posterior=family),
        keras.layers.GlobalMaxPooling1D(),
    ]
    layers += [tfbnn.layers.DenseFlipout(3, kernel_posterior=family)]
    model = tfbnn.Sequential([keras.Input((None, 2)), *layers])
    model.compile(loss=LOGITS)
    manifest = flat.saved_model(
        model, tmp_path / "m", num_samples=2, check_data=inputs_of((7, 2), 8)
    )
    assert manifest["input_shape"] == [None, None, 2]
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    for size in (2, 7, 30):
        x = inputs_of((size, 2), 8)
        answer = loaded.signatures["serving_default"](inputs=tf.constant(x))
        np.testing.assert_allclose(answer["prediction"], tf.nn.softmax(model(x)), atol=1e-5)
        drawn = loaded.predict(tf.constant(x), num_samples=3, seed=4)["prediction"]
        np.testing.assert_allclose(np.sum(drawn, -1), 1.0, atol=1e-5)


def test_a_full_disk_is_an_os_error(tmp_path):
    """A file system of 64 kB, where the tests may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    try:
        layers = [tfbnn.layers.DenseFlipout(64), tfbnn.layers.DenseFlipout(3)]
        model = tfbnn.Sequential([keras.Input((256,)), *layers])
        model.compile(loss=LOGITS)
        with pytest.raises(OSError, match="No space left.*nothing of it was kept") as caught:
            flat.saved_model(model, disk / "m", check_data=inputs_of((256,), 8))
        assert caught.value.errno == errno.ENOSPC
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


ERRORS = [tf.errors.ResourceExhaustedError, tf.errors.UnknownError, tf.errors.PermissionDeniedError]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_tensorflow_while_it_writes(error, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error(None, None, "variables; No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="No space left on device.*nothing of it") as caught:
        flat.saved_model(network(), tmp_path / "m", check_data=X[:4])
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_rows_that_the_model_cannot_take_are_an_error_in_its_words(tmp_path):
    layers = [keras.layers.Embedding(5, 3), keras.layers.Flatten(), tfbnn.layers.DenseFlipout(3)]
    model = tfbnn.Sequential([keras.Input((2,)), *layers])
    model.compile(loss=LOGITS)
    with pytest.raises(ValueError, match=r"take `check_data` \(indices\[0,0\] = 9 is not in \[0"):
        flat.saved_model(model, tmp_path / "m", check_data=np.full((4, 2), 9.0))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"uncertainty": "laplace"}, "one of .*'none'.*uncertainty='laplace'"),
        ({"num_samples": 0}, "at least 1.*num_samples=0"),
        ({"check_data": np.ones((3, 6))}, r"must have the shape \(rows, 8, 8, 2\).*\(3, 6\)"),
        ({"check_data": np.full((3, 8, 8, 2), np.inf)}, "`check_data` has NaN or infinite"),
        ({"check_data": None}, "pass `check_data=`"),
    ],
)
def test_bad_arguments(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        flat.saved_model(network(), tmp_path / "m", **{"check_data": X[:4]} | options)
    assert not list(tmp_path.iterdir())


def test_disagreement_leaves_nothing(tmp_path, monkeypatch):
    mean = sparse.DecodedWeight.mean
    monkeypatch.setattr(sparse.DecodedWeight, "mean", lambda weight: 1.5 * mean(weight))
    with pytest.raises(RuntimeError, match="disagrees with the Keras model.*predictions differ"):
        flat.saved_model(network(), tmp_path / "m", uncertainty="none", check_data=X[:32])
    assert not list(tmp_path.iterdir())


def test_wrong_noise_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sparse.DecodedWeight, "sample", lambda weight, _: weight.mean())
    with pytest.raises(RuntimeError, match="z-scores of .* third output on 32 rows"):
        flat.saved_model(network(), tmp_path / "m", check_data=X[:32])
    assert not list(tmp_path.iterdir())


def test_existing_folder(exported):
    model, path, _ = exported
    old = files.num_bytes(path)
    with pytest.raises(FileExistsError, match="exists and is not overwritten"):
        flat.saved_model(model, path, check_data=X[:4])
    assert files.num_bytes(path) == old


def test_a_graph_that_fails_is_an_error_that_says_so(tmp_path):
    """Of Keras' own `TimeDistributed`, where rows and steps are both unknown."""
    layers = [keras.layers.TimeDistributed(keras.layers.Dense(3)), tfbnn.layers.DenseFlipout(2)]
    model = tfbnn.Sequential([keras.Input((None, 2)), *layers])
    model.compile(loss=LOGITS)
    with pytest.raises(ValueError, match="graph fails.*Received: .*out of bounds.*TensorFlow"):
        flat.saved_model(model, tmp_path / "m", check_data=np.ones((9, 4, 2)))
    assert not list(tmp_path.iterdir())
