"""C code against Keras, and against the formulas in NumPy."""

import ctypes
import json
import re
import shutil
import subprocess
import threading

import keras
import numpy as np
import pytest

import tfbnn
from tests.export.c_source import models, reference
from tfbnn.export.c_source import compilation, exporter
from tfbnn.export.c_source.compilation import CompiledNetwork, compile_network

pytestmark = pytest.mark.skipif(
    compilation.compiler() is None, reason="there is no C compiler `cc` to run the code"
)
ROWS = 1000


def exported(model, shape, folder, x=None, **options):
    """The manifest and a function that runs the code."""
    x = models.inputs_of(shape) if x is None else x
    options = {"check_data": x, "tolerance": options.pop("tolerance", None), **options}
    manifest = tfbnn.export.c(model, folder, **options)
    return manifest, running(model, folder, options.get("input_type", "float32"))


def running(model, folder, input_type="float32", flags=None):
    build = folder.parent / f"build_{len(list(folder.parent.iterdir()))}"
    build.mkdir()
    flags = compilation.FLAGS if flags is None else flags
    program = compile_network(folder, build, folder.name, flags)
    examples = models.inputs_of(model.input_shape[1:], 2)
    shapes = [answer.shape[1:] for answer in reference.answers_of(model, examples, "none")]
    return CompiledNetwork(program, input_type, shapes).answers


