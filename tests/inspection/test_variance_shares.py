"""Shares of the predictive variance against closed forms."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.inspection.variance_shares import variance_shares
from tfbnn.posterior.routes import posterior_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 4)).astype("float32")
STANDARD_ERRORS = 4
SHAPES = {"first": (4, 5), "second": (5, 3), "third": (3, 2)}
LOCS = {name: RNG.normal(0, 0.7, shape) for name, shape in SHAPES.items()}
SCALES = {
    "first": RNG.uniform(0.05, 0.2, SHAPES["first"]),
    "second": RNG.uniform(0.2, 0.5, SHAPES["second"]),
    "third": RNG.uniform(0.5, 0.9, SHAPES["third"]),
}


@functools.cache
def linear_network():
    """`x @ w1 @ w2 @ w3`, with laws that are given."""
    layers = [
        tfbnn.layers.Dense(shape[1], use_bias=False, name=name) for name, shape in SHAPES.items()
    ]
    model = tfbnn.Sequential([keras.Input((4,)), *layers])
    model.compile(loss=tfbnn.losses.NormalNLL(scale=1.0))
    for layer in layers:
        layer.kernel.assign(LOCS[layer.name], SCALES[layer.name].astype("float32"))
    return model


def exact_variance(drawn):
    """Of the outputs, summed over them and the rows, with these layers drawn.

    Second moments of a product of independent matrices: `E[(h @ w)(h @ w)^T]`, layer by layer.
    """
    total = 0.0
    for row in X.astype(float):
        mean, second = row, np.outer(row, row)
        for name in SHAPES:
            loc, variance = LOCS[name], SCALES[name] ** 2 * (name in drawn)
            second = loc.T @ second @ loc + np.diag(np.diag(second) @ variance)
            mean = mean @ loc
        total += np.trace(second) - mean @ mean
    return total


def shares(num_samples, seed):
    posterior = posterior_of(linear_network())
    places = {name: {place} for place, name in enumerate(SHAPES)}
    options = {"num_samples": num_samples, "seed": seed, "verbose": 0}
    return variance_shares(posterior, places, X, **options)


def test_shares_of_a_linear_network_are_those_of_the_closed_form():
    exact = {name: exact_variance({name}) / exact_variance(SHAPES) for name in SHAPES}
    found = shares(4000, seed=1)
    for name, (share, error) in found.items():
        assert abs(share - exact[name]) < STANDARD_ERRORS * error
        assert error < 0.03
    order = sorted(SHAPES, key=lambda name: found[name].share)
    assert order == sorted(SHAPES, key=exact.get)
    # Products of small random parts are left over; the errors of the shares add up at most.
    rest = 1 - sum(exact.values())
    left = 1 - sum(one.share for one in found.values())
    assert abs(left - rest) < STANDARD_ERRORS * sum(one.error for one in found.values())
    assert rest > 0.1


def test_the_standard_error_is_right():
    exact = exact_variance({"second"}) / exact_variance(SHAPES)
    found = [shares(200, seed)["second"] for seed in range(40)]
    deviations = [(share - exact) / error for share, error in found]
    # The root mean square of 40 normal numbers has a standard error of 0.11.
    assert np.sqrt(np.mean(np.square(deviations))) == pytest.approx(1.0, abs=STANDARD_ERRORS * 0.11)


def test_all_layers_together_are_the_whole():
    found = variance_shares(
        posterior_of(linear_network()), {"all": {0, 1, 2}}, X, num_samples=3, seed=0, verbose=0
    )
    assert found["all"] == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))


def test_batches_and_data_sets_make_no_difference():
    posterior, places = posterior_of(linear_network()), {"first": {0}}
    options = {"num_samples": 8, "seed": 3, "verbose": 0}
    whole = variance_shares(posterior, places, X, **options)["first"]
    parts = variance_shares(posterior, places, X, batch_size=2, **options)["first"]
    data = variance_shares(
        posterior, places, tf.data.Dataset.from_tensor_slices(X).batch(3), **options
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-4)
    np.testing.assert_allclose(data["first"], whole, rtol=1e-4)


def test_steps_of_a_sequence_that_do_not_count_are_left_out():
    model = tfbnn.Sequential(
        [
            keras.Input((3, 2)),
            keras.layers.Masking(),
            tfbnn.layers.Dense(2, "tanh"),
            tfbnn.layers.Dense(1),
        ]
    )
    model.compile(loss=tfbnn.losses.NormalNLL(scale=1.0))
    x = np.random.default_rng(1).normal(size=(4, 3, 2)).astype("float32")
    short = x.copy()
    short[:, 2] = 0
    options = {"num_samples": 8, "seed": 0, "verbose": 0}
    masked = variance_shares(posterior_of(model), {"last": {1}}, short, **options)["last"]
    cut = tfbnn.Sequential([keras.Input((2, 2)), *model.layers[1:]])
    cut.compile(loss=tfbnn.losses.NormalNLL(scale=1.0))
    expected = variance_shares(posterior_of(cut), {"last": {1}}, x[:, :2], **options)["last"]
    np.testing.assert_allclose(masked, expected, rtol=1e-4)


def test_what_does_not_vary_has_no_shares():
    model = linear_network()
    laws = posterior_of(model).laws()
    still = {weight: (law.loc, 0 * law.scale) for weight, law in laws.items()}
    posterior = tfbnn.posteriors.GaussianPosterior(model, model.likelihoods, still)
    found = variance_shares(posterior, {"first": {0}}, X, num_samples=3, seed=0, verbose=0)
    assert np.isnan(found["first"]).all()
