"""Every layer against theory: mean and variance of its outputs in closed form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.linear_maps import ESTIMATORS, LINEAR_MAPS

# Every map and every estimator with both kinds of biases.
CASES = [
    (linear_map, estimator, ("normal", "point")[(row + column) % 2])
    for row, linear_map in enumerate(LINEAR_MAPS)
    for column, estimator in enumerate(ESTIMATORS)
]
NUM_CALLS, DRAWS_OF_A_CALL = 20, 100


def _layer(linear_map, estimator, bias_posterior):
    return LINEAR_MAPS[linear_map].make(
        estimator=estimator,
        kernel_posterior=tfbnn.families.Normal(initial_scale=0.3),
        bias_posterior=bias_posterior,
        kernel_initializer=keras.initializers.RandomNormal(seed=1),
        bias_initializer=keras.initializers.RandomNormal(seed=2),
        seed=3,
    )


def _randomise_scales(layer):
    for number, weight in enumerate(layer.variational_weights):
        rho = np.random.default_rng(number).uniform(-3, 0, weight.shape)
        weight.rho_variable.assign(rho.astype("float32"))


@pytest.mark.parametrize("linear_map, estimator, bias_posterior", CASES)
def test_mean_and_variance_are_those_of_the_closed_form(linear_map, estimator, bias_posterior):
    layer = _layer(linear_map, estimator, bias_posterior)
    x = LINEAR_MAPS[linear_map].rows(2, seed=5)
    layer(x)
    _randomise_scales(layer)

    mean = np.asarray(layer(x))
    variance = np.asarray(layer.linear_map(x**2, layer.kernel.scale**2))
    if bias_posterior == "normal":
        variance = variance + np.asarray(layer.bias.scale) ** 2
    # The rows of a batch may share their draw, so the layer is called for each: within one call of
    # the graph, which is cheap, and in several, which must not repeat it.
    numbers = tf.zeros(DRAWS_OF_A_CALL)
    noisy = tf.function(
        lambda: tf.map_fn(lambda _: layer(x, training=True), numbers), autograph=False
    )
    draws = np.concatenate([noisy().numpy() for _ in range(NUM_CALLS)])

    count = len(draws)
    mean_error = np.abs(draws.mean(axis=0) - mean) / np.sqrt(variance / count)
    variance_error = np.abs(draws.var(axis=0) - variance) / (variance * np.sqrt(2 / count))
    assert mean_error.max() < 5
    assert variance_error.max() < 5
