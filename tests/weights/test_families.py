"""Weights: their draws, their masks, their configuration."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.weights import families, noise


def _kernel(masked=False, **family):
    layer = tfbnn.layers.DenseReparameterization(
        4, kernel_prior="normal", kernel_posterior=families.Normal(**family), masked=masked
    )
    layer.build((None, 5))
    return layer.kernel


@pytest.mark.parametrize("scale", [1e-6, 0.0067, 0.5, 30.0])
def test_the_initial_scale_is_a_standard_deviation(scale):
    assert np.allclose(_kernel(initial_scale=scale).scale, scale, rtol=1e-4)


@pytest.mark.parametrize("identifier", ["normal", families.Normal("fan_in"), families.Normal()])
def test_the_initial_scale_follows_the_fan_in(identifier):
    laws = {"kernel_posterior": identifier, "bias_posterior": identifier}
    dense = tfbnn.layers.DenseFlipout(4, **laws)
    dense.build((None, 25))
    convolution = tfbnn.layers.Convolution2DFlipout(4, 5, **laws)
    convolution.build((None, 8, 8, 4))
    for layer, scale in ((dense, 0.3 / 5), (convolution, 0.3 / 10)):
        for weight in (layer.kernel, layer.bias):
            assert weight.initial_scale == pytest.approx(scale)
            np.testing.assert_allclose(weight.scale, scale, rtol=1e-5)
        again = type(layer).from_config(layer.get_config())
        assert (
            again.kernel_posterior.initial_scale == again.bias_posterior.initial_scale == "fan_in"
        )


def test_draws_have_the_posterior_s_moments():
    kernel = _kernel(initial_scale=0.3)
    seed = noise.as_seed(0)

    def sample(number):
        return kernel.sample(noise.fold_in(seed, number))

    def mapped():
        return tf.map_fn(sample, tf.range(2000), fn_output_signature="float32")

    samples = tf.function(mapped, autograph=False)
    draws = samples().numpy()
    z = (draws.mean(axis=0) - kernel.loc.numpy()) / (0.3 / np.sqrt(2000))
    assert np.abs(z).max() < 5
    assert np.abs(draws.var(axis=0) / 0.09 - 1).max() < 5 * np.sqrt(2 / 2000)


def test_a_tiny_rho_keeps_everything_finite():
    kernel = _kernel()
    kernel.rho_variable.assign(np.full((5, 4), -200.0))
    with tf.GradientTape() as tape:
        kl = kernel.kl()
    # The scale is as small as a scale may be, and moves no more.
    expected = np.sum(0.5 * kernel.loc.numpy() ** 2 - np.log(1e-12) - 0.5)
    assert float(kl) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(tape.gradient(kl, kernel.rho_variable.value), np.zeros((5, 4)))


@pytest.mark.parametrize("prior", ["normal", "automatic_relevance", "scale_mixture"])
def test_a_mask_takes_weights_out_of_everything(prior):
    layer = tfbnn.layers.DenseReparameterization(4, kernel_prior=prior, masked=True)
    layer.build((None, 5))
    kernel = layer.kernel
    seed = noise.as_seed(1)
    whole = kernel.kl(seed)
    mask = np.zeros((5, 4), "float32")
    mask[:2] = 1
    kernel.mask_variable.assign(mask)
    for value in (kernel.loc, kernel.scale, kernel.sample(seed)):
        assert np.all(value.numpy()[2:] == 0) and np.all(value.numpy()[:2] != 0)
    kept = kernel.kl(seed)
    kernel.mask_variable.assign(1 - mask)
    assert float(kept) + float(kernel.kl(seed)) == pytest.approx(float(whole), rel=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(kernel.sample(seed)) + kernel.kl(seed)
    gradients = tape.gradient(loss, [kernel.loc_variable.value, kernel.rho_variable.value])
    assert all(np.all(gradient.numpy()[:2] == 0) for gradient in gradients)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_configuration_round_trip(name):
    family = families.get(name)
    again = families.get(keras.saving.serialize_keras_object(family))
    assert type(again) is type(family) and again.get_config() == family.get_config()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), "fan_out", None])
def test_a_scale_that_is_none_is_an_error(scale):
    with pytest.raises(ValueError, match="'fan_in' or a number.*Received: initial_scale="):
        families.Normal(initial_scale=scale)
