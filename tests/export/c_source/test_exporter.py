"""C code against Keras, against moments in TensorFlow, and against drawn networks."""

import ctypes
import functools
import json
import math
import re
import shutil
import subprocess
import threading

import keras
import numpy as np
import pytest

import tfbnn
from tests.export import flat
from tests.export.c_source import models
from tests.export.c_source.networks import ROWS, answers_of, close, model_of, written
from tfbnn.export.c_source import c_compiler, exporter, translator
from tfbnn.export.c_source.agreement import answers_as_stored
from tfbnn.export.c_source.text import literals
from tfbnn.export.c_source.translator import Settings
from tfbnn.layers.records import Identity
from tfbnn.posterior.routes import posterior_of
from tfbnn.prediction import moment_rules

pytestmark = pytest.mark.skipif(
    c_compiler.compiler() is None, reason="there is no C compiler `cc` to run the code"
)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """`network(name, **options)` is one of `MODELS`, exported and compiled once."""

    @functools.cache
    def exported(name, **options):
        x = models.inputs_of(models.MODELS[name][0], ROWS)
        return written(model_of(name), tmp_path_factory.mktemp("c") / "net", x, **options)

    return exported


@pytest.mark.parametrize("name", models.MODELS)
def test_the_mean_is_that_of_keras(name, network):
    found = network(name, uncertainty="none")
    model, (prediction, _, third) = found.model, found()
    parameters = model.likelihood.parameters(model(found.x, training=False))
    expected = model.likelihood.tempered_mean(parameters[0])
    np.testing.assert_allclose(prediction, expected.numpy(), rtol=0, atol=1e-4)
    assert not third.any()


# A layer that is called twice has no moments.
@pytest.mark.parametrize("name", [name for name in models.MODELS if name != "shared"])
def test_moments_are_those_of_tensorflow(name, network):
    found = network(name)
    close(found(), answers_of(found.model, found.x))


ENCODED = ["normal bias", "point bias", "pruned", "pruned convolution", "groups"]


@pytest.mark.parametrize("scale", ["full", "rank_one", "unit"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", ENCODED)
def test_every_encoding_of_weights_and_variances(name, precision, scale, network):
    found = network(name, precision=precision, scale=scale)
    close(found(), answers_of(found.model, found.x, "moments", precision, scale))


@pytest.mark.parametrize("name", [*ENCODED, "shared"])
def test_int8_at_the_mean(name, network):
    found = network(name, precision="int8", uncertainty="none")
    close(found(), answers_of(found.model, found.x, "none", "int8"))


@pytest.mark.parametrize("name", ["plain Keras", "depthwise"])
def test_int8_of_layers_of_keras(name, network):
    found = network(name, precision="int8", uncertainty="none")
    settings = Settings("none", "int8")
    close(found(), answers_as_stored(posterior_of(found.model), settings, found.x))


# Largest mean difference to networks drawn in Keras: of probabilities, half their sum; of real
# numbers, in standard deviations; and of the uncertainty, relative to its mean. Draws scatter by
# about 0.02 of a standard deviation; the rest is the approximation of moments. Real numbers need
# more draws: that of a bias is the same for all rows, and its scatter stays in their mean.
@pytest.mark.parametrize("name", ["pruned convolution", "residual", "maximum", "fixed scale"])
def test_moments_come_near_to_the_truth(name, network):
    found = network(name)
    prediction, uncertainty, third = found()
    num_samples = 4096 if name == "fixed scale" else 512
    truth = tfbnn.predict(found.model, found.x, num_samples=num_samples, seed=0, verbose=0)
    unit = truth.uncertainty.mean() if name == "fixed scale" else 2.0
    assert np.abs(prediction - truth.prediction).sum(-1).mean() / unit < 0.03
    assert np.abs(uncertainty - truth.uncertainty).mean() < 0.05 * truth.uncertainty.mean()
    expected = truth.epistemic if name == "fixed scale" else truth.mutual_information
    assert np.abs(third - expected).mean() < 0.4 * expected.mean()


def test_a_network_by_hand(tmp_path):
    layers = models.dense(8, activation="relu"), models.dense(2)
    model = models.sequential((5,), *layers, loss=models.NLL(scale=0.3))
    x = models.inputs_of((5,), ROWS)
    (w, s, b, t), (w2, s2, b2, t2) = (
        (
            layer.kernel.loc.numpy(),
            layer.kernel.scale.numpy() ** 2,
            layer.bias.loc.numpy(),
            layer.bias.scale.numpy() ** 2,
        )
        for layer in model.layers
    )
    mean, deviation = x @ w + b, np.sqrt(x**2 @ s + t)
    # Mean and second moment of the larger of a normal and zero.
    a = mean / deviation
    below = 0.5 * (1 + np.vectorize(math.erf)(a / math.sqrt(2)))
    density = np.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)
    relu = mean * below + deviation * density
    second = (mean**2 + deviation**2) * below + mean * deviation * density
    variance = second @ s2 + (second - relu**2) @ w2**2 + t2
    expected = relu @ w2 + b2, np.sqrt(variance + 0.3**2), np.sqrt(variance)
    # The exported normal distribution function is right to 1.4e-4.
    close(written(model, tmp_path / "net", x)(), expected, 5e-4)


def test_bytes_as_inputs(tmp_path):
    model = models.sequential(
        (8, 8, 1),
        keras.layers.Rescaling(1 / 255),
        models.convolution(2, 4, 3),
        models.flatten(),
        models.dense(3),
    )
    x = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8, 1))
    found = written(model, tmp_path / "net", x, input_type="uint8")
    assert found.manifest["input_type"] == "uint8"
    assert "const uint8_t *input" in (tmp_path / "net" / "net.h").read_text()
    close(found(), answers_of(model, x))


