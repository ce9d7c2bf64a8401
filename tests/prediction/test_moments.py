"""Moments layer by layer: exact where they should be, near to samples where they are not."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import tfbnn
from tests.export.c_source.models import dense, finished
from tfbnn.export.laws import MomentsRule, freeze
from tfbnn.layers.keras_layers import RECORDS, record_of
from tfbnn.layers.steps import Step, Value, steps_of
from tfbnn.posterior.routes import posterior_of
from tfbnn.prediction import moment_rules
from tfbnn.prediction.moments import current_weights, outputs_at_points, propagate
from tfbnn.prediction.normals import Moments
from tfbnn.prediction.points import standard_points

K = keras.layers
SAMPLES = 100_000
# Enough to find what is wrong in a rule that is also checked exactly.
FEW_SAMPLES = 20_000


def _normalization(**options):
    return K.Normalization(mean=[0.5, -1.0], variance=[2.0, 0.25], **options)


# Of every layer with a rule, instances with the shapes of their inputs.
IMAGE, SERIES, VOLUME = (5, 4, 2), (7, 2), (3, 3, 2, 1)
EXACT = [
    (K.Dense(3), [(4,)]),
    (K.Dense(3, use_bias=False), [(3, 2)]),
    (K.Conv1D(3, 2), [SERIES]),
    (K.Conv1D(2, 3, padding="causal", dilation_rate=2), [SERIES]),
    (K.Conv1D(2, 3, padding="same", strides=2), [SERIES]),
    (K.Conv2D(2, 2, use_bias=False), [IMAGE]),
    (K.Conv2D(2, (3, 2), strides=2, padding="same"), [IMAGE]),
    (K.Conv2D(2, 2, dilation_rate=(2, 1), padding="same"), [IMAGE]),
    (K.Conv2D(4, 2, groups=2), [IMAGE]),
    (K.Conv3D(2, 2, padding="same"), [VOLUME]),
    (K.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), [SERIES]),
    (K.DepthwiseConv1D(2, strides=2), [SERIES]),
    (K.DepthwiseConv2D(2, depth_multiplier=2), [IMAGE]),
    (K.DepthwiseConv2D(3, padding="same", use_bias=False), [IMAGE]),
    (K.Activation("linear"), [(3,)]),
    (K.Identity(), [(3,)]),
    (K.ActivityRegularization(l2=0.1), [(3,)]),
    (K.Dropout(0.5), [(3,)]),
    (K.SpatialDropout1D(0.5), [SERIES]),
    (K.SpatialDropout2D(0.5), [IMAGE]),
    (K.SpatialDropout3D(0.5), [VOLUME]),
    (K.AlphaDropout(0.5), [(3,)]),
    (K.GaussianDropout(0.5), [(3,)]),
    (K.GaussianNoise(0.5), [(3,)]),
    (K.Flatten(), [IMAGE]),
    (K.Reshape((4, -1)), [IMAGE]),
    (K.Permute((2, 3, 1)), [IMAGE]),
    (K.RepeatVector(3), [(4,)]),
    (K.ZeroPadding1D((1, 2)), [SERIES]),
    (K.ZeroPadding2D(((0, 1), (2, 0))), [IMAGE]),
    (K.ZeroPadding3D(((0, 1), (2, 0), (0, 0))), [VOLUME]),
    (K.Cropping1D((1, 2)), [SERIES]),
    (K.Cropping2D(((0, 1), (2, 0))), [IMAGE]),
    (K.Cropping3D(((0, 1), (2, 0), (0, 0))), [VOLUME]),
    (K.UpSampling1D(3), [SERIES]),
    (K.UpSampling2D((2, 3)), [IMAGE]),
    (K.UpSampling3D(2), [VOLUME]),
    (K.AveragePooling1D(3), [SERIES]),
    (K.AveragePooling1D(3, strides=2, padding="same"), [SERIES]),
    (K.AveragePooling2D(2), [IMAGE]),
    (K.AveragePooling2D(3, strides=2, padding="same"), [IMAGE]),
    (K.AveragePooling2D((2, 3), strides=(1, 2), padding="same"), [IMAGE]),
    (K.AveragePooling3D(2, padding="same"), [VOLUME]),
    (K.GlobalAveragePooling1D(), [SERIES]),
    (K.GlobalAveragePooling2D(keepdims=True), [IMAGE]),
    (K.GlobalAveragePooling3D(), [VOLUME]),
    (K.BatchNormalization(), [IMAGE]),
    (K.BatchNormalization(axis=1), [IMAGE]),
    (K.BatchNormalization(scale=False, center=False), [(3,)]),
    (_normalization(), [SERIES]),
    (_normalization(invert=True), [SERIES]),
    (K.Rescaling(0.5, offset=-1.0), [(3,)]),
    (K.Rescaling([2.0, -1.0], offset=[0.0, 3.0]), [SERIES]),
    (K.Add(), [(3,), (3,), (3,)]),
    (K.Add(), [(1, 1, 2), IMAGE]),
    (K.Subtract(), [(3,), (3,)]),
    (K.Average(), [(3,), (3,), (3,)]),
    (K.Concatenate(), [(4, 1), (4, 2)]),
    (K.Concatenate(axis=1), [(1, 3), (4, 3)]),
    (K.ReLU(negative_slope=1.0), [(3,)]),
]
# Largest errors of the mean, in standard deviations, and of the variance, relative; standard errors
# of the samples apart. Beyond a ReLU's (`test_normals`) they come from the largest of more than two
# numbers, which is taken for normal; `test_largest` says how far off that is.
ACTIVATION_ERROR = (1e-3, 5e-3)
FOUR_ERROR = (0.06, 0.31)
MAXIMUM_ERROR = (0.13, 0.45)
APPROXIMATE = [
    (K.ReLU(), [(5,)], ACTIVATION_ERROR),
    (K.ReLU(negative_slope=0.1), [(5,)], ACTIVATION_ERROR),
    (K.ReLU(max_value=1.5), [(5,)], ACTIVATION_ERROR),
    (K.LeakyReLU(negative_slope=0.3), [(5,)], ACTIVATION_ERROR),
    (K.ELU(), [(5,)], ACTIVATION_ERROR),
    (K.ELU(alpha=0.5), [(5,)], (0.01, 0.02)),
    (K.MaxPooling1D(2), [SERIES], ACTIVATION_ERROR),
    (K.MaxPooling1D(3, strides=2, padding="same"), [SERIES], (0.02, 0.03)),
    (K.MaxPooling1D(2, strides=3), [SERIES], ACTIVATION_ERROR),
    (K.MaxPooling2D(2), [IMAGE], FOUR_ERROR),
    (K.MaxPooling2D(3, strides=2, padding="same"), [IMAGE], MAXIMUM_ERROR),
    (K.MaxPooling2D((2, 3), strides=(3, 1), padding="same"), [IMAGE], MAXIMUM_ERROR),
    (K.MaxPooling3D(2), [VOLUME], (0.02, 0.03)),
    (K.GlobalMaxPooling1D(keepdims=True), [SERIES], (0.02, 0.03)),
    (K.GlobalMaxPooling2D(), [IMAGE], MAXIMUM_ERROR),
    (K.GlobalMaxPooling3D(keepdims=True), [VOLUME], (0.02, 0.03)),
]
APPROXIMATE += (
    [
        (K.LayerNormalization(), [(16,)], (0.15, 0.3)),
        (K.LayerNormalization(center=False), [(64,)], (0.06, 0.12)),
        (K.LayerNormalization(axis=(1, 2), scale=False), [(8, 4, 2)], (0.1, 0.2)),
    ]
    + [
        (K.Activation(name), [(5,)], ACTIVATION_ERROR)
        for name in "relu relu6 leaky_relu tanh sigmoid elu gelu silu softplus exponential".split()
    ]
    + [(K.Activation("selu"), [(5,)], (0.01, 0.02))]
)
# Only at the end of a network; no rule yet.
OF_ITS_OWN = {"Softmax"}
WITHOUT = {"Maximum", "Minimum", "Multiply"}


def _name(value):
    return type(value).__name__ if isinstance(value, K.Layer) else None


def _given(shapes, rows=None):
    """Means and variances for the inputs of a layer; variances from 0.04 to 1."""
    rng = np.random.default_rng(3)
    rows = () if rows is None else (rows,)
    return [
        Moments(
            tf.constant(rng.normal(size=(*(rows or (1,)), *shape)), tf.float32),
            tf.constant(rng.uniform(0.2, 1.0, size=(*(rows or (1,)), *shape)) ** 2, tf.float32),
        )
        for shape in shapes
    ]


def _call(layer, tensors):
    return layer(tensors if len(tensors) > 1 else tensors[0])


def _built(layer, given):
    """The layer with weights away from their start, and the step that it is."""
    output = _call(layer, [x.mean for x in given])
    rng = np.random.default_rng(4)
    for variable in layer.weights:
        if "float" in variable.dtype and not isinstance(layer, K.Normalization):
            values = rng.normal(size=variable.shape)
            variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
    inputs = tuple(Value((None, *x.mean.shape[1:])) for x in given)
    return Step(layer, inputs, Value((None, *output.shape[1:])))


def _propagated(step, given):
    record = record_of(step)
    assert moment_rules.has_rule(record) and moment_rules.has_activation_rule(record.activation)
    return moment_rules.activate(record.activation, moment_rules.apply(record, given))


def _samples(layer, given, count=SAMPLES):
    """What the layer gives for normal inputs, and how far their mean and variance may scatter."""
    rng = np.random.default_rng(5)
    drawn = [
        x.mean + tf.sqrt(x.variance) * rng.normal(size=(count, *x.mean.shape[1:])).astype("f")
        for x in given
    ]
    samples = _call(layer, drawn).numpy().astype(np.float64)
    mean, variance = samples.mean(axis=0), samples.var(axis=0)
    fourth = np.mean((samples - mean) ** 4, axis=0)
    spread = np.sqrt(np.maximum(fourth - variance**2, 0) / count)
    return mean, variance, 5 * np.sqrt(variance / count), 5 * spread


def test_every_layer_with_a_rule_is_here():
    tested = {type(layer).__name__ for layer, *_ in [*EXACT, *APPROXIMATE]}
    known = {layer.__name__ for layer in RECORDS if issubclass(layer, K.Layer)}
    assert tested | OF_ITS_OWN == known - WITHOUT


def test_every_activation_with_a_rule_is_here():
    tested = {
        layer.activation for layer, *_ in [*EXACT, *APPROXIMATE] if _name(layer) == "Activation"
    }
    names = {*moment_rules._SMOOTH, "linear", "relu", "relu6", "leaky_relu"}
    assert tested == {getattr(keras.activations, name) for name in names}


@pytest.mark.parametrize("layer, shapes", EXACT, ids=_name)
def test_linear_layers_are_exact(layer, shapes):
    given = _given(shapes)
    found = _propagated(_built(layer, given), given)
    # The layer is affine: each input moves the outputs in proportion.
    means = [x.mean for x in given]
    mean = _call(layer, means).numpy()
    variance = np.zeros_like(mean)
    for number, x in enumerate(given):
        size = math.prod(x.mean.shape)
        moves = np.eye(size, dtype="f").reshape(size, *x.mean.shape[1:])
        moved = [tf.repeat(m, size, axis=0) for m in means]
        moved[number] += moves
        slopes = _call(layer, moved).numpy() - mean
        variance += np.tensordot(x.variance.numpy().ravel(), slopes**2, 1)
    assert found.mean.shape == found.variance.shape == mean.shape
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer, shapes", EXACT, ids=_name)
def test_linear_layers_against_samples(layer, shapes):
    given = _given(shapes)
    found = _propagated(_built(layer, given), given)
    mean, variance, mean_error, variance_error = _samples(layer, given, FEW_SAMPLES)
    assert (np.abs(found.mean[0] - mean) <= mean_error + 1e-4).all()
    assert (np.abs(found.variance[0] - variance) <= variance_error + 1e-4 * variance).all()


@pytest.mark.parametrize("layer, shapes, errors", APPROXIMATE, ids=_name)
def test_other_layers_against_samples(layer, shapes, errors):
    given = _given(shapes)
    found = _propagated(_built(layer, given), given)
    mean, variance, mean_error, variance_error = _samples(layer, given)
    assert found.mean.shape[1:] == mean.shape and found.variance.shape[1:] == mean.shape
    # Where a function is flat, its approximation is only as near as its input is narrow.
    unit = variance
    if given[0].variance.shape[1:] == variance.shape:
        unit = np.maximum(variance, given[0].variance[0])
    assert (np.abs(found.mean[0] - mean) < mean_error + errors[0] * np.sqrt(unit)).all()
    assert (np.abs(found.variance[0] - variance) < variance_error + errors[1] * unit).all()


@pytest.mark.parametrize("layer, shapes", [case[:2] for case in [*EXACT, *APPROXIMATE]], ids=_name)
def test_certain_inputs_stay_certain(layer, shapes):
    given = [Moments(x.mean, None) for x in _given(shapes)]
    found = _propagated(_built(layer, given), given)
    assert found.variance is None
    expected = _call(layer, [x.mean for x in given])
    np.testing.assert_allclose(found.mean, expected, rtol=1e-5, atol=1e-6)


def _certain_beside_random(layer, certain_shape, random_shape):
    certain, random = _given([certain_shape, random_shape])
    given = [Moments(certain.mean, None), random]
    found = _propagated(_built(layer, given), given)
    expected = _propagated(_built(layer, given), [Moments(certain.mean, 0 * certain.mean), random])
    assert found.variance.shape == found.mean.shape
    np.testing.assert_array_equal(found.mean, layer([certain.mean, random.mean]))
    np.testing.assert_array_equal(found.variance, expected.variance)


@pytest.mark.parametrize("layer", [K.Add(), K.Subtract(), K.Average(), K.Concatenate()], ids=_name)
def test_a_certain_branch_beside_a_random_one(layer):
    _certain_beside_random(layer, (4, 2), (4, 2))


@pytest.mark.parametrize("shapes", [(IMAGE, (1, 1, 2)), ((1, 1, 2), IMAGE)])
@pytest.mark.parametrize("layer", [K.Add(), K.Subtract(), K.Average()], ids=_name)
def test_a_certain_branch_of_another_size(layer, shapes):
    _certain_beside_random(layer, *shapes)


# Of numbers that are alike; the tolerances have 5 standard errors, 0.02 and 0.03, in them.
@pytest.mark.parametrize("size, mean_error, variance_error", [(2, 0.02, 0.08), (3, 0.03, 0.19)])
def test_maxima_of_numbers_that_are_alike(size, mean_error, variance_error):
    z = np.random.default_rng(1).normal(size=(SAMPLES, size**2)).max(axis=1)
    layer = K.MaxPooling2D(size)
    x = Moments(tf.zeros([1, size, size, 1]), tf.ones([1, size, size, 1]))
    found = _propagated(_built(layer, [x]), [x])
    assert abs(found.mean.numpy().item() - z.mean()) < mean_error * z.std()
    assert abs(found.variance.numpy().item() - z.var()) < variance_error * z.var()


@pytest.mark.parametrize("axis", [-1, 1, (1, 2)])
def test_normalisation_of_narrow_inputs_is_exact(axis):
    (x,) = _given([(4, 5)])
    x = Moments(x.mean, 1e-6 * x.variance)
    layer = K.LayerNormalization(axis=axis)
    found = _propagated(_built(layer, [x]), [x])
    with tf.GradientTape() as tape:
        tape.watch(x.mean)
        mean = layer(x.mean)
    slopes = tape.jacobian(mean, x.mean).numpy()[0, :, :, 0]
    variance = np.tensordot(slopes**2, x.variance[0], 2)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.variance[0], variance, rtol=1e-3, atol=1e-9)


def test_normalisation_of_inputs_that_are_alike_is_exact():
    x = Moments(tf.fill([1, 8], 3.0), tf.fill([1, 8], 4.0))
    layer = K.LayerNormalization(epsilon=1e-9)
    found = _propagated(Step(layer, (Value((None, 8)),), Value(layer(x.mean).shape)), [x])
    np.testing.assert_allclose(found.mean, np.zeros((1, 8)), atol=1e-6)
    np.testing.assert_allclose(found.variance, np.ones((1, 8)), rtol=1e-5)


@pytest.mark.parametrize("value, sign", [(-50.0, 1), (50.0, -1)])
def test_padding_is_never_the_largest(value, sign):
    x = Moments(tf.fill([1, 3, 3, 1], value), tf.fill([1, 3, 3, 1], 1e-6))
    layer = K.MaxPooling2D(3, strides=2, padding="same")
    found = _propagated(_built(layer, [x]), [x])
    np.testing.assert_allclose(found.mean, layer(x.mean), atol=0.01)
    assert (found.variance.numpy() > 1e-7).all() and (found.variance.numpy() <= 1e-6).all()


# Variational layers: `f(x, w)` adds up products of an input and a weight, each pair at most once.

VARIATIONAL = [
    ("Dense", (4,), {}),
    ("Dense", (3, 4), {"use_bias": False}),
    ("Convolution1D", (6, 2), {"padding": "valid"}),
    ("Convolution1D", (6, 2), {"padding": "same", "strides": 2}),
    ("Convolution1D", (6, 2), {"padding": "causal", "dilation_rate": 2}),
    ("Convolution2D", (3, 4, 2), {"padding": "same"}),
    ("Convolution2D", (4, 4, 1), {"strides": (2, 1), "padding": "valid"}),
    ("Convolution2D", (4, 4, 1), {"dilation_rate": (1, 2), "padding": "same"}),
    ("Convolution2D", (2, 3, 4), {"groups": 2}),
    ("Convolution3D", (2, 3, 2, 1), {"padding": "valid"}),
    ("Convolution3D", (2, 3, 2, 1), {"padding": "same", "strides": 2}),
]


def _variational(name, shape, options, bias_posterior="point"):
    """A model of one layer, every number of its posterior different, and the terms of its map."""
    size = {"units": 2} if name == "Dense" else {"filters": 2, "kernel_size": 2}
    layer = getattr(tfbnn.layers, f"{name}Flipout")(
        **size, bias_posterior=bias_posterior, **options
    )
    model = tfbnn.Sequential([keras.Input(shape), layer])
    model.compile(loss=tfbnn.losses.NormalNLL(1.0))
    rng = np.random.default_rng(6)
    for variable in model.trainable_weights:
        variable.assign(rng.normal(size=variable.shape) - ("rho" in variable.path))
    units = np.eye(math.prod(shape), dtype="f").reshape(-1, *shape)
    kernels = np.eye(layer.kernel.size, dtype="f").reshape(-1, *layer.kernel.shape)
    # (weights, inputs, outputs)
    terms = np.stack([layer.linear_map(units, tf.constant(k)).numpy() for k in kernels])
    return model, layer, terms


def _closed_form(layer, terms, x, spread, squares):
    """Moments of a variational layer, the variances and squared means of its kernel given."""
    m, v = (np.ravel(tensor).astype(np.float64) for tensor in x)
    kernel = layer.kernel.loc.numpy().ravel()
    mean = np.einsum("wi...,w,i->...", terms, kernel, m)
    variance = np.einsum("wi...,w,i->...", terms, spread.ravel(), m**2 + v)
    variance += np.einsum("wi...,w,i->...", terms, squares.ravel(), v)
    if layer.bias is not None:
        mean = mean + layer.bias.loc.numpy()
        variance = variance + (layer.bias.scale.numpy() ** 2 if layer.bias.is_random else 0.0)
    return mean, variance


@pytest.mark.parametrize("bias_posterior", ["point", "normal"])
@pytest.mark.parametrize("name, shape, options", VARIATIONAL)
def test_variational_layers_are_exact(name, shape, options, bias_posterior):
    _, layer, terms = _variational(name, shape, options, bias_posterior)
    (x,) = _given([shape])
    squares, spread = layer.kernel.loc.numpy() ** 2, layer.kernel.scale.numpy() ** 2
    mean, variance = _closed_form(layer, terms, x, spread, squares)
    found = current_weights(layer.random_map, x)
    np.testing.assert_allclose(found.mean[0], mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.variance[0], variance, rtol=1e-5)
    certain = current_weights(layer.random_map, Moments(x.mean, None))
    _, variance = _closed_form(
        layer, terms, Moments(x.mean, tf.zeros_like(x.mean)), spread, squares
    )
    np.testing.assert_allclose(certain.mean, found.mean, rtol=1e-6)
    np.testing.assert_allclose(certain.variance[0], variance, rtol=1e-5)


@pytest.mark.parametrize("name, shape", [("Dense", (4,)), ("Convolution2D", (2, 2, 2))])
def test_variational_layers_against_samples(name, shape):
    _, layer, _ = _variational(name, shape, {}, "normal")
    (x,) = _given([shape])
    rng = np.random.default_rng(5)
    inputs = x.mean + tf.sqrt(x.variance) * rng.normal(size=(SAMPLES, *shape)).astype("f")
    kernels = layer.kernel.loc.numpy() + layer.kernel.scale.numpy() * rng.normal(
        size=(SAMPLES, *layer.kernel.shape)
    )
    biases = layer.bias.loc.numpy() + layer.bias.scale.numpy() * rng.normal(size=(SAMPLES, 2))
    # A kernel as large as its input: one product for each unit.
    flat = kernels.reshape(SAMPLES, -1, 2)
    samples = np.einsum("ni,niu->nu", inputs.numpy().reshape(SAMPLES, -1), flat) + biases
    mean, variance = (tensor.numpy().ravel() for tensor in current_weights(layer.random_map, x))
    fourth = np.mean((samples - samples.mean(axis=0)) ** 4, axis=0)
    assert (np.abs(samples.mean(axis=0) - mean) < 5 * np.sqrt(variance / SAMPLES)).all()
    spread = np.sqrt((fourth - variance**2) / SAMPLES)
    assert (np.abs(samples.var(axis=0) - variance) < 5 * spread).all()


@pytest.mark.parametrize("scale", ["full", "rank_one", "unit"])
@pytest.mark.parametrize("name, shape, options", VARIATIONAL)
def test_frozen_layers_are_exact_in_every_form(name, shape, options, scale):
    model, layer, terms = _variational(name, shape, options, "normal")
    frozen = freeze(posterior_of(model), scale)
    spread, squares = layer.kernel.scale.numpy() ** 2, layer.kernel.loc.numpy() ** 2
    if scale != "full" and options.get("groups", 1) == 1:
        spread, squares = _factorised(spread, scale), _factorised(squares, "rank_one")
    (x,) = _given([shape])
    mean, variance = _closed_form(layer, terms, x, spread, squares)
    found = MomentsRule(frozen)(layer.random_map, x)
    np.testing.assert_allclose(found.mean[0], mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.variance[0], variance, rtol=1e-4)


def _factorised(variance, form):
    """The product that keeps the sums of rows and columns, or of columns."""
    flat = variance.reshape(-1, variance.shape[-1]).astype(np.float64)
    if form == "unit":
        product = np.tile(flat.mean(axis=0), (len(flat), 1))
    else:
        product = flat.sum(axis=1, keepdims=True) * flat.sum(axis=0) / flat.sum()
    return product.reshape(variance.shape)


def test_full_frozen_weights_give_what_the_current_ones_give():
    model = _network("images")
    steps, x = steps_of(model), _rows(model)
    now = propagate(steps, x, current_weights)
    then = propagate(steps, x, MomentsRule(freeze(posterior_of(model))))
    np.testing.assert_allclose(now.mean, then.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(now.variance, then.variance, rtol=1e-4)


# Whole networks.

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PROBABILITIES = keras.losses.SparseCategoricalCrossentropy(from_logits=False)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)
BINARY_PROBABILITIES = keras.losses.BinaryCrossentropy(from_logits=False)
NLL = tfbnn.losses.NormalNLL


def _convolution(filters, size, **options):
    family = tfbnn.families.Normal(0.1)
    return tfbnn.layers.Convolution2DFlipout(filters, size, kernel_posterior=family, **options)


def _residual(x):
    # What a random bias adds to both ways is dependence, which moments lose.
    x = dense(8, activation="relu", bias_posterior="point")(x)
    y = dense(8, activation="tanh")(x)
    return dense(3)(K.Add()([x, y]))


def _sum_of_values(x):
    x = dense(8)(x)
    return dense(3)(keras.ops.add(K.ReLU()(x), dense(8)(x)))


def _half_certain(x):
    return dense(3)(K.Concatenate()([x, dense(8, activation="relu")(x)]))


def _nested(x):
    inner = keras.Sequential([keras.Input((5,)), dense(8, activation="silu"), K.Dropout(0.5)])
    return dense(3)(inner(x))


def _images(x):
    x = _convolution(4, 3, padding="same", activation="relu")(x)
    x = K.MaxPooling2D(2)(K.BatchNormalization()(x))
    x = _convolution(4, 2, activation="relu")(x)
    return dense(3)(K.GlobalAveragePooling2D()(x))


def _normalised(x):
    x = dense(16, activation="relu")(x)
    return dense(3)(K.LayerNormalization()(K.Add()([x, dense(16)(x)])))


def _hidden(*last):
    def build(x):
        x = dense(8, activation="relu")(x)
        for layer in last:
            x = layer()(x)
        return x

    return build


# Network, shape of its input, loss.
NETWORKS = {
    "logits": (_hidden(lambda: dense(3)), (5,), LOGITS),
    "residual": (_residual, (5,), LOGITS),
    "sum of values": (_sum_of_values, (5,), LOGITS),
    "half certain": (_half_certain, (5,), LOGITS),
    "nested": (_nested, (5,), LOGITS),
    "normalised": (_normalised, (5,), LOGITS),
    "images": (_images, (6, 6, 2), LOGITS),
    "softmax": (_hidden(lambda: dense(3, activation="softmax")), (5,), PROBABILITIES),
    "softmax layer": (_hidden(lambda: dense(3), K.Softmax), (5,), PROBABILITIES),
    "binary": (_hidden(lambda: dense(1)), (5,), BINARY),
    "sigmoids": (
        _hidden(lambda: dense(2, activation="sigmoid")), (5,), BINARY_PROBABILITIES),
    "fixed scale": (_hidden(lambda: dense(2)), (5,), NLL(0.3)),
    "learned scale": (_hidden(lambda: dense(2)), (5,), NLL("learned", initial_scale=1.0)),
    "predicted scale": (_hidden(lambda: dense(2)), (5,), NLL("head", initial_scale=1.0)),
}  # fmt: skip


# How far the answers may be from those of 2000 drawn networks, on average over rows: the dependence
# between units is lost, the 64 points are few, and draws scatter. The prediction, in probabilities
# or in total standard deviations; the uncertainty and the part of it that the weights are to blame
# for, relative to their means. Observed: of classes 0.001 to 0.006, 0.03, 0.22 (0.14 without
# convolutions, whose outputs share their kernel); of real numbers 0.011, 0.006, 0.012.
CLASS_ERRORS = (0.01, 0.04, 0.3)
NORMAL_ERRORS = (0.02, 0.01, 0.03)


def _network(name):
    build, shape, loss = NETWORKS[name]
    inputs = keras.Input(shape)
    model = tfbnn.Model(inputs, build(inputs))
    model.compile(loss=loss)
    return finished(model)


def _rows(model, count=50):
    return np.random.default_rng(1).normal(size=(count, *model.input_shape[1:])).astype("f")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_against_drawn_ones(name):
    model = _network(name)
    x = _rows(model)
    outputs = outputs_at_points(steps_of(model), x, current_weights, 64)
    found = model.likelihood.answer(outputs)
    truth = tfbnn.predict(model, x, num_samples=2000, seed=0, verbose=0)
    is_normal = model.likelihood.name == "normal"
    errors, third = (
        (NORMAL_ERRORS, "epistemic") if is_normal else (CLASS_ERRORS, "mutual_information")
    )
    units = [truth.uncertainty.mean() if is_normal else 1.0]
    units += [truth.uncertainty.mean(), getattr(truth, third).mean()]
    for key, unit, error in zip(("prediction", "uncertainty", third), units, errors, strict=True):
        assert np.abs(found[key] - getattr(truth, key)).mean() < error * unit


@pytest.mark.parametrize("name", ["logits", "images", "binary", "fixed scale"])
def test_points_have_the_moments(name):
    model = _network(name)
    steps, x = steps_of(model), _rows(model)
    outputs = outputs_at_points(steps, x, current_weights, 16).numpy()
    mean, variance = propagate(steps, x, current_weights)
    assert outputs.shape == (16, *mean.shape)
    np.testing.assert_allclose(outputs.mean(axis=0), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.var(axis=0), variance, rtol=1e-4)
    np.testing.assert_array_equal(outputs, outputs_at_points(steps, x, current_weights, 16))


@pytest.mark.parametrize("name, finish", [("softmax", tf.nn.softmax), ("sigmoids", tf.sigmoid)])
def test_probabilities_at_the_end_are_of_points_not_of_moments(name, finish):
    model = _network(name)
    steps, x = steps_of(model), _rows(model)
    mean, variance = propagate(steps, x, current_weights)
    # As if the network ended before.
    before = keras.Model(model.inputs, model.layers[-2].output)
    hidden = propagate(steps_of(before), x, current_weights)
    expected = current_weights(model.layers[-1].random_map, hidden)
    np.testing.assert_allclose(mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(variance, expected.variance, rtol=1e-6)
    points = standard_points(16, mean.shape[-1])[:, np.newaxis]
    outputs = outputs_at_points(steps, x, current_weights, 16)
    np.testing.assert_allclose(outputs, finish(mean + tf.sqrt(variance) * points), rtol=1e-5)


def test_a_softmax_layer_and_a_softmax_in_the_layer_are_the_same():
    outputs = []
    for name in ("softmax", "softmax layer"):
        keras.utils.set_random_seed(0)
        model = _network(name)
        outputs.append(outputs_at_points(steps_of(model), _rows(model), current_weights, 16))
    np.testing.assert_allclose(*outputs, rtol=1e-6)


def test_a_network_without_random_layers_is_keras_and_all_points_are_one():
    model = keras.Sequential([keras.Input((5,)), K.Dense(4, activation="relu"), K.Dense(2)])
    x = _rows(model)
    steps = steps_of(model)
    mean, variance = propagate(steps, x, current_weights)
    assert variance is None
    np.testing.assert_allclose(mean, model(x), rtol=1e-5, atol=1e-6)
    outputs = outputs_at_points(steps, x, current_weights, 4)
    np.testing.assert_allclose(outputs, np.tile(mean, (4, 1, 1)))


def test_nested_models_are_opened():
    inner = keras.Sequential([dense(8, activation="relu"), K.Dropout(0.5)])
    inputs = keras.Input((5,))
    nested = tfbnn.Model(inputs, dense(3)(inner(inputs)))
    nested.compile(loss=LOGITS)
    finished(nested)
    flat = keras.Sequential([keras.Input((5,)), *inner.layers, nested.layers[-1]])
    x = _rows(nested)
    found, expected = (propagate(steps_of(m), x, current_weights) for m in (nested, flat))
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(found.variance, expected.variance)


def test_it_is_differentiable():
    model = _network("images")
    steps, x = steps_of(model), _rows(model, 4)
    variables = [v.value for v in model.trainable_weights]

    def total():
        mean, variance = propagate(steps, x, current_weights)
        return tf.reduce_sum(mean) + tf.reduce_sum(variance)

    with tf.GradientTape() as tape:
        value = total()
    gradients = tape.gradient(value, variables)
    rng, step = np.random.default_rng(2), 1e-3
    # In each variable by itself: a layer whose gradient is lost would hide behind the others.
    for variable, gradient in zip(variables, gradients, strict=True):
        direction = np.sign(gradient) * rng.uniform(0.5, 1.0, variable.shape).astype("f")
        ends = []
        for sign in (1, -1):
            variable.assign_add(sign * step * direction)
            ends.append(float(total()))
            variable.assign_sub(sign * step * direction)
        slope = float(tf.reduce_sum(gradient * direction))
        assert slope > 0.01
        # Of a sum that float32 rounds, and that bends.
        rounding = 4e-6 * abs(float(value)) / step
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=0.02, abs=rounding)


# TensorFlow's own is older, as those of devices are.
@pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("kind", [Interpreter, tf.lite.Interpreter], ids=["litert", "tensorflow"])
@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", "tanh", "linear"])
def test_litert_runs_it_after_a_convolution(activation, kind):
    inputs = keras.Input((3, 3, 1))
    x = K.Activation(activation)(_convolution(2, 2, padding="same")(inputs))
    model = tfbnn.Model(inputs, x)
    model.compile(loss=NLL(1.0))
    finished(model)
    steps = steps_of(model)
    rule = MomentsRule(freeze(posterior_of(model)))
    x = _rows(model, 2)
    graph = tf.function(
        lambda x: outputs_at_points(steps, x, rule, 4), [tf.TensorSpec(x.shape)], autograph=False
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.get_concrete_function()])
    interpreter = kind(model_content=converter.convert())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, graph(x), rtol=1e-4, atol=1e-5)


# What moments cannot pass through.


class Doubled(K.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


def _odd(x):
    return x + keras.ops.sin(x)


REFUSED = {
    "RMSNormalization": lambda: K.RMSNormalization(name="odd"),
    "Doubled": lambda: Doubled(3, name="odd"),
    "PReLU": lambda: K.PReLU(name="odd"),
    "Softmax": lambda: K.Softmax(name="odd"),
    "UnitNormalization": lambda: K.UnitNormalization(name="odd"),
}
MODES = "Use `uncertainty='monte_carlo'` or 'ensemble'"


def _check_refused(build, shape, match):
    inputs = keras.Input(shape)
    model = tfbnn.Model(inputs, build(inputs))
    with pytest.raises(ValueError, match=match):
        propagate(steps_of(model), np.zeros((1, *shape), "f"), current_weights)


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_without_a_rule_is_named(name):
    _check_refused(
        lambda x: dense(3)(REFUSED[name]()(dense(4)(x))), (5,), rf"layer 'odd' \({name}\).*{MODES}"
    )


def test_up_sampling_that_mixes_places_is_named():
    up = K.UpSampling2D(interpolation="bilinear", name="odd")
    _check_refused(up, (2, 2, 1), rf"layer 'odd' \(UpSampling2D\)\. {MODES}")


@pytest.mark.parametrize("activation", ["softmax", "hard_sigmoid", "log_softmax", "mish", _odd])
@pytest.mark.parametrize("kind", ["random", "fixed", "alone"])
def test_an_activation_without_a_rule_is_named(kind, activation):
    name = "_odd" if callable(activation) else activation
    make = {
        "random": lambda: dense(4, activation=activation, name="odd"),
        "fixed": lambda: K.Dense(4, activation=activation, name="odd"),
        "alone": lambda: K.Activation(activation, name="odd"),
    }[kind]
    match = rf"layer 'odd' \(.*\) with the activation '{name}'\. {MODES}"
    _check_refused(lambda x: dense(3)(make()(x)), (5,), match)


def test_a_softmax_over_another_axis_is_named():
    _check_refused(
        lambda x: K.Softmax(axis=1, name="odd")(dense(4)(x)), (3, 5), rf"'odd' \(Softmax\).*{MODES}"
    )


@pytest.mark.parametrize("operation", ["average", "softmax", "sin", "multiply"])
def test_an_operation_without_a_rule_is_named(operation):
    def build(x):
        x = dense(4)(x)
        others = {"multiply": [dense(4)(x)], "average": [1]}.get(operation, [])
        return dense(3)(getattr(keras.ops, operation)(x, *others))

    _check_refused(build, (3, 5), rf"'{operation}' \({operation.title()}\).*{MODES}")


@pytest.mark.parametrize("layer", ["MaxPooling2D", "GlobalAveragePooling2D", "Conv2D"])
def test_channels_first_is_named(layer):
    sizes = {"MaxPooling2D": [2], "Conv2D": [3, 1]}.get(layer, [])
    build = getattr(K, layer)
    _check_refused(
        lambda x: build(*sizes, data_format="channels_first", name="odd")(x),
        (2, 4, 4),
        rf"layer 'odd' \({layer}\).*{MODES}",
    )


def test_inputs_of_different_rank_are_named():
    _check_refused(
        lambda x: K.Add(name="odd")([x, K.GlobalAveragePooling1D()(x)]), (4, 3), rf"'odd'.*{MODES}"
    )


@pytest.mark.parametrize("make", [dense, K.Dense])
def test_a_layer_called_twice_is_named(make):
    def build(x):
        layer = make(5, name="twice")
        return layer(layer(x))

    _check_refused(build, (5,), rf"'twice' .* called more than once\. {MODES}")


def test_a_layer_without_weights_may_be_called_twice():
    relu, layers, inputs = K.ReLU(), [dense(4), dense(4), dense(3)], keras.Input((5,))

    def built(first, second):
        return tfbnn.Model(inputs, layers[2](second(layers[1](first(layers[0](inputs))))))

    twice = built(relu, relu)
    twice.compile(loss=LOGITS)
    finished(twice)
    found, expected = (
        propagate(steps_of(model), _rows(model), current_weights)
        for model in (twice, built(K.ReLU(), K.ReLU()))
    )
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(found.variance, expected.variance)
    assert found.mean.numpy().std() > 0.01


@pytest.mark.parametrize(
    "layer",
    [
        lambda: K.ReLU(threshold=0.5, name="odd"),
        lambda: K.ReLU(max_value=1.0, negative_slope=0.1, name="odd"),
        lambda: K.ReLU(max_value=0.0, negative_slope=0.1, name="odd"),
    ],
)
def test_a_relu_with_all_options_is_named(layer):
    match = rf"layer 'odd' \(ReLU\) with a threshold, or with both a slope and a cap\. {MODES}"
    _check_refused(lambda x: layer()(dense(4)(x)), (5,), match)
