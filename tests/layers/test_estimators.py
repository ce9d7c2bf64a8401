"""Every estimator on every map against theory: the joint law of all outputs in closed form.

The outputs are linear in the weights, `outputs = jacobian @ weights`, so their covariance is
`jacobian @ diag(scale**2) @ jacobian.T`. What an estimator leaves out of it is its whole nature:
nothing (reparameterization), what two examples share (Flipout), or what two outputs share (local
reparameterization).
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.linear_maps import ESTIMATORS, LINEAR_MAPS, VARIANTS
from tfbnn.layers import estimators, scopes
from tfbnn.layers.variational import variational_layers
from tfbnn.weights import divergences, noise

NUM_DRAWS = 2000
WITH_BIAS = [(*one[:3], jit) for *one, jit in VARIANTS if one[1].get("use_bias", True)]


def _layer(linear_map, estimator, x, **options):
    initializer = keras.initializers.RandomNormal(seed=2)
    layer = LINEAR_MAPS[linear_map].make(
        estimator=estimator, **{"bias_initializer": initializer, **options}, seed=3
    )
    layer.build(x.shape)
    for number, weight in enumerate(layer.variational_weights):
        rho = np.random.default_rng(number).uniform(-3, 0, weight.shape)
        weight.rho_variable.assign(rho.astype("float32"))
    return layer


def _inputs(shape):
    return np.random.default_rng(5).normal(size=shape).astype("float32")


def _repeat(function, num_results, jit_compile=False):
    """`NUM_DRAWS` times the list that `function` returns, each stacked, from one call."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def results():
        types = [tf.float32] * num_results
        return tf.map_fn(lambda _: function(), tf.range(NUM_DRAWS), fn_output_signature=types)

    return [tensor.numpy() for tensor in results()]


