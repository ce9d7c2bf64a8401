"""Functions of normals against exact moments and against samples."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfbnn.prediction import normals
from tfbnn.prediction.normals import Moments

SAMPLES = 100_000
# What the logistic distribution function (off by at most 1.42e-4) makes of the moments of a
# maximum, at the worst place: the mean in standard deviations of `x - y`, the variance in its
# variance. ReLU, leaky ReLU and capped ReLU are made of it; for them, those of the input.
MEAN_ERROR = 3.9e-4
VARIANCE_ERROR = 1.25e-3
# Of the quadrature, over all means: the mean in standard deviations of the result, the variance
# relative; by the largest standard deviation of the input.
SMOOTH_ERRORS = {1.0: (0.002, 0.005), 3.0: (0.02, 0.08)}
KINK_ERRORS = {1.0: (0.01, 0.02), 3.0: (0.02, 0.08)}

MEANS = np.linspace(-3.0, 3.0, 7)
VARIANCES = (0.01, 1.0, 9.0)
SMOOTH = ("tanh", "sigmoid", "elu", "selu", "gelu", "silu", "softplus", "exponential")
# A function of one number, and what it does to moments.
RECTIFIERS = {
    "relu": (lambda x: np.maximum(x, 0), normals.rectified),
    "leaky": (lambda x: np.where(x > 0, x, 0.2 * x), lambda x: normals.leaky_rectified(x, 0.2)),
    "capped": (lambda x: np.clip(x, 0, 2), lambda x: normals.capped(x, 2.0)),
}
FUNCTIONS = {
    **{name: moments for name, (_, moments) in RECTIFIERS.items()},
    "maximum": lambda x: normals.maximum(x, Moments(tf.constant(0.5), tf.constant(1.0))),
    "maximum of itself": lambda x: normals.maximum(x, x),
    **{
        name: lambda x, name=name: normals.through(getattr(keras.activations, name), x)
        for name in SMOOTH
    },
}


def _moments(mean, variance):
    return Moments(tf.constant(mean, tf.float32), tf.constant(variance, tf.float32))


def _exact(function, mean, scale):
    """Mean and variance of `function(mean + scale * z)`, by a fine sum over `z`."""
    z = np.linspace(-10.0, 10.0, 20_001)
    weights = stats.norm.pdf(z)
    values = np.asarray(function(mean + scale * z), np.float64)
    average = np.average(values, weights=weights)
    return average, np.average((values - average) ** 2, weights=weights)


def _assert_near(found, samples, mean_error, variance_error):
    """Within 5 standard errors of the samples, and the approximation."""
    mean, variance = samples.mean(), samples.var()
    fourth = np.mean((samples - mean) ** 4)
    assert abs(found.mean - mean) < 5 * math.sqrt(variance / SAMPLES) + mean_error
    spread = math.sqrt(max(fourth - variance**2, 0) / SAMPLES)
    assert abs(found.variance - variance) < 5 * spread + variance_error


def _normal_samples(count):
    return np.random.default_rng(0).normal(size=(count, SAMPLES))


def test_the_distribution_function_is_as_near_as_it_says():
    a = np.linspace(-8, 8, 4001).astype(np.float32)
    error = np.abs(normals.cumulative(a).numpy() - stats.norm.cdf(a))
    assert 1.40e-4 < error.max() < 1.42e-4


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("x_variance, y_variance", [(1.0, 1.0), (4.0, 0.25), (0.01, 9.0)])
def test_maximum_against_samples(x_variance, y_variance, mean):
    x, y = _normal_samples(2)
    samples = np.maximum(mean + math.sqrt(x_variance) * x, 0.5 + math.sqrt(y_variance) * y)
    found = normals.maximum(_moments(mean, x_variance), _moments(0.5, y_variance))
    total = x_variance + y_variance
    _assert_near(found, samples, MEAN_ERROR * math.sqrt(total), VARIANCE_ERROR * total)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_error_of_a_maximum_is_that_of_the_distribution_function(share):
    a = np.linspace(-8, 8, 4001)
    x = Moments(a.astype(np.float32), np.full(a.shape, share, np.float32))
    found = normals.maximum(x, _moments(0.0, 1.0 - share))
    below, density = stats.norm.cdf(a), stats.norm.pdf(a)
    mean = a * below + density
    second = (a**2 + share) * below + (1 - share) * (1 - below) + a * density
    mean_error = np.abs(found.mean - mean).max()
    variance_error = np.abs(found.variance - (second - mean**2)).max()
    assert 3.7e-4 < mean_error < MEAN_ERROR
    assert 1.0e-3 < variance_error < VARIANCE_ERROR


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("name", RECTIFIERS)
def test_rectifiers_against_samples(name, mean, variance):
    function, moments = RECTIFIERS[name]
    (z,) = _normal_samples(1)
    scale = math.sqrt(variance)
    found = moments(_moments(mean, variance))
    samples = function(mean + scale * z)
    _assert_near(found, samples, MEAN_ERROR * scale, VARIANCE_ERROR * variance)


@pytest.mark.parametrize("scale", [1e-3, 0.01, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("name", RECTIFIERS)
def test_rectifiers_where_the_variance_is_small_beside_the_mean(name, scale):
    function, moments = RECTIFIERS[name]
    means = np.array([-100, -3, -0.5, 0, 0.001, 0.5, 1, 1.9, 1.999, 2, 2.1, 3, 30, 100], np.float32)
    found = moments(_moments(means, np.full(means.shape, scale**2)))
    for mean, found_mean, found_variance in zip(means, *found, strict=True):
        exact_mean, exact_variance = _exact(function, float(mean), scale)
        # Three roundings of the mean, in float32.
        rounding = 2e-7 * abs(mean)
        assert abs(found_mean - exact_mean) < MEAN_ERROR * scale + rounding
        assert abs(found_variance - exact_variance) < VARIANCE_ERROR * scale**2


def _errors(name, scale):
    """Largest over the means: of the mean in standard deviations, of the variance relative."""
    function = getattr(keras.activations, name)
    means = np.linspace(-3, 3, 61)
    found = FUNCTIONS[name](_moments(means, np.full(means.shape, scale**2)))
    exact = np.array([_exact(lambda x: function(tf.constant(x)), m, scale) for m in means]).T
    mean_errors = np.abs(found.mean - exact[0]) / np.sqrt(exact[1])
    return mean_errors.max(), np.abs(found.variance / exact[1] - 1).max()


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("name", SMOOTH)
def test_quadrature_is_as_near_as_it_says(name, scale):
    limits = KINK_ERRORS if name == "selu" else SMOOTH_ERRORS
    mean_limit, variance_limit = limits[1.0 if scale <= 1.0 else 3.0]
    mean_error, variance_error = _errors(name, scale)
    assert mean_error < mean_limit and variance_error < variance_limit


@pytest.mark.parametrize("variance", [0.01, 1.0])
@pytest.mark.parametrize("mean", [-2.0, 0.0, 1.0])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activations_against_samples(name, mean, variance):
    (z,) = _normal_samples(1)
    samples = getattr(keras.activations, name)(tf.constant(mean + math.sqrt(variance) * z)).numpy()
    mean_error, variance_error = (KINK_ERRORS if name == "selu" else SMOOTH_ERRORS)[1.0]
    found = FUNCTIONS[name](_moments(mean, variance))
    _assert_near(found, samples, mean_error * samples.std(), variance_error * samples.var())


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_quadrature_is_exact_for_polynomials(degree):
    function = {1: lambda x: 2 * x + 1, 2: lambda x: x**2, 3: lambda x: x**3 - x}[degree]
    found = normals.through(function, _moments(0.7, 1.5))
    mean, variance = _exact(function, 0.7, math.sqrt(1.5))
    np.testing.assert_allclose(found, (mean, variance), rtol=1e-5)


@pytest.mark.parametrize("variance", [1e-8, 1e-4, 1.0, 1e4])
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "exponential"])
def test_far_tails_are_finite_and_not_negative(name, variance):
    means = np.array([-1000, -30, -10, -8, 8, 10, 30, 1000], np.float32) * math.sqrt(variance)
    found = FUNCTIONS[name](_moments(means, np.full(means.shape, variance)))
    assert np.isfinite(found.mean).all() and np.isfinite(found.variance).all()
    assert (found.variance.numpy() >= 0).all()


@pytest.mark.parametrize("name", ["relu", "leaky", "capped"])
def test_far_tails_are_those_of_the_nearer_branch(name):
    function, moments = RECTIFIERS[name]
    found = moments(_moments([-30.0, 30.0], [1.0, 1.0]))
    np.testing.assert_allclose(found.mean, function(np.array([-30.0, 30.0])), rtol=1e-6, atol=1e-12)
    slopes = {"relu": (0, 1), "leaky": (0.2, 1), "capped": (0, 0)}[name]
    np.testing.assert_allclose(found.variance, np.square(slopes), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_a_variance_it_is_the_function(name):
    means = tf.constant([-3.0, -0.5, 0.0, 0.7, 3.0])
    if name.startswith("maximum"):
        found = normals.maximum(Moments(means, None), Moments(tf.constant(0.5), None))
        expected = np.maximum(means, 0.5)
    else:
        found = FUNCTIONS[name](Moments(means, None))
        function = RECTIFIERS[name][0] if name in RECTIFIERS else getattr(keras.activations, name)
        expected = function(means.numpy() if name in RECTIFIERS else means)
    assert found.variance is None
    np.testing.assert_allclose(found.mean, expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*RECTIFIERS, *SMOOTH])
def test_a_variance_of_zero_is_none(name):
    means = tf.constant([-3.0, -0.5, 0.0, 0.7, 2.0, 3.0])
    certain = FUNCTIONS[name](Moments(means, None))
    found = FUNCTIONS[name](Moments(means, tf.zeros_like(means)))
    # The root of a variance is never less than 1e-6.
    np.testing.assert_allclose(found.mean, certain.mean, atol=2e-6, rtol=1e-6)
    slope = math.exp(3.0) if name == "exponential" else 1.8
    assert (found.variance.numpy() >= 0).all()
    assert found.variance.numpy().max() < 1.1e-12 * slope**2


def test_one_certain_of_two():
    found = normals.maximum(_moments([-1.0, 2.0], [1.0, 4.0]), Moments(tf.constant(0.0), None))
    np.testing.assert_array_equal(found, normals.rectified(_moments([-1.0, 2.0], [1.0, 4.0])))


def test_a_maximum_does_not_depend_on_the_order():
    x, y = _moments(MEANS, np.linspace(0, 2, 7)), _moments(-MEANS / 2, np.linspace(3, 0.5, 7))
    np.testing.assert_allclose(normals.maximum(x, y), normals.maximum(y, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_padding_does_not_spoil_the_other(order):
    x = _moments([-20.0, -0.123456, 0.0, 1.2345678, 300.0], [1e-4, 1.0, 0.0, 2.0, 100.0])
    pad = Moments(tf.fill([5], -1e6), tf.zeros([5]))
    found = normals.maximum(*[x, pad][::order])
    np.testing.assert_allclose(found.mean, x.mean, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(found.variance, x.variance, rtol=1e-6)


# On the bounds where a distribution function is cut off, beyond, and where all is certain.
@pytest.mark.parametrize(
    "mean, variance", [(0, 0), (1, 0), (8, 1), (-8, 1), (30, 1), (-30, 1), (0, 1e-12), (0.3, 2)]
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_finite(name, mean, variance):
    if name == "exponential":
        mean = min(mean, 8)
    x = _moments(mean, variance)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = FUNCTIONS[name](x)
        total = found.mean + found.variance
    assert all(math.isfinite(gradient) for gradient in tape.gradient(total, x))


@pytest.mark.parametrize("name", [*RECTIFIERS, "tanh", "silu"])
def test_gradients_are_those_of_the_moments(name):
    x = _moments(0.4, 0.5)
    function = RECTIFIERS[name][0] if name in RECTIFIERS else getattr(keras.activations, name)
    with tf.GradientTape() as tape:
        tape.watch(x)
        mean = FUNCTIONS[name](x).mean
    step = 1e-3
    higher, lower = (_exact(function, 0.4 + s, math.sqrt(0.5))[0] for s in (step, -step))
    assert float(tape.gradient(mean, x).mean) == pytest.approx(
        (higher - lower) / (2 * step), abs=2e-3
    )
