"""`tfbnn.compact`: a smaller model that answers as the pruned one does."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.layers import variational_layers
from tfbnn.posterior import posterior_of
from tfbnn.pruning import masks

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Dense = tfbnn.layers.DenseFlipout
Convolution = tfbnn.layers.Convolution2DFlipout


def compiled(model):
    """The model with a loss, a posterior in which every weight differs, and biases."""
    model.compile("adam", SPARSE)
    rng = np.random.default_rng(1)
    for weight in posterior_of(model).weights:
        weight.loc_variable.assign(rng.normal(size=weight.shape))
        weight.rho_variable.assign(rng.normal(-2, 1, size=weight.shape))
    for layer in variational_layers(model):
        if layer.bias is not None:
            layer.bias.loc_variable.assign(rng.normal(size=layer.bias.shape))
    return model


def dense():
    layers = [Dense(20, "relu"), Dense(10, "tanh", bias_posterior="normal"), Dense(3)]
    return compiled(tfbnn.Sequential([keras.Input((6,)), *layers]))


def lenet():
    layers = [
        keras.Input((16, 16, 1)),
        Convolution(6, 5, activation="relu"),
        keras.layers.MaxPooling2D(),
        Convolution(8, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        Dense(20, "relu"),
        Dense(3),
    ]
    return compiled(tfbnn.Sequential(layers))


def inputs_of(model, rows=10):
    return np.random.default_rng(0).normal(size=(rows, *model.input_shape[1:])).astype("float32")


def sizes(model):
    return [layer.kernel.shape[-1] for layer in variational_layers(model)]


def assert_same_means(model, smaller):
    x = inputs_of(model)
    expected = np.asarray(model(x))
    np.testing.assert_allclose(smaller(x), expected, atol=1e-5 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("make", [dense, lenet])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(
    "options",
    [
        {"granularity": "unit"},
        {"granularity": "unit", "scope": "layer"},
        {"granularity": "block", "scope": "layer"},
        {"granularity": "weight", "scope": "layer"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_same_means(make, sparsity, options):
    pruned = tfbnn.prune(make(), sparsity=sparsity, **options)
    smaller = tfbnn.compact(pruned)
    assert_same_means(pruned, smaller)
    assert masks.num_weights(smaller) <= masks.num_weights(pruned)
    if options["granularity"] == "unit":
        assert masks.num_weights(smaller) == masks.num_weights(pruned)
        assert not any(layer.masked for layer in variational_layers(smaller))
