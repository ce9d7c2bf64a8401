"""One file, four ways of being uncertain: the same outputs by name, and the answers of Keras."""

import functools
import sys

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tfbnn
from tests.export import flat
from tfbnn.export import flatbuffer, laws
from tfbnn.export.modes import MODES
from tfbnn.posterior.routes import posterior_of

SCALE = 0.2
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LAYERS = tfbnn.layers


def family():
    return tfbnn.families.Normal(SCALE)


def classifier():
    keras.utils.set_random_seed(0)
    layers = [
        LAYERS.Convolution2DFlipout(4, 3, activation="relu", kernel_posterior=family()),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        LAYERS.DenseFlipout(
            24, activation="relu", kernel_posterior=family(), bias_posterior="normal"
        ),
        LAYERS.DenseFlipout(3, kernel_posterior=family()),
    ]
    model = tfbnn.Sequential([keras.Input((8, 8, 1)), *layers])
    model.compile(loss=LOGITS)
    return model


def wide(num_hidden):
    """A classifier whose layers are large beside what else is in a file."""
    keras.utils.set_random_seed(0)
    units = [64] * num_hidden
    layers = [LAYERS.DenseFlipout(n, activation="relu", kernel_posterior=family()) for n in units]
    layers.append(LAYERS.DenseFlipout(3, kernel_posterior=family()))
    model = tfbnn.Sequential([keras.Input((64,)), *layers])
    model.compile(loss=LOGITS)
    return model


def regression(scale):
    keras.utils.set_random_seed(0)
    outputs = 4 if scale == "head" else 2
    layers = [LAYERS.DenseFlipout(16, activation="tanh", kernel_posterior=family())]
    layers.append(LAYERS.DenseFlipout(outputs, kernel_posterior=family()))
    model = tfbnn.Sequential([keras.Input((5,)), *layers])
    model.compile(loss=tfbnn.losses.NormalNLL(scale=scale))
    return model


@functools.cache
def with_many_draws(make, *arguments, rows):
    """A model, rows, and what many draws in Keras answer for them."""
    model = make(*arguments)
    x = rows_of(model, rows)
    return model, x, tfbnn.predict(model, x, num_samples=2000, seed=0)


def rows_of(model, count=12, seed=1):
    return (
        np.random.default_rng(seed).normal(size=(count, *model.input_shape[1:])).astype("float32")
    )


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_have_the_same_outputs(mode, model, tmp_path):
    path, x = tmp_path / "m.tflite", rows_of(model)
    manifest = flat.tflite(model, path, mode, check_data=x)
    answer = tfbnn.lite.Model(path).predict(x)
    prediction, uncertainty = answer
    assert set(answer.outputs) == {"prediction", "uncertainty", "mutual_information"}
    assert prediction.shape == (12, 3)
    assert uncertainty.shape == answer.mutual_information.shape == (12,)
    assert (answer.mutual_information >= 0).all()
    assert (answer.mutual_information > 0).any() == (mode != "none")
    assert manifest["mode"] == mode
    assert manifest["memory"] == flatbuffer.memory(path)
    assert all(value > 0 for value in manifest["memory"].values())


@pytest.mark.parametrize("mode", ["moments", "ensemble"])
def test_answers_are_near_those_of_many_draws(mode, tmp_path):
    model, x, keras_answer = with_many_draws(classifier, rows=40)
    path = tmp_path / "m.tflite"
    count = 64 if mode == "moments" else 48
    flat.tflite(model, path, mode, num_samples=count, check_data=x)
    answer = tfbnn.lite.Model(path).predict(x)
    # 48 networks scatter by their spread over the root of 48; moments leave dependence out.
    for name in ("prediction", "uncertainty", "mutual_information"):
        difference = answer.outputs[name] - getattr(keras_answer, name)
        assert np.abs(difference).mean() < 0.06, name


