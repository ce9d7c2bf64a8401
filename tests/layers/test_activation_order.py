"""Activations that wait for a max pooling: which, and the answer is the same."""

import keras
import numpy as np
import pytest

import tfbnn
from tests.export.c_source.models import finished
from tfbnn.layers.activation_order import delayed_activations
from tfbnn.layers.steps import steps_of
from tfbnn.prediction.moments import current_weights, propagate

K = keras.layers


def convolution(activation=None):
    return tfbnn.layers.Convolution2DFlipout(4, 3, activation=activation, name="first")


def delayed(*layers):
    model = tfbnn.Sequential([keras.Input((8, 8, 1)), *layers])
    found = delayed_activations(steps_of(model))
    return {step.layer.name: type(pooling.layer) for step, pooling in found.items()}


@pytest.mark.parametrize("pooling", [K.MaxPooling2D, K.GlobalMaxPooling2D])
@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", "tanh", "exponential"])
def test_activations_that_never_fall(activation, pooling):
    assert delayed(convolution(activation), pooling()) == {"first": pooling}


@pytest.mark.parametrize(
    "layer", [K.ReLU, K.LeakyReLU, K.ELU, lambda name: K.Activation("relu", name=name)]
)
def test_layers_that_are_activations(layer):
    layers = [convolution(), layer(name="second"), K.MaxPooling2D()]
    assert delayed(*layers) == {"second": K.MaxPooling2D}


@pytest.mark.parametrize(
    "layers",
    [
        [convolution("gelu"), K.MaxPooling2D()],
        [convolution(), K.MaxPooling2D()],
        [convolution("relu"), K.AveragePooling2D(2)],
        [convolution("relu")],
        [convolution(), K.ReLU(threshold=1.0), K.MaxPooling2D()],
        [convolution(), K.ELU(alpha=-1.0), K.MaxPooling2D()],
        [convolution("relu"), K.Flatten(), K.Dense(2)],
    ],
)
def test_all_others_stay(layers):
    assert delayed(*layers) == {}


def test_an_activation_that_others_read_stays():
    inputs = keras.Input((8, 8, 1))
    x = convolution("relu")(inputs)
    both = K.Concatenate()([K.Flatten()(K.MaxPooling2D()(x)), K.Flatten()(x)])
    assert delayed_activations(steps_of(tfbnn.Model(inputs, both))) == {}


def test_one_that_is_an_output_stays():
    inputs = keras.Input((8, 8, 1))
    x = convolution("relu")(inputs)
    model = keras.Model(inputs, [x, K.MaxPooling2D()(x)])
    inner = keras.Model(inputs, x)
    assert delayed_activations(steps_of(inner)) == {}
    assert len(model.outputs) == 2


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
def test_without_variances_the_answer_is_that_of_keras(activation, padding):
    layers = [K.Conv2D(4, 3, activation=activation), K.MaxPooling2D(3, 2, padding=padding)]
    model = tfbnn.Sequential([keras.Input((9, 9, 1)), *layers])
    model.compile(loss=tfbnn.losses.NormalNLL(scale=1.0))
    finished(model)
    x = np.random.default_rng(0).normal(size=(5, 9, 9, 1)).astype("float32")
    found = propagate(steps_of(model), x, current_weights)
    np.testing.assert_allclose(found.mean, model(x), rtol=1e-5, atol=1e-6)


def test_moments_are_nearer_to_draws():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 4)).astype("float32")
    family = tfbnn.families.Normal(0.5)
    found = []
    # An identity in between keeps the activation where it is.
    for between in ([], [K.Identity()]):
        layer = tfbnn.layers.Convolution2DReparameterization(
            4, 3, activation="relu", kernel_posterior=family
        )
        layers = [keras.Input((8, 8, 1)), layer, *between, K.MaxPooling2D()]
        model = tfbnn.Sequential(layers)
        model.compile(loss=tfbnn.losses.NormalNLL(scale=1.0))
        layer.kernel.loc_variable.assign(kernel)
        x = np.random.default_rng(1).normal(size=(20, 8, 8, 1)).astype("float32")
        found.append(propagate(steps_of(model), x, current_weights))
    drawn, _ = tfbnn.predict(model, x, 4000, seed=0, verbose=0, keep_samples=True).samples
    for name, expected in (("mean", drawn.mean(axis=0)), ("variance", drawn.var(axis=0))):
        delayed, first = (np.abs(getattr(m, name) - expected).mean() for m in found)
        assert delayed < 0.9 * first, name
