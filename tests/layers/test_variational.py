"""What every public layer has in common."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.linear_maps import ESTIMATORS, LINEAR_MAPS, VARIANTS

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _layer(linear_map, estimator="flipout", **options):
    return LINEAR_MAPS[linear_map].make(estimator=estimator, **options)


def _inputs(linear_map, rows=4):
    return LINEAR_MAPS[linear_map].rows(rows)


@pytest.mark.parametrize("linear_map", LINEAR_MAPS)
def test_a_model_with_it_trains_saves_and_loads(tmp_path, linear_map):
    """One model for all estimators of a map, side by side: tracing `fit` is what takes time."""
    x = _inputs(linear_map)
    layers = [
        _layer(
            linear_map,
            estimator,
            activation="relu",
            kernel_prior=tfbnn.priors.ScaleMixture(0.25, 1.0, 0.01),
            kernel_posterior=tfbnn.families.Normal(0.05),
            bias_prior="laplace",
            bias_posterior="normal",
            kernel_constraint=keras.constraints.MaxNorm(1.0),
            name=estimator,
        )
        for estimator in ESTIMATORS
    ]
    inputs = keras.Input(x.shape[1:])
    side_by_side = keras.layers.Concatenate()([layer(inputs) for layer in layers])
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(side_by_side))
    model = tfbnn.Model(inputs, outputs)
    model.compile("adam", loss=LOGITS)
    model.fit(x, np.array([0, 1, 0, 1]), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for layer in layers:
        assert layer(x).shape == layer.compute_output_shape(x.shape)
        names = [variable.name for variable in layer.weights]
        assert names == ["kernel_loc", "kernel_rho", "bias_loc", "bias_rho"]
        again = loaded.get_layer(layer.name)
        assert type(again) is type(layer) and again.get_config() == layer.get_config()
    assert np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    loaded.fit(x, np.array([0, 1, 0, 1]), verbose=0)


@pytest.mark.parametrize("order", ["keras, tfbnn", "tfbnn, keras"])
def test_a_file_loads_after_a_plain_import(tmp_path, order):
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    model.save(tmp_path / "model.keras")
    code = f"import {order}; tfbnn.load_model(r'{tmp_path / 'model.keras'}')"
    if order == "keras, tfbnn":
        code = code.replace("tfbnn.load_model", "keras.models.load_model")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


EXAMPLES = [(name, {}, one.shape, False) for name, one in LINEAR_MAPS.items()]


@pytest.mark.parametrize("linear_map, options, shape, jit_compile", [*EXAMPLES, *VARIANTS])
def test_without_noise_it_is_its_keras_namesake(linear_map, options, shape, jit_compile):
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    arguments = {**LINEAR_MAPS[linear_map].arguments, **options}
    namesake = getattr(keras.layers, linear_map)(**arguments)
    namesake.build(x.shape)
    family = tfbnn.families.Normal(1e-12)
    laws = {"kernel_posterior": family, "bias_posterior": family}
    layers = [_layer(linear_map, name, **laws, **options) for name in ESTIMATORS]
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
    weights = [layers[0].kernel] + ([layers[0].bias] if layers[0].use_bias else [])
    namesake.set_weights([weight.loc.numpy() for weight in weights])

    # One graph, which is traced and compiled once.
    @tf.function(jit_compile=jit_compile, autograph=False)
    def outputs():
        return namesake(x), [(layer(x), layer(x, training=True)) for layer in layers]

    expected, pairs = outputs()
    for layer, (at_mean, drawn) in zip(layers, pairs, strict=True):
        assert layer.compute_output_shape(x.shape) == expected.shape
        assert np.allclose(at_mean, expected, atol=1e-6)
        assert np.allclose(drawn, expected, atol=1e-5)


# One step between numbers just above 1.
ROUNDING = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}


@pytest.mark.parametrize("policy", ROUNDING)
def test_mixed_precision(policy):
    layers = [_layer("Dense", estimator, units=400, dtype=policy) for estimator in ESTIMATORS]
    x = np.full((8, 400), 300.0, "float32")  # 300**2 overflows float16
    for layer, estimator in zip(layers, ESTIMATORS, strict=True):
        out = layer(x, training=True)
        assert out.dtype == layer.compute_dtype
        full = _layer("Dense", estimator, units=400, dtype="float32")
        full.build(x.shape)
        full.set_weights(layer.get_weights())
        # One draw back: the layer has made its own.
        full.seed_generator.state.assign(layer.seed_generator.state - np.array([0, 1], "uint32"))
        expected = full(x, training=True).numpy()
        error = np.asarray(out, "float32") - expected
        assert np.abs(error).max() < 4 * ROUNDING[policy] * np.abs(expected).max()
        kl = layer.kernel.kl()
        assert kl.dtype == tf.float32 and float(kl) == float(full.kernel.kl())
    model = tfbnn.Sequential([keras.Input((400,)), *layers, _layer("Dense", dtype="float32")])
    model.compile("adam", loss=LOGITS)
    logs = model.fit(x / 300, np.arange(8) % 3, verbose=0).history
    assert np.isfinite(logs["loss"][0])


def test_all_estimators_and_their_gradients_run_under_xla():
    layers = [
        _layer("Conv2D", estimator, kernel_prior="scale_mixture", padding="same")
        for estimator in ESTIMATORS
    ]
    model = tfbnn.Sequential(
        [keras.Input((3, 3, 2)), *layers, keras.layers.Flatten(), _layer("Dense", units=2)]
    )
    model.compile("adam", loss=LOGITS, jit_compile=True)
    assert model.jit_compile is True
    before = [np.array(w.value) for w in model.trainable_weights]
    logs = model.fit(_inputs("Conv2D"), np.array([0, 1, 0, 1]), verbose=0).history
    assert np.isfinite(logs["loss"][0])
    after = [np.array(w.value) for w in model.trainable_weights]
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_whole_numbers_are_inputs_like_any_other(estimator):
    family = tfbnn.families.Normal(1e-9)
    layer = _layer("Dense", estimator, kernel_posterior=family, bias_posterior=family)
    x = np.arange(8, dtype="uint8").reshape(2, 4)
    assert np.allclose(layer(x), layer(x.astype("float32")))
    assert np.allclose(layer(x, training=True), layer(x.astype("float32")), atol=1e-5)


def test_seeds():
    def outputs(seed):
        keras.utils.set_random_seed(1)
        return _layer("Dense", seed=seed)(_inputs("Dense"), training=True).numpy()

    assert np.array_equal(outputs(1), outputs(1))
    assert not np.array_equal(outputs(1), outputs(2))
    layer = _layer("Dense", seed=1)
    x = _inputs("Dense")
    assert not np.array_equal(layer(x, training=True), layer(x, training=True))


def test_a_shared_initializer_object_does_not_repeat():
    initializer = keras.initializers.GlorotUniform()
    first, second = (_layer("Dense", kernel_initializer=initializer) for _ in range(2))
    first.build((None, 4))
    second.build((None, 4))
    assert not np.allclose(first.kernel.loc, second.kernel.loc)


def test_a_frozen_layer_is_not_trained():
    layer = _layer("Dense", trainable=False)
    model = tfbnn.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])
    before = layer.get_weights()
    model.compile("adam", loss=LOGITS)
    model.fit(_inputs("Dense"), np.array([0, 1, 0, 1]), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))


def test_in_a_plain_keras_model_the_kl_weight_is_exact_and_counts_once():
    x, y = _inputs("Dense"), np.array([0, 1, 0, 1])
    family = tfbnn.families.Normal(1e-9)
    shared = tfbnn.layers.DenseFlipout(
        4, kl_weight=0.25, kernel_posterior=family, bias_posterior=family
    )
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(shared(inputs)))
    model.compile(keras.optimizers.SGD(0.0), loss=LOGITS)
    loss = model.fit(x, y, verbose=0).history["loss"][0]
    nll = float(LOGITS(y, model(x)))
    kl = float(shared.kernel.kl()) + float(shared.bias.kl())
    assert loss == pytest.approx(nll + 0.25 * kl, rel=1e-5)


def test_in_a_plain_keras_model_without_a_kl_weight_fit_is_an_error():
    model = keras.Sequential([keras.Input((4,)), _layer("Dense")])
    model.compile("adam", loss=LOGITS)
    x, y = _inputs("Dense"), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="kl_weight=1 / num_examples"):
        model.fit(x, y, verbose=0)
    assert np.isfinite(model.evaluate(x, y, verbose=0))
    model(x, training=True)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"kernel_regularizer": "l2"}, "second prior"),
        ({"kernel_posterior": "point"}, "must be random"),
        ({"kernel_posterior": "cauchy"}, "family"),
        ({"kernel_prior": "flat"}, "scale_mixture"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"units": 0}, "units"),
    ],
)
def test_bad_arguments_are_errors(options, words):
    with pytest.raises(ValueError, match=words):
        _layer("Dense", **options)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"padding": "causal"}, "padding"),
        ({"filters": 3, "groups": 2}, "divisible"),
        ({"strides": 2, "dilation_rate": 2}, "both"),
        ({"kernel_size": (2, 2, 2)}, "kernel_size"),
        ({"data_format": "first"}, "data_format"),
    ],
)
def test_bad_arguments_of_convolutions_are_errors(options, words):
    with pytest.raises(ValueError, match=words):
        _layer("Conv2D", **options)


@pytest.mark.parametrize(
    "options, words",
    [({"strides": (1, 2)}, "same stride"), ({"depth_multiplier": 0}, "multiplier")],
)
def test_bad_arguments_of_depthwise_convolutions_are_errors(options, words):
    with pytest.raises(ValueError, match=words):
        _layer("DepthwiseConv2D", **options)


def test_channels_must_be_known():
    for name in ("Conv2D", "DepthwiseConv2D"):
        with pytest.raises(ValueError, match="input channels must be known. Received: input_shape"):
            _layer(name).build((None, 4, 4, None))


def test_numbers_of_numpy_are_kept_as_plain_ones(tmp_path):
    layers = [
        tfbnn.layers.Convolution2DFlipout(
            np.int32(2),
            (np.int64(3), 3),
            strides=np.array([1, 2]),
            groups=np.uint8(1),
            seed=np.int32(3),
        ),
        keras.layers.Flatten(),
        tfbnn.layers.DenseFlipout(
            np.int64(4),
            kernel_prior=tfbnn.priors.Normal(np.float32(0), np.float16(0.5)),
            use_bias=np.True_,
        ),
    ]
    model = tfbnn.Sequential([keras.Input((6, 6, 1)), *layers], num_examples=np.int64(7))
    plain = {type(value) for value in keras.tree.flatten(model.get_config())}
    assert plain <= {int, float, str, bool, type(None)}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.num_examples == 7 and loaded.layers[0].strides == (1, 2)
    x = np.ones((2, 6, 6, 1), np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