@pytest.mark.parametrize("num_points", [2, 256])
def test_number_of_points(num_points, network):
    found = network("dense", num_points=num_points)
    close(found(), answers_of(found.model, found.x, num_points=num_points))


def test_mixed_precision_model(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = models.sequential((5,), models.dense(8, activation="relu"), models.dense(3))
    keras.config.set_dtype_policy("float32")
    x = models.inputs_of((5,), ROWS)
    mean = written(model, tmp_path / "mean", x, uncertainty="none")
    assert mean.manifest["tolerance"] == 5e-3
    # Moments are computed in float32, in Keras too.
    found = written(model, tmp_path / "net", x)
    assert found.manifest["tolerance"] == 1e-3
    assert found.manifest["agreement"]["max_error"] < 1e-5


# The quality of the code.

GATES = {
    "pruned": {"scale": "full"},
    "pruned to gaps above 255": {"precision": "int8"},
    "groups": {"precision": "int8", "scale": "rank_one"},
    "residual": {},
    "branches": {"scale": "unit"},
    "padding": {"uncertainty": "none"},
    "predicted scale": {},
    "layer normalization": {},
    "real numbers in an interval": {},
}
STRICT = [*c_compiler.FLAGS, "-Wshadow", "-Wstrict-prototypes", "-Wcast-qual"]


@pytest.fixture(scope="module")
def optimised(network, tmp_path_factory):
    """`optimised(name)` is the network of a gate, and the folder where it was compiled."""

    @functools.cache
    def built(name):
        found, build = network(name, **GATES[name]), tmp_path_factory.mktemp("optimised")
        close(found.compiled(build, STRICT), found())
        return found, build

    return built


@pytest.mark.parametrize("name", GATES)
def test_gcc_does_not_warn(name, optimised):
    optimised(name)


@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
@pytest.mark.parametrize("name", GATES)
def test_clang_does_not_warn(name, network, tmp_path, monkeypatch):
    found = network(name, **GATES[name])
    monkeypatch.setattr(c_compiler, "compiler", lambda: shutil.which("clang"))
    close(found.compiled(tmp_path, STRICT), found())


@pytest.mark.parametrize("name", GATES)
def test_sanitizers_find_nothing(name, network, tmp_path):
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["cc", *flags, "-o", tmp_path / "probe", probe]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("the compiler has no sanitizers")
    found = network(name, **GATES[name])
    close(found.compiled(tmp_path, flags), found())


@pytest.mark.parametrize("name", GATES)
def test_nothing_is_allocated_or_kept(name, optimised):
    found, build = optimised(name)
    listed = subprocess.run(["nm", build / "net.o"], capture_output=True, text=True, check=True)
    symbols = [line.split()[-2:] for line in listed.stdout.splitlines()]
    assert [name for kind, name in symbols if kind == "T"] == ["net_predict"]
    assert not [name for kind, name in symbols if kind in "dDbBC"]
    outside = {name for kind, name in symbols if kind == "U"}
    of_libm = {"expf", "logf", "sqrtf", "erff", "log1pf", "tanhf", "expm1f"}
    # Compilers replace loops that copy and fill, and options of a system check the stack.
    assert outside <= of_libm | {"memcpy", "memset", "memmove", "__stack_chk_fail"}
    assert "alloc" not in (found.folder / "net.c").read_text()


def library(folder, tmp_path):
    path = tmp_path / "libnet.so"
    command = ["cc", "-std=c99", "-O0", "-shared", "-fPIC", "-o", path, folder / "net.c", "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(path))


def test_threads_with_scratches_of_their_own(network, tmp_path):
    alone, x = network("residual")(), network("residual").x
    predict = library(network("residual").folder, tmp_path).net_predict
    header = (network("residual").folder / "net.h").read_text()
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


def test_the_same_files_and_the_same_answers_each_time(network, tmp_path):
    found = network("pruned")
    folders = found.folder, tmp_path / "net"
    written(found.model, folders[1], found.x)
    texts = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert texts[0] == texts[1]
    for answer in found(np.repeat(found.x[:1], 5, axis=0)):
        assert (answer == answer[0]).all()


def test_the_makefile(network, tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    folder = shutil.copytree(network("pruned").folder, tmp_path / "net")

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


DAMAGED = [
    ("normal bias", {"uncertainty": "none"}),
    ("normal bias", {"uncertainty": "moments"}),
    ("normal bias", {"uncertainty": "none", "precision": "int8"}),
    ("normal bias", {"uncertainty": "moments", "precision": "int8"}),
    ("plain Keras", {"uncertainty": "none", "precision": "int8"}),
    ("fixed scale", {"uncertainty": "moments", "precision": "int8", "scale": "rank_one"}),
]
CONSTANTS = r"static const (\w+) (layer_\w+)\[\d+\] = \{([^}]*)\};"


def with_a_bit_flipped(values, c_type):
    """The largest number of an array twice or half as large, or a quarter of the range away."""
    numbers = np.array([float(v.strip().rstrip("f")) for v in values.split(",")])
    numbers = numbers.astype({"float": "f4"}.get(c_type, c_type.removesuffix("_t")))
    bits, bit = (numbers.view("u4"), 1 << 23) if c_type == "float" else (numbers.view("u1"), 32)
    bits[np.argmax(np.abs(numbers.astype("f8")))] ^= bit
    return ", ".join(literals(numbers))


@pytest.mark.parametrize("name, options", DAMAGED)
def test_a_flipped_bit_fails_the_check(name, options, network, tmp_path):
    found = network(name, **options)
    program = tmp_path / "test"

    def check():
        command = ["cc", "-std=c99", "-O0", "-o", program, *tmp_path.glob("*.c"), "-lm"]
        subprocess.run(command, check=True)
        return subprocess.run([program], capture_output=True, text=True)

    for file in ("net.c", "net.h", "test_net.c"):
        shutil.copy(found.folder / file, tmp_path)
    assert check().returncode == 0
    text = (tmp_path / "net.c").read_text()
    arrays = list(re.finditer(CONSTANTS, text))
    passed = []
    for array in arrays:
        start, end = array.span(3)
        changed = with_a_bit_flipped(array[3], array[1])
        (tmp_path / "net.c").write_text(text[:start] + changed + text[end:])
        ended = check()
        assert ended.returncode == ("FAIL" in ended.stdout)
        passed += [array[2]] if not ended.returncode else []
    # Twice this variance moves no answer by 4e-6.
    assert len(arrays) >= 3 and set(passed) <= {"layer_0_bias_variance"}


@pytest.mark.parametrize("name", ["normal bias", "predicted scale"])
def test_the_check_is_as_tight_as_arithmetic_is(name, network, tmp_path, monkeypatch):
    """Rounding of weights is no part of it, also where nothing could be measured."""
    found = network(name, precision="int8")
    tolerances = re.search(r"tolerances\[3\] = \{(.*)\}", (found.folder / "test_net.c").read_text())
    sizes = [max(1.0, np.abs(part).max()) for part in found()]
    for text, size in zip(tolerances[1].split(","), sizes, strict=True):
        assert 1e-5 <= float(text) <= 2e-4 * size
    monkeypatch.setattr(exporter, "compiler", lambda: None)
    options = {"precision": "int8", "check_data": found.x}
    flat.c(found.model, tmp_path / "net", **options)
    text = (tmp_path / "net" / "test_net.c").read_text()
    tolerances = re.search(r"tolerances\[3\] = \{(.*)\}", text)[1].split(",")
    limits = [1e-3, 1e-2, 1e-2]
    for text, limit, size in zip(tolerances, limits, sizes, strict=True):
        assert float(text) == pytest.approx(limit * size, rel=0.02)


def test_values_share_the_scratch(tmp_path):
    # 64 units in each of 6 layers: two at a time, each a mean and a variance.
    layers = [models.dense(64, activation="relu") for _ in range(6)]
    model = models.sequential((8,), *layers, models.dense(3))
    manifest = written(model, tmp_path / "net", models.inputs_of((8,), ROWS)).manifest
    assert manifest["scratch_bytes"] == 4 * 2 * 2 * 64
    header = (tmp_path / "net" / "net.h").read_text()
    assert re.search(rf"NET_SCRATCH_BYTES +{manifest['scratch_bytes']}\n", header)
    assert re.search(rf"NET_WEIGHT_BYTES +{manifest['weight_bytes']}\n", header)


def test_pruned_and_coarse_files_are_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "compiler", lambda: None)
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
        x = models.inputs_of(shape, 4)
        manifest = flat.c(model, tmp_path / f"net{len(sizes)}", check_data=x, **options)
        sizes.append(manifest["weight_bytes"])
    assert sizes == sorted(sizes, reverse=True)
    # A tenth of the weights; mean, variance and gap of each take 9 bytes in place of 8.
    assert sizes[1] < 0.13 * sizes[0]


def test_manifest(tmp_path):
    manifest = small(tmp_path, class_names=["a", "b", "*/"], preprocessing="none")
    assert json.loads((tmp_path / "net" / "net.json").read_text()) == manifest
    assert manifest["format"] == "c" and manifest["mode"] == "moments"
    assert manifest["agreement"]["rows"] == 16 and manifest["agreement"]["max_error"] < 1e-5
    assert 0 < manifest["agreement"]["draws_difference"] < 0.05
    assert manifest["stack_bytes"] is None or 0 < manifest["stack_bytes"] < 4096
    assert manifest["class_names"] == ["a", "b", "*/"]
    assert "mutual information" in manifest["mutual_information"]
    assert "Classes: a, b, * /" in (tmp_path / "net" / "net.h").read_text()


def test_the_third_answer_of_real_numbers_is_epistemic(network):
    found = network("fixed scale")
    assert found.manifest["epistemic"] == "standard deviation of the mean"
    texts = [(found.folder / name).read_text() for name in ("net.h", "net.c", "test_net.c")]
    assert all("epistemic" in text and "mutual" not in text for text in texts)


# Errors.


def small(tmp_path, **options):
    x = models.inputs_of(models.MODELS["dense"][0], 16)
    return flat.c(model_of("dense"), tmp_path / "net", check_data=x, **options)


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
        (
            {"uncertainty": "monte_carlo"},
            r"'c' `uncertainty` must be one of \('moments', 'none'\).*='monte_carlo'",
        ),
        ({"precision": "float16"}, "format 'c' `storage` must be one of.*storage='float16'"),
        ({"scale": "half"}, "`standard_deviations` must be one of.*'half'"),
        ({"input_type": "int8"}, "`type` must be one of.*type='int8'"),
        ({"num_points": 7}, "`num_points` must be even.*Received: num_points=7"),
        ({"input_type": "uint8"}, "whole numbers from 0 to 255.*Received: check_data from"),
    ],
)
def test_bad_arguments(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        small(tmp_path, **options)
    assert not (tmp_path / "net").exists()


def test_a_name_that_is_none_in_c(tmp_path):
    with pytest.raises(ValueError, match="begins all names in C.*'3-nets'"):
        flat.c(models.MODELS["dense"][1](), tmp_path / "3-nets")


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
    "normalization over rows": (
        (4, 3),
        [keras.layers.LayerNormalization(axis=1), models.flatten()],
        r"supported is axis=\[-1\]\. Received: axis=\[1\]",
    ),
    "bilinear": (
        (2, 2, 1),
        [keras.layers.UpSampling2D(interpolation="bilinear"), models.flatten()],
        r"no C code.*UpSampling2D.*tflite",
    ),
    "unknown size": ((None, 3), [keras.layers.GlobalMaxPooling1D()], r"without None.*\(None, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_there_is_no_c_for_is_named(name, tmp_path):
    shape, layers, message = UNSUPPORTED[name]
    model = models.sequential(shape, *layers, models.dense(3))
    x = models.inputs_of(tuple(size or 4 for size in shape), 4)
    with pytest.raises(ValueError, match=message):
        flat.c(model, tmp_path / "net", check_data=x)
    assert not (tmp_path / "net").exists()


def test_random_outputs_that_are_no_probabilities(tmp_path):
    model = models.sequential((4,), models.dense(3), loss=models.PROBABILITIES)
    with pytest.raises(ValueError, match="must end in a softmax.*from_logits=False"):
        flat.c(model, tmp_path / "net", check_data=models.inputs_of((4,), 4))


REFUSED = {
    "only in C": ((4,), [keras.layers.ReLU()], "Moments cannot pass through.*ReLU.*='none'"),
    "only in TensorFlow": (
        (4, 3, 1, 1),
        [keras.layers.AveragePooling3D(1), models.flatten()],
        "no C code.*AveragePooling3D",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_either_no_c_or_no_moments_is_named(name, tmp_path, monkeypatch):
    # All layers that C knows have moments today.
    monkeypatch.delitem(moment_rules.RULES, Identity)
    shape, layers, message = REFUSED[name]
    model = models.sequential(shape, models.dense(3), *layers, models.dense(3))
    with pytest.raises(ValueError, match=message):
        flat.c(model, tmp_path / "net", check_data=models.inputs_of(shape, 4))


def test_a_layer_that_is_called_twice_has_no_moments(tmp_path):
    with pytest.raises(ValueError, match="'dense.*is called more than once.*uncertainty='none'"):
        flat.c(model_of("shared"), tmp_path / "net", check_data=models.inputs_of((5,), 4))
    assert not (tmp_path / "net").exists()


WRONG = {
    "sign of the means": ("none", lambda loc, scale: (-loc, scale)),
    "sign of the means, moments": ("moments", lambda loc, scale: (-loc, scale)),
    "variances": ("moments", lambda loc, scale: (loc, 1.2 * scale)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_code_is_found_and_removed(name, tmp_path, monkeypatch):
    right = translator._law
    uncertainty, change = WRONG[name]

    def wrong(weight):
        loc, scale = right(weight)
        return change(loc, scale) if loc is not None and loc.ndim > 1 else (loc, scale)

    monkeypatch.setattr(translator, "_law", wrong)
    with pytest.raises(RuntimeError, match="disagrees with the Keras model, and was removed"):
        small(tmp_path, uncertainty=uncertainty)
    assert not (tmp_path / "net").exists()


def test_a_coarse_approximation_is_no_error(tmp_path):
    # The places of a convolution share its kernel, and moments take them for independent.
    layer = tfbnn.layers.Convolution1DFlipout(2, 2, kernel_posterior=tfbnn.families.Normal(2.0))
    model = models.sequential((30, 1), layer, keras.layers.GlobalAveragePooling1D())
    layer.bias.loc_variable.assign([4.0, 0.0])
    x = np.ones((16, 30, 1), np.float32)
    manifest = flat.c(model, tmp_path / "net", check_data=x)
    assert manifest["agreement"]["draws_difference"] > 0.1
    assert manifest["agreement"]["max_error"] < 1e-5


def test_existing_files_are_kept_unless_asked(tmp_path):
    small(tmp_path)
    (tmp_path / "net" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        small(tmp_path)
    small(tmp_path, overwrite=True)
    assert (tmp_path / "net" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("bias_posterior", ["normal", "point"])
@pytest.mark.parametrize("inputs", [36, 100])
def test_one_unit_keeps_its_variance(inputs, bias_posterior, tmp_path):
    """Its two sums side by side are what a compiler once made too much of."""
    layer = tfbnn.layers.DenseFlipout(1, bias_posterior=bias_posterior)
    model = tfbnn.Sequential([keras.Input((inputs,)), layer])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    layer.kernel.rho_variable.assign(np.full((inputs, 1), -1.2))
    x = np.random.default_rng(0).normal(size=(5, inputs)).astype("float32")
    flat.c(model, tmp_path / "one", check_data=x)