@pytest.mark.parametrize("mode", ["moments", "ensemble"])
def test_answers_repeat(mode, model, tmp_path):
    path, x = tmp_path / "m.tflite", rows_of(model)
    flat.tflite(model, path, mode, num_samples=4, check_data=x)
    first, again = (tfbnn.lite.Model(path).predict(x) for _ in range(2))
    for name, value in first.outputs.items():
        np.testing.assert_array_equal(value, again.outputs[name])


def test_the_seed_of_an_ensemble(model, tmp_path):
    x = rows_of(model)
    contents = []
    for number, seed in enumerate((0, 0, 1)):
        path = tmp_path / f"{number}.tflite"
        flat.tflite(model, path, "ensemble", num_samples=2, seed=seed, check_data=x)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("scale", [0.5, "learned", "head"])
@pytest.mark.parametrize("mode", MODES)
def test_real_numbers(mode, scale, tmp_path):
    model, x, expected = with_many_draws(regression, scale, rows=30)
    path = tmp_path / "m.tflite"
    # Every stored network costs time in the conversion; few of them miss the spread by too much.
    count = 64 if mode == "ensemble" else None
    flat.tflite(model, path, mode, num_samples=count, check_data=x)
    answer = tfbnn.lite.Model(path).predict(x)
    assert set(answer.outputs) == {"prediction", "uncertainty", "epistemic"}
    assert answer.epistemic.shape == answer.prediction.shape == (30, 2)
    assert (answer.epistemic <= answer.uncertainty * (1 + 1e-5)).all()
    if mode in ("moments", "ensemble"):
        np.testing.assert_allclose(answer.epistemic.mean(), expected.epistemic.mean(), rtol=0.1)


# Both modes with every scale and with every precision.
@pytest.mark.parametrize(
    "scale, precision, mode",
    [
        (scale, precision, ("moments", "monte_carlo")[(row + column) % 2])
        for row, scale in enumerate(["full", "rank_one", "unit"])
        for column, precision in enumerate(["float32", "float16", "int8"])
    ],
)
def test_every_scale_in_every_precision(scale, precision, mode, tmp_path):
    model = wide(2)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        rho = layer.kernel.rho_variable
        rho.assign(rho + rng.normal(size=rho.shape))
    x = rows_of(model)
    options = {"num_samples": 8, "precision": precision, "scale": scale, "check_data": x}
    manifest = flat.tflite(model, tmp_path / "m.tflite", mode, **options)
    assert manifest["standard_deviations"] == scale
    stored = 2 * 64 * 64 * {"float32": 4, "float16": 2, "int8": 1}[precision]
    copies = {"full": 3 if mode == "moments" else 2}.get(scale, 1)
    assert stored * (copies - 0.5) < manifest["bytes"] < stored * (copies + 1) + 20_000


def test_a_product_of_variances_is_what_is_drawn_from(tmp_path, model):
    posterior = posterior_of(model)
    frozen = laws.freeze(posterior, "rank_one")
    for layer, weights in frozen.items():
        variance = np.square(layer.kernel.scale.numpy())
        np.testing.assert_allclose(
            np.square(weights.kernel.scale).sum(-1), variance.sum(-1), rtol=1e-4
        )
    # Drawn kernels of a convolution, and drawn outputs of a dense layer, pass the check.
    # On many rows, as answers of few networks have heavy tails.
    path, x = tmp_path / "m.tflite", rows_of(model, 100)
    options = {"num_samples": 8, "scale": "rank_one", "check_data": x}
    manifest = flat.tflite(model, path, **options)
    assert manifest["agreement"]["rms_z"] < 2


