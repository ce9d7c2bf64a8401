"""Given standard deviations of the trained weights of a plain model."""

import keras
import numpy as np
import pytest

from tfbnn.conversion.given_laws import with_scales
from tfbnn.layers.variational import variational_weights

K = keras.layers


def test_a_convolution_with_a_regularizer_and_a_frozen_layer():
    layers = [K.Conv2D(3, 2, kernel_regularizer="l2"), K.Flatten(), K.Dense(4), K.Dense(2)]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    model.layers[2].trainable = False
    rng = np.random.default_rng(0)
    scales = [rng.uniform(0.1, 1, v.shape).astype("float32") for v in model.trainable_variables]
    # A weight that has not moved is sure, not pruned.
    scales[0][0] = 0
    bayesian = with_scales(model, scales)
    weights = variational_weights(bayesian)
    assert len(weights) == len(model.trainable_variables) == 4
    for weight, variable, scale in zip(weights, model.trainable_variables, scales, strict=True):
        np.testing.assert_array_equal(weight.loc, variable)
        np.testing.assert_allclose(weight.scale, scale, rtol=1e-5, atol=2e-12)
    x = rng.normal(size=(5, 4, 4, 1)).astype("float32")
    np.testing.assert_allclose(bayesian(x), model(x), atol=1e-6)


@pytest.mark.parametrize("layer", [K.LSTM(3), K.LayerNormalization()])
def test_a_trained_layer_without_a_namesake(layer):
    model = keras.Sequential([keras.Input((4, 2)), layer, K.Dense(2)])
    assert with_scales(model, [0.1] * len(model.trainable_variables)) is None