def _exact_covariance(layer, x, jit_compile):
    """Of the flattened outputs, under one draw of the weights."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def outputs_of(kernel):
        return layer.linear_map(tf.constant(x), kernel)

    # The map is linear: its jacobian is what it makes of each unit vector.
    unit_kernels = tf.reshape(tf.eye(layer.kernel.size), [-1, *layer.kernel.shape])
    columns = [outputs_of(kernel).numpy() for kernel in unit_kernels]
    outputs, jacobian = columns[0], np.stack(columns, axis=-1).reshape(-1, len(columns))
    covariance = jacobian * layer.kernel.scale.numpy().ravel() ** 2 @ jacobian.T
    if layer.bias.is_random:
        shape = layer.linear_map.bias_shape(outputs.ndim)
        units = np.arange(layer.bias.size).reshape(shape)
        units = np.broadcast_to(units, outputs.shape).ravel()
        variance = layer.bias.scale.numpy()[units] ** 2
        covariance = covariance + np.where(units[:, None] == units, variance, 0.0)
    return covariance


def _shared(estimator, covariance, batch):
    """What the estimator keeps of the covariance."""
    if estimator == "reparameterization":
        return covariance
    if estimator == "local_reparameterization":
        return np.diag(np.diag(covariance))
    example = np.repeat(np.arange(batch), len(covariance) // batch)
    return np.where(example[:, None] == example, covariance, 0.0)


def _check_law(layer, estimator, x, jit_compile=False):
    mean = tf.function(lambda: layer(x), jit_compile=jit_compile, autograph=False)().numpy().ravel()
    (draws,) = _repeat(lambda: [layer(x, training=True)], 1, jit_compile)
    draws = draws.reshape(NUM_DRAWS, -1)
    covariance = _shared(estimator, _exact_covariance(layer, x, jit_compile), len(x))
    variance = np.diag(covariance)
    mean_error = np.abs(draws.mean(axis=0) - mean) / np.sqrt(variance / NUM_DRAWS)
    # The variance of a product of two of them is at most 3 times the product of their variances.
    spread = np.sqrt(3 * np.outer(variance, variance) / NUM_DRAWS)
    covariance_error = np.abs(np.cov(draws.T) - covariance) / spread
    assert mean_error.max() < 5
    assert covariance_error.max() < 5


# Every map and every estimator with both kinds of biases.
CASES = [
    (linear_map, estimator, ("point", "normal")[(row + column) % 2])
    for row, linear_map in enumerate(LINEAR_MAPS)
    for column, estimator in enumerate(ESTIMATORS)
]


@pytest.mark.parametrize("linear_map, estimator, bias_posterior", CASES)
def test_the_outputs_have_the_law_of_the_closed_form(linear_map, estimator, bias_posterior):
    x = LINEAR_MAPS[linear_map].rows(2, seed=5)
    layer = _layer(linear_map, estimator, x, bias_posterior=bias_posterior)
    _check_law(layer, estimator, x)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("linear_map, options, shape, jit_compile", WITH_BIAS)
def test_so_they_have_with_every_argument(linear_map, options, shape, jit_compile, estimator):
    x = _inputs((2, *shape))
    layer = _layer(linear_map, estimator, x, bias_posterior="normal", **options)
    _check_law(layer, estimator, x, jit_compile)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("linear_map", ["Dense", "Conv2D"])
def test_gradients_are_unbiased(linear_map, estimator):
    x = LINEAR_MAPS[linear_map].rows(2, seed=5)
    layer = _layer(linear_map, estimator, x, bias_posterior="normal")
    target = 0.7
    variables = [v.value for v in layer.trainable_weights]

    def noisy():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((layer(x, training=True) - target) ** 2)
        return tape.gradient(loss, variables)

    # E[(outputs - target)**2] = (mean - target)**2 + variance
    with tf.GradientTape() as tape:
        variance = layer.linear_map(tf.constant(x**2), layer.kernel.scale**2) + layer.bias.scale**2
        loss = tf.reduce_sum((layer(x) - target) ** 2 + variance)
    found = _repeat(noisy, len(variables))
    for draws, exact in zip(found, tape.gradient(loss, variables), strict=True):
        standard_error = draws.std(axis=0) / np.sqrt(NUM_DRAWS)
        assert np.max(np.abs(draws.mean(axis=0) - exact.numpy()) / standard_error) < 5


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("linear_map", ["Dense", "Conv2D"])
def test_zero_inputs_have_no_noise_and_finite_gradients(linear_map, estimator):
    x = np.zeros((2, *LINEAR_MAPS[linear_map].shape), "float32")
    layer = _layer(linear_map, estimator, x, bias_posterior="point")
    with tf.GradientTape() as tape:
        outputs = layer(x, training=True)
        loss = tf.reduce_sum(outputs**2)
    assert np.array_equal(outputs, layer(x))
    gradients = tape.gradient(loss, [v.value for v in layer.trainable_weights])
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


@pytest.mark.parametrize("estimator", ["reparameterization", "flipout"])
def test_a_layer_called_twice_goes_through_the_same_weights(estimator):
    x = _inputs((4, 3))
    layer = _layer("Dense", estimator, x)
    with scopes.collect_draws() as collector:
        first, second = layer(x, training=True), layer(2 * x, training=True)
    # What is left is the bias, drawn once: Flipout changes the sign of its noise for each example.
    noise_of_bias = np.abs(2 * first - second - layer.bias.loc)
    assert np.allclose(noise_of_bias, noise_of_bias[0], atol=1e-5) and np.all(noise_of_bias > 1e-3)
    assert not np.allclose(first, layer(x, training=True))
    assert set(collector.divergences) == {layer.kernel, layer.bias}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("prior", ["normal", "automatic_relevance", "scale_mixture"])
def test_the_kl_that_comes_up_is_that_of_the_weights_drawn(estimator, prior):
    x = np.eye(3, dtype="float32")
    layer = _layer("Dense", estimator, x, kernel_prior=prior, bias_posterior="point")
    with scopes.collect_draws() as collector:
        outputs = layer(x, training=True)
    assert set(collector.divergences) == {layer.kernel}
    kl = float(collector.divergences[layer.kernel])
    if layer.kernel.kl_is_exact:
        assert kl == pytest.approx(float(layer.kernel.kl()), rel=1e-6)
    elif estimator == "reparameterization":
        # With unit vectors for inputs the outputs are the rows of the drawn kernel.
        draw = outputs - layer.bias.loc
        scale = layer.kernel.scale
        expected = tf.reduce_sum(divergences.monte_carlo(scale, layer.kernel_prior, draw))
        assert kl == pytest.approx(float(expected), rel=1e-4)
    else:

        def both():
            seed = noise.next_seed(layer.seed_generator)
            with scopes.collect_draws() as collector:
                layer(x, training=True)
            return [collector.divergences[layer.kernel], layer.kernel.kl(seed)]

        kls, exact = _repeat(both, 2)
        error = np.sqrt((np.var(kls) + np.var(exact)) / NUM_DRAWS)
        assert abs(np.mean(kls) - np.mean(exact)) < 4.5 * error


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_random_bias_brings_its_kl(estimator):
    x = np.ones((1, 3), "float32")
    layer = _layer("Dense", estimator, x)
    with scopes.collect_draws() as collector:
        layer(x, training=True)
    assert (
        set(collector.divergences)
        == set(layer.variational_weights)
        == {
            layer.kernel,
            layer.bias,
        }
    )
    for weight, kl in collector.divergences.items():
        assert float(kl) == pytest.approx(float(weight.kl()), rel=1e-6)
    assert list(variational_layers(keras.Sequential([layer]))) == [layer]


def test_a_variance_rounded_to_below_zero_gives_neither_noise_nor_gradient():
    variance = tf.constant([-1e-9, 0.0, 4.0])
    with tf.GradientTape() as tape:
        tape.watch(variance)
        root = estimators._sqrt(variance)
    np.testing.assert_allclose(root, [0.0, 0.0, 2.0], atol=1e-11)
    np.testing.assert_allclose(tape.gradient(root, variance), [0.0, 0.0, 0.25])