def test_a_batch_is_shared_until_networks_differ(model, tmp_path):
    """Of a chain the first layer is computed once; where paths meet, all is computed for each."""
    x = rows_of(model)
    flat.tflite(model, tmp_path / "chain.tflite", num_samples=8, check_data=x)
    inputs = keras.Input((8, 8, 1))
    whole = tfbnn.Model(inputs, model(inputs))
    whole.compile(loss=LOGITS)
    for batch_size in (1, 3):
        path = tmp_path / f"{batch_size}.tflite"
        flat.tflite(whole, path, num_samples=8, batch_size=batch_size, check_data=x)
    assert "TILE" not in flatbuffer.operations(tmp_path / "chain.tflite")


def test_pixels_with_the_preprocessing_inside(tmp_path):
    model = classifier()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    rescaling = keras.layers.Rescaling(1 / 127.5, offset=-1.0)
    path = tmp_path / "m.tflite"
    options = {"input_type": "uint8", "preprocessing": rescaling, "check_data": pixels}
    for mode in MODES:
        manifest = flat.tflite(model, path, mode, overwrite=True, **options)
    assert manifest["preprocessing"].startswith("inside the file: Rescaling")
    runtime = tfbnn.lite.Model(path)
    assert runtime.input_type == np.uint8
    prediction, _ = runtime.predict(pixels)
    logits = model.predict(pixels / np.float32(127.5) - 1, verbose=0)
    expected = keras.ops.softmax(logits).numpy()
    np.testing.assert_allclose(prediction, expected, atol=1e-5)
    for x in (pixels + 0.5, pixels.astype(int) - 300):
        with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
            runtime.predict(x)
    with pytest.raises(ValueError, match="inputs as they are before it.*check_data=None"):
        flat.tflite(model, path, overwrite=True, preprocessing=rescaling)


@pytest.mark.parametrize("mode", ["none", "ensemble"])
def test_activations_of_eight_bits(mode, tmp_path):
    model = classifier()
    x = rows_of(model, 100)
    path = tmp_path / "m.tflite"
    options = {"num_samples": 4, "check_data": x[:20], "representative_data": x, "batch_size": 3}
    flat.tflite(model, path, mode, precision="full_int8", **options)
    content = path.read_bytes()
    answer = tfbnn.lite.Model(path).predict(x)
    float_path = tmp_path / "f.tflite"
    options.pop("representative_data")
    flat.tflite(model, float_path, mode, **options)
    exact = tfbnn.lite.Model(float_path).predict(x)
    assert np.abs(answer.prediction - exact.prediction).max() < 0.1
    assert len(content) < float_path.stat().st_size + 4000


def test_a_layer_without_moments_is_named_with_the_modes_that_take_it(tmp_path):
    layers = [
        LAYERS.DenseFlipout(4),
        keras.layers.UnitNormalization(name="norm"),
        LAYERS.DenseFlipout(3),
    ]
    model = tfbnn.Sequential([keras.Input((5,)), *layers])
    model.compile(loss=LOGITS)
    path, x = tmp_path / "m.tflite", rows_of(model)
    with pytest.raises(ValueError, match="'norm'.*='monte_carlo'` or 'ensemble'"):
        flat.tflite(model, path, "moments", check_data=x)
    assert not list(tmp_path.iterdir())
    for mode in ("monte_carlo", "ensemble"):
        flat.tflite(model, path, mode, overwrite=True, check_data=x)


# The file is compared with the same moments in TensorFlow, and those with Keras elsewhere.
@pytest.mark.parametrize(
    "make",
    [
        keras.layers.UpSampling2D,
        lambda: keras.layers.DepthwiseConv2D(2),
        keras.layers.LayerNormalization,
    ],
)
def test_moments_pass_layers_of_keras(make, tmp_path):
    first = LAYERS.Convolution2DFlipout(4, 2, kernel_posterior=family())
    layers = [
        first,
        make(),
        keras.layers.Flatten(),
        LAYERS.DenseFlipout(3, kernel_posterior=family()),
    ]
    model = tfbnn.Sequential([keras.Input((4, 4, 1)), *layers])
    model.compile(loss=LOGITS)
    path = tmp_path / "m.tflite"
    manifest = tfbnn.export.tflite(model, path, "moments", check_data=rows_of(model))
    assert manifest["agreement"]["max_error"] < 1e-5