def close(found, expected, tolerance=1e-4):
    """Each of the three answers is within the tolerance of the largest."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        size = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_mean_is_that_of_keras(name, tmp_path):
    shape, make = models.MODELS[name]
    model, x = make(), models.inputs_of(shape)
    _, run = exported(model, shape, tmp_path / "net", uncertainty="none")
    found = run(x)
    close(found, reference.answers_of(model, x, "none"))
    keras_output = model.predict(x, verbose=0)
    likelihood = model.likelihood
    parameters = likelihood.parameters(keras_output)
    np.testing.assert_allclose(found[0], parameters[0].numpy(), rtol=0, atol=1e-4)
    assert not found[2].any()


@pytest.mark.parametrize("name", models.MODELS)
def test_moments_are_those_of_the_formulas(name, tmp_path):
    shape, make = models.MODELS[name]
    model, x = make(), models.inputs_of(shape)
    _, run = exported(model, shape, tmp_path / "net")
    close(run(x), reference.answers_of(model, x))


ENCODED = ["normal bias", "pruned", "pruned convolution", "groups", "shared"]


@pytest.mark.parametrize("scale", ["full", "rank_one", "unit"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", ENCODED)
def test_every_encoding_of_weights_and_variances(name, precision, scale, tmp_path):
    shape, make = models.MODELS[name]
    model, x = make(), models.inputs_of(shape)
    _, run = exported(model, shape, tmp_path / "net", precision=precision, scale=scale)
    close(run(x), reference.answers_of(model, x, "moments", precision, scale))


@pytest.mark.parametrize("name", ENCODED)
def test_int8_at_the_mean(name, tmp_path):
    shape, make = models.MODELS[name]
    model, x = make(), models.inputs_of(shape)
    _, run = exported(model, shape, tmp_path / "net", precision="int8", uncertainty="none")
    found = run(x)
    close(found, reference.answers_of(model, x, "none", "int8"))
    close(found[:1], reference.answers_of(model, x, "none")[:1], 0.05)


# Largest mean difference to 512 networks drawn in Keras: of probabilities, half their sum; of real
# numbers, in standard deviations; and of the uncertainty, relative to its mean. Draws scatter by
# about 0.02 of a standard deviation; the rest is the approximation of moments.
@pytest.mark.parametrize(
    "name", ["dense", "pruned", "pruned convolution", "residual", "maximum", "tanh", "fixed scale"]
)
def test_moments_come_near_to_the_truth(name, tmp_path):
    shape, make = models.MODELS[name]
    model, x = make(), models.inputs_of(shape, 200)
    _, run = exported(model, shape, tmp_path / "net")
    prediction, uncertainty, third = run(x)
    truth = tfbnn.predict(model, x, num_samples=512, seed=0, verbose=0)
    unit = truth.uncertainty.mean() if name == "fixed scale" else 2.0
    assert np.abs(prediction - truth.prediction).sum(-1).mean() / unit < 0.03
    assert np.abs(uncertainty - truth.uncertainty).mean() < 0.05 * truth.uncertainty.mean()
    expected = truth.epistemic if name == "fixed scale" else truth.mutual_information
    assert np.abs(third - expected).mean() < 0.4 * expected.mean()


def test_bytes_as_inputs(tmp_path):
    model = models.sequential(
        (8, 8, 1),
        keras.layers.Rescaling(1 / 255),
        models.convolution(2, 4, 3),
        models.flatten(),
        models.dense(3),
    )
    x = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8, 1))
    manifest, run = exported(model, (8, 8, 1), tmp_path / "net", x, input_type="uint8")
    assert manifest["input_type"] == "uint8"
    assert "const uint8_t *input" in (tmp_path / "net" / "net.h").read_text()
    close(run(x), reference.answers_of(model, x))


@pytest.mark.parametrize("num_points", [2, 16, 256])
def test_number_of_points(num_points, tmp_path):
    shape, make = models.MODELS["dense"]
    model, x = make(), models.inputs_of(shape)
    _, run = exported(model, shape, tmp_path / "net", num_points=num_points)
    close(run(x), reference.answers_of(model, x, num_points=num_points))


def test_mixed_precision_model(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = models.sequential((5,), models.dense(8, activation="relu"), models.dense(3))
    keras.config.set_dtype_policy("float32")
    x = models.inputs_of((5,))
    manifest, run = exported(model, (5,), tmp_path / "net", uncertainty="none")
    assert manifest["tolerance"] == 5e-3
    close(run(x)[:1], reference.answers_of(model, x, "none")[:1], 5e-3)


# The quality of the code.

GATES = {
    "pruned": {"scale": "full"},
    "pruned to gaps above 255": {"precision": "int8"},
    "groups": {"precision": "int8", "scale": "rank_one"},
    "residual": {},
    "branches": {"scale": "unit"},
    "padding": {"uncertainty": "none"},
    "predicted scale": {},
}


def gate(name, tmp_path):
    shape, make = models.MODELS[name]
    model = make()
    tfbnn.export.c(model, tmp_path / "net", check_data=models.inputs_of(shape, 64), **GATES[name])
    return model, tmp_path / "net"


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", GATES)
def test_no_compiler_warns(name, compiler, tmp_path, monkeypatch):
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"{compiler} is not installed")
    model, folder = gate(name, tmp_path)
    monkeypatch.setattr(compilation, "compiler", lambda: path)
    flags = [*compilation.FLAGS, "-Wshadow", "-Wstrict-prototypes", "-Wcast-qual"]
    x = models.inputs_of(model.input_shape[1:], 64)
    found = running(model, folder, flags=flags)(x)
    close(found, running(model, folder, flags=["-std=c99", "-O0"])(x), 1e-5)


@pytest.mark.parametrize("name", GATES)
def test_sanitizers_find_nothing(name, tmp_path):
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["cc", *flags, "-o", tmp_path / "probe", probe]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("the compiler has no sanitizers")
    model, folder = gate(name, tmp_path)
    run = running(model, folder, flags=flags)
    answers = run(models.inputs_of(model.input_shape[1:], 64))
    assert all(np.isfinite(answer).all() for answer in answers)


@pytest.mark.parametrize("name", GATES)
def test_nothing_is_allocated_or_kept(name, tmp_path):
    _, folder = gate(name, tmp_path)
    build = tmp_path / "objects"
    build.mkdir()
    compile_network(folder, build, "net")
    listed = subprocess.run(["nm", build / "net.o"], capture_output=True, text=True, check=True)
    symbols = [line.split()[-2:] for line in listed.stdout.splitlines()]
    assert [name for kind, name in symbols if kind == "T"] == ["net_predict"]
    assert not [name for kind, name in symbols if kind in "dDbBC"]
    outside = {name for kind, name in symbols if kind == "U"}
    of_libm = {"expf", "logf", "sqrtf", "erff", "log1pf", "tanhf", "expm1f"}
    # Compilers replace loops that copy and fill, and options of a system check the stack.
    assert outside <= of_libm | {"memcpy", "memset", "memmove", "__stack_chk_fail"}
    assert "alloc" not in (folder / "net.c").read_text()


def library(folder, tmp_path):
    path = tmp_path / "libnet.so"
    command = ["cc", "-std=c99", "-O2", "-shared", "-fPIC", "-o", path, folder / "net.c", "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(path))


def test_threads_with_scratches_of_their_own(tmp_path):
    model, folder = gate("residual", tmp_path)
    x = models.inputs_of(model.input_shape[1:], ROWS)
    alone = running(model, folder)(x)
    predict = library(folder, tmp_path).net_predict
    header = (folder / "net.h").read_text()
    floats = int(re.search(r"float buffer\[(\d+)\]", header)[1])
    found = [[np.zeros_like(part) for part in alone] for _ in range(2)]
    together = threading.Barrier(2)

    def work(answers):
        scratch = np.empty(floats, np.float32)
        together.wait()
        for row, inputs in enumerate(x):
            outputs = [part[row : row + 1] for part in answers]
            predict(*[a.ctypes.data_as(ctypes.c_void_p) for a in (inputs, *outputs, scratch)])

    threads = [threading.Thread(target=work, args=(answers,)) for answers in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answers in found:
        for one, other in zip(answers, alone, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_same_files_and_the_same_answers_each_time(tmp_path):
    shape, make = models.MODELS["pruned"]
    model = make()
    texts = []
    for name in ("one", "two"):
        exported(model, shape, tmp_path / name / "net")
        folder = tmp_path / name / "net"
        texts.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert texts[0] == texts[1]
    x = np.repeat(models.inputs_of(shape, 1), 5, axis=0)
    for answer in running(model, tmp_path / "one" / "net")(x):
        assert (answer == answer[0]).all()


def test_the_makefile(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    _, folder = gate("pruned", tmp_path)

    def make(*targets):
        return subprocess.run(["make", *targets], cwd=folder, capture_output=True, text=True)

    assert make("test").stdout.rstrip().endswith("PASS")
    assert float(make("-s", "benchmark").stdout) > 0
    assert "net_predict" in make("-B", "stack").stdout or shutil.which("gcc") is None
    text = (folder / "test_net.c").read_text()
    changed = re.sub(r"(expected_prediction\[\d+\] = \{\s+)[^,]+", r"\g<1>9.0f", text)
    (folder / "test_net.c").write_text(changed)
    ended = make("test")
    assert ended.returncode and "FAIL" in ended.stdout
    make("clean")
    assert len(list(folder.iterdir())) == 5


def test_values_share_the_scratch(tmp_path):
    # 64 units in each of 6 layers: two at a time, each a mean and a variance.
    layers = [models.dense(64, activation="relu") for _ in range(6)]
    model = models.sequential((8,), *layers, models.dense(3))
    manifest, _ = exported(model, (8,), tmp_path / "net")
    assert manifest["scratch_bytes"] == 4 * 2 * 2 * 64
    header = (tmp_path / "net" / "net.h").read_text()
    assert re.search(rf"NET_SCRATCH_BYTES +{manifest['scratch_bytes']}\n", header)
    assert re.search(rf"NET_WEIGHT_BYTES +{manifest['weight_bytes']}\n", header)


def test_pruned_and_coarse_files_are_smaller(tmp_path):
    shape = (300,)
    sizes = []
    for sparsity, options in [
        (0.0, {}),
        (0.9, {}),
        (0.9, {"precision": "int8"}),
        (0.9, {"precision": "int8", "scale": "rank_one"}),
        (0.9, {"precision": "int8", "scale": "unit"}),
        (0.9, {"precision": "int8", "uncertainty": "none"}),
    ]:
        model = models.sequential(shape, models.dense(100), models.dense(3), sparsity=sparsity)
        manifest, _ = exported(model, shape, tmp_path / f"net{len(sizes)}", **options)
        sizes.append(manifest["weight_bytes"])
    assert sizes == sorted(sizes, reverse=True)
    # A tenth of the weights; mean, variance and gap of each take 9 bytes in place of 8.
    assert sizes[1] < 0.13 * sizes[0]


def test_manifest(tmp_path):
    shape, make = models.MODELS["dense"]
    manifest, _ = exported(
        make(), shape, tmp_path / "net", class_names=["a", "b", "*/"], preprocessing="none"
    )
    assert json.loads((tmp_path / "net" / "net.json").read_text()) == manifest
    assert manifest["format"] == "c" and manifest["mode"] == "moments"
    assert manifest["agreement"]["rows"] == 256
    assert manifest["stack_bytes"] is None or 0 < manifest["stack_bytes"] < 4096
    assert manifest["class_names"] == ["a", "b", "*/"]
    assert "Classes: a, b, * /" in (tmp_path / "net" / "net.h").read_text()


# Errors.


def small(tmp_path, **options):
    shape, make = models.MODELS["dense"]
    return tfbnn.export.c(
        make(), tmp_path / "net", check_data=models.inputs_of(shape, 16), **options
    )


def test_without_a_compiler_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "compiler", lambda: None)
    for uncertainty in ("none", "moments"):
        manifest = small(tmp_path, uncertainty=uncertainty, overwrite=True)
        assert manifest["agreement"] is None and manifest["stack_bytes"] is None
        subprocess.run(["cc", "-o", "t", "test_net.c", "net.c", "-lm"], cwd=tmp_path / "net")
        ended = subprocess.run([tmp_path / "net" / "t"], capture_output=True, text=True)
        assert "PASS" in ended.stdout


@pytest.mark.parametrize(
    "options, message",
    [
        ({"uncertainty": "monte_carlo"}, "`uncertainty` must be one of.*'monte_carlo'"),
        ({"precision": "float16"}, "`precision` must be one of.*'float16'"),
        ({"scale": "half"}, "`scale` must be one of.*'half'"),
        ({"input_type": "int8"}, "`input_type` must be one of.*'int8'"),
        ({"num_points": 7}, "even and at least 2. Received: num_points=7"),
        ({"input_type": "uint8"}, "whole numbers from 0 to 255.*Received: check_data from"),
    ],
)
def test_bad_arguments(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        small(tmp_path, **options)
    assert not (tmp_path / "net").exists()


def test_a_name_that_is_none_in_c(tmp_path):
    with pytest.raises(ValueError, match="begins all names in C.*'3-nets'"):
        tfbnn.export.c(models.MODELS["dense"][1](), tmp_path / "3-nets")


UNSUPPORTED = {
    "layer": ((4, 3), [keras.layers.LSTM(3), models.flatten()], r"'lstm.*\(LSTM\).*tflite"),
    "activation": ((4,), [keras.layers.Activation("mish")], "'activation.*activation='mish'"),
    "softmax inside": ((4,), [keras.layers.Softmax()], "softmax at the end"),
    "cap and slope": (
        (4,), [keras.layers.ReLU(max_value=1, negative_slope=0.1)], "negative_slope=0.1"
    ),
    "threshold": ((4,), [keras.layers.ReLU(threshold=1.0)], "threshold=0. Received: thresh"),
    "three dimensions": (
        (3, 3, 3, 1), [models.convolution(3, 2, 2), models.flatten()], "three dimensions"
    ),
    "unknown size": ((None, 3), [keras.layers.GlobalMaxPooling1D()], r"without None.*\(None, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_there_is_no_c_for_is_named(name, tmp_path):
    shape, layers, message = UNSUPPORTED[name]
    model = models.sequential(shape, *layers, models.dense(3))
    x = models.inputs_of(tuple(size or 4 for size in shape), 4)
    with pytest.raises(ValueError, match=message):
        tfbnn.export.c(model, tmp_path / "net", check_data=x)
    assert not (tmp_path / "net").exists()


def test_random_outputs_that_are_no_probabilities(tmp_path):
    model = models.sequential((4,), models.dense(3), loss=models.PROBABILITIES)
    with pytest.raises(ValueError, match="must end in a softmax.*from_logits=False"):
        tfbnn.export.c(model, tmp_path / "net", check_data=models.inputs_of((4,), 4))


@pytest.mark.parametrize("uncertainty", ["none", "moments"])
def test_wrong_code_is_found_and_removed(uncertainty, tmp_path, monkeypatch):
    right = exporter.Translator._encoded

    def wrong(self, layer, loc, *others):
        return right(self, layer, -loc, *others)

    monkeypatch.setattr(exporter.Translator, "_encoded", wrong)
    with pytest.raises(RuntimeError, match="disagrees with the Keras model, and was removed"):
        small(tmp_path, uncertainty=uncertainty)
    assert not list((tmp_path / "net").iterdir())


def test_existing_files_are_kept_unless_asked(tmp_path):
    small(tmp_path)
    (tmp_path / "net" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        small(tmp_path)
    small(tmp_path, overwrite=True)
    assert (tmp_path / "net" / "notes.txt").read_text() == "mine"
