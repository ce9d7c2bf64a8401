"""Hidden activations of drawn networks against the networks, one by one, for every route."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.routes import ROUTES, made
from tfbnn.weights import noise

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
OPTIONS = {"num_samples": 6, "seed": 1, "verbose": 0}


@functools.cache
def model():
    layers = [
        tfbnn.layers.Dense(4, "relu", name="first"),
        keras.layers.Dense(5, "tanh", name="plain"),
        tfbnn.layers.Dense(2, name="last"),
    ]
    found = tfbnn.Sequential([keras.Input((3,)), *layers])
    found.compile(loss=LOSS)
    for weight in tfbnn.layers.variational_weights(found):
        weight.assign(weight.loc, tf.fill(weight.shape, 0.3))
    return found


def test_moments_are_those_of_the_networks_that_predict():
    answer = tfbnn.predict(model(), X, layers=["plain", "first"], keep_samples=True, **OPTIONS)
    posterior = tfbnn.posteriors.MeanFieldPosterior(model())
    first, plain, last = model().layers
    found = {"first": [], "plain": [], "last": []}
    for values in posterior.networks(posterior.draws(noise.as_seed(1), 0, 6)):
        kernel, bias, other, other_bias = (np.array(one) for one in values)
        found["first"].append(np.maximum(X @ kernel + bias, 0))
        found["plain"].append(np.array(plain(found["first"][-1])))
        found["last"].append(found["plain"][-1] @ other + other_bias)
    assert list(answer.layers) == ["plain", "first"]
    for name, (mean, deviation) in answer.layers.items():
        np.testing.assert_allclose(mean, np.mean(found[name], 0), atol=1e-5)
        np.testing.assert_allclose(deviation, np.std(found[name], 0), atol=1e-5)
    (probabilities,) = answer.samples
    np.testing.assert_allclose(tf.nn.softmax(found["last"]), probabilities, atol=1e-5)


def test_in_front_of_the_first_random_layer_nothing_varies():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="plain")(inputs)
    one = tfbnn.Model(inputs, tfbnn.layers.Dense(2)(hidden))
    one.compile(loss=LOSS)
    mean, deviation = tfbnn.predict(one, X, layers=["plain"], **OPTIONS).layers["plain"]
    np.testing.assert_allclose(mean, one.get_layer("plain")(X), atol=1e-6)
    np.testing.assert_array_equal(deviation, 0)


def test_large_means_cost_no_digits_of_the_deviation():
    one = tfbnn.Sequential([keras.Input((1,)), tfbnn.layers.Dense(1, name="sum", use_bias=False)])
    one.compile(loss=tfbnn.losses.NormalNLL(1.0))
    one.layers[0].kernel.assign([[1000.0]], tf.constant([[1e-2]]))
    options = {"num_samples": 64, "seed": 0, "verbose": 0}
    found = tfbnn.predict(one, np.ones((1, 1)), layers=["sum"], keep_samples=True, **options)
    expected = found.samples[0].astype(float).std(0)
    np.testing.assert_allclose(found.layers["sum"].standard_deviation, expected, rtol=2e-3)


def test_batches_and_data_sets_make_no_difference():
    whole = tfbnn.predict(model(), X, layers=["first"], **OPTIONS).layers["first"]
    parts = tfbnn.predict(model(), X, layers=["first"], batch_size=3, **OPTIONS).layers["first"]
    data = tf.data.Dataset.from_tensor_slices(X).batch(2)
    rows = tfbnn.predict(model(), data, layers=["first"], **OPTIONS).layers["first"]
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_allclose(rows, whole, atol=1e-6)


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_has_them(name):
    """The last layer's are the outputs, of which the prediction is made."""
    posterior, x = made(name), ROUTES[name].x
    known = [[layer.name for layer in one.layers] for one in posterior.models]
    if any(names != known[0] for names in known):
        with pytest.raises(ValueError, match="`layers` must be names of layers of the network"):
            tfbnn.predict(posterior, x, layers=known[0], **OPTIONS)
        return
    last = known[0][-1]
    found = tfbnn.predict(posterior, x, layers=[known[0][0], last], **OPTIONS).layers
    count = min(OPTIONS["num_samples"], posterior.num_draws or math.inf)
    draws = posterior.draws(noise.as_seed(1), 0, count)
    outputs = posterior.outputs(draws, x).numpy()
    np.testing.assert_allclose(found[last].mean, outputs.mean(0), atol=1e-4)
    np.testing.assert_allclose(found[last].standard_deviation, outputs.std(0), atol=1e-4)
    assert (found[last].standard_deviation > 0).any() or posterior.num_draws == 1


def test_nested_layers_are_found():
    inner = keras.Sequential([keras.layers.Dense(4, "relu", name="inside")], name="inner")
    one = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.Dense(3), inner, tfbnn.layers.Dense(2)])
    one.compile(loss=LOSS)
    found = tfbnn.predict(one, X, layers=["inside", "inner"], **OPTIONS).layers
    np.testing.assert_array_equal(found["inside"], found["inner"])
    assert found["inside"].mean.shape == (7, 4)


def test_each_output_has_them():
    inputs = keras.Input((3,))
    hidden = tfbnn.layers.Dense(4, "relu", name="hidden")(inputs)
    ends = {name: tfbnn.layers.Dense(2, name=name)(hidden) for name in ("a", "b")}
    one = tfbnn.Model(inputs, ends)
    one.compile(loss={name: LOSS for name in ends})
    found = tfbnn.predict(one, X, layers=["hidden"], **OPTIONS)
    assert found["a"].layers is found["b"].layers
    assert found["a"].layers["hidden"].mean.shape == (7, 4)


def test_without_names_there_are_none():
    assert tfbnn.predict(model(), X, **OPTIONS).layers is None


@pytest.mark.parametrize("layers", [["first", "no"], []])
def test_a_name_that_is_not_there_says_which_are(layers):
    with pytest.raises(ValueError) as caught:
        tfbnn.predict(model(), X, layers=layers, **OPTIONS)
    assert "of which there are ['first', 'plain', 'last']. Received: layers=" in str(caught.value)


def test_a_layer_that_is_called_twice_has_no_one_answer():
    inputs, shared = keras.Input((3,)), tfbnn.layers.Dense(3, name="shared")
    one = tfbnn.Model(inputs, tfbnn.layers.Dense(2)(shared(shared(inputs))))
    one.compile(loss=LOSS)
    with pytest.raises(ValueError, match="must be called once.*layer 'shared', which gave 2"):
        tfbnn.predict(one, X, layers=["shared"], **OPTIONS)