@pytest.mark.parametrize("mode", ["moments", "ensemble"])
def test_wrong_numbers_are_found(mode, model, tmp_path, monkeypatch):
    module = sys.modules["tfbnn.export.tflite"]
    convert = module.convert

    def altered(*arguments):
        """The largest constant of the file with its first quarter replaced."""
        parsed = schema.ModelT.InitFromPackedBuf(convert(*arguments), 0)
        largest = max((b for b in parsed.buffers if b.data is not None), key=lambda b: len(b.data))
        numbers = np.frombuffer(bytes(largest.data), np.float32).copy()
        numbers[: len(numbers) // 4] = 3.0
        largest.data = np.frombuffer(numbers.tobytes(), np.uint8)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(parsed.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    monkeypatch.setattr(module, "convert", altered)
    with pytest.raises(RuntimeError, match="disagrees with the Keras model"):
        flat.tflite(model, tmp_path / "m.tflite", mode, check_data=rows_of(model))
    assert not list(tmp_path.iterdir())


# The small kernels on which the converter's own sparse format failed.
SMALL = [(20, 10, 3), (3, 8, 2)]


def pruned_network(sizes, granularity):
    keras.utils.set_random_seed(0)
    layers = [
        LAYERS.DenseFlipout(sizes[1], activation="relu", kernel_posterior=family()),
        LAYERS.DenseFlipout(sizes[2], kernel_posterior=family()),
    ]
    model = tfbnn.Sequential([keras.Input(sizes[:1]), *layers])
    model.compile(loss=LOGITS)
    return tfbnn.prune(model, sparsity=0.5, granularity=granularity)


@pytest.mark.parametrize("sizes", SMALL)
@pytest.mark.parametrize("mode", ["none", "moments"])
def test_pruned_units_leave_with_their_bytes(mode, sizes, tmp_path):
    pruned = pruned_network(sizes, "unit")
    smaller, x = tfbnn.compact(pruned), rows_of(pruned)
    answers, num_bytes = [], []
    for number, model in enumerate((pruned, smaller)):
        path = tmp_path / f"{number}.tflite"
        manifest = flat.tflite(model, path, mode, sparse=False, check_data=x)
        answers.append(tfbnn.lite.Model(path).predict(x).outputs)
        num_bytes.append(manifest["bytes"])
    for name, value in answers[0].items():
        np.testing.assert_allclose(answers[1][name], value, atol=1e-5, err_msg=name)
    # Half of the units: their rows, columns and biases, and for moments the same of the variances.
    gone = sizes[1] - smaller.layers[0].units
    assert gone == sizes[1] // 2
    weights = gone * (sizes[0] + sizes[2] + 1) * (1 if mode == "none" else 2)
    assert num_bytes[0] - num_bytes[1] >= 4 * weights - 4 * gone - 64


@pytest.mark.parametrize("sizes", SMALL)
@pytest.mark.parametrize("mode", MODES)
def test_small_kernels_with_few_weights_left(mode, sizes, tmp_path):
    pruned = pruned_network(sizes, "weight")
    path, x = tmp_path / "m.tflite", rows_of(pruned, 200)
    # Every stored network costs time in the conversion; few scatter by more.
    count = {"monte_carlo": 32, "ensemble": 12}.get(mode)
    flat.tflite(pruned, path, mode, num_samples=count, check_data=x)
    answer = tfbnn.lite.Model(path).predict(x)
    if mode == "none":
        expected = keras.ops.softmax(pruned(x)).numpy()
        np.testing.assert_allclose(answer.prediction, expected, atol=1e-5)
        return
    expected = tfbnn.predict(pruned, x, num_samples=512, seed=0, verbose=0)
    for name in ("prediction", "uncertainty", "mutual_information"):
        difference = answer.outputs[name] - getattr(expected, name)
        assert np.abs(difference).mean() < (0.1 if mode == "ensemble" else 0.05), name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("output", ["prediction", "uncertainty", "mutual_information"])
def test_each_output_is_checked(output, mode, tmp_path, monkeypatch):
    model = tfbnn.Sequential([keras.Input((5,)), LAYERS.DenseFlipout(3, kernel_posterior=family())])
    model.compile(loss=LOGITS)
    kind = type(model.likelihood)
    original = kind.answer

    def wrong(likelihood, outputs):
        answers = original(likelihood, outputs)
        return answers | {output: answers[output] + 2.0}

    # What the file computes, not what it is compared with.
    module = sys.modules["tfbnn.export.tflite"]
    convert = module.convert

    def altered(*arguments):
        monkeypatch.setattr(kind, "answer", wrong)
        content = convert(*arguments)
        monkeypatch.setattr(kind, "answer", original)
        return content

    monkeypatch.setattr(module, "convert", altered)
    options = {"num_samples": 4, "check_data": rows_of(model)}
    with pytest.raises(RuntimeError, match="disagrees with the Keras model"):
        flat.tflite(model, tmp_path / "m.tflite", mode, **options)
    assert not list(tmp_path.iterdir())


def test_the_oldest_runtime_follows_the_encoding(tmp_path):
    model = wide(1)
    pruned = tfbnn.prune(model, sparsity=0.95)
    expected = {
        "float32": (pruned, "2.3.0"),
        "posterior": (model, "2.17.0"),
        "int8": (model, "2.17.0"),
    }
    for precision, (exported, runtime) in expected.items():
        path = tmp_path / f"{precision}.tflite"
        options = {"precision": precision, "check_data": rows_of(model)}
        manifest = flat.tflite(exported, path, "none", **options)
        assert manifest["minimum_runtime"].endswith(runtime)


def test_an_ensemble_of_a_pruned_model_stays_sparse(tmp_path):
    model = wide(1)
    pruned, x = tfbnn.prune(model, sparsity=0.9), rows_of(model)
    sizes = [
        flat.tflite(pruned, tmp_path / f"{scale}.tflite", "ensemble", scale=scale, check_data=x)[
            "bytes"
        ]
        for scale in ("full", "rank_one")
    ]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", ["check_data", "representative_data"])
def test_pixels_must_be_pixels(name, model, tmp_path):
    pixels = np.zeros((8, 8, 8, 1))
    options = {"check_data": pixels, "representative_data": pixels} | {name: pixels + 0.25}
    with pytest.raises(ValueError, match=f"values of `{name}` must be whole.*from 0.25 to 0.25"):
        flat.tflite(model, tmp_path / "m.tflite", input_type="uint8", **options)


def test_a_product_of_variances_is_stored_as_one_in_convolutions_too(tmp_path):
    keras.utils.set_random_seed(0)
    layers = [
        LAYERS.Convolution2DFlipout(16, 3, activation="relu", kernel_posterior=family()),
        LAYERS.Convolution2DFlipout(32, 3, activation="relu", kernel_posterior=family()),
        keras.layers.GlobalAveragePooling2D(),
        LAYERS.DenseFlipout(3, kernel_posterior=family()),
    ]
    model = tfbnn.Sequential([keras.Input((8, 8, 8)), *layers])
    model.compile(loss=LOGITS)
    sizes = {}
    for scale in ("full", "rank_one"):
        path = tmp_path / f"{scale}.tflite"
        options = {"scale": scale, "check_data": rows_of(model)}
        sizes[scale] = flat.tflite(model, path, "moments", **options)["bytes"]
    first, second = 4 * 9 * 8 * 16, 4 * 9 * 16 * 32
    # The variances of both kernels, and the squares of the second.
    assert sizes["full"] - sizes["rank_one"] > 0.9 * (first + 2 * second)
