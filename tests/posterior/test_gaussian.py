"""Given laws: the draws have them, files keep them, and what are no laws of a model is refused."""

import keras
import numpy as np
import pytest

import tfbnn
from tests.routes import bayesian, plain
from tfbnn.posterior import posterior_of
from tfbnn.weights import noise

NUM_DRAWS = 2000


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return bayesian()


def given(model, change=lambda loc, scale: (loc + 1.0, 0.1 + scale)):
    weights = tfbnn.layers.variational_weights(model)
    laws = {weight: change(weight.loc.numpy(), weight.scale.numpy()) for weight in weights}
    return tfbnn.posteriors.GaussianPosterior(model, model.likelihoods, laws)


def test_draws_have_the_laws(model):
    posterior = given(model)
    draws = posterior.draws(noise.as_seed(3), 0, NUM_DRAWS)
    for weight, draw in zip(posterior.weights, draws, strict=True):
        loc, scale = weight.loc.numpy() + 1.0, weight.scale.numpy() + 0.1
        z = (draw.numpy().mean(0) - loc) / (scale / np.sqrt(NUM_DRAWS))
        assert np.abs(z).max() < 4.5
        # The variance of n normals has the relative standard error sqrt(2 / n).
        ratio = draw.numpy().var(0, ddof=1) / scale**2
        assert np.abs(ratio - 1).max() < 4.5 * np.sqrt(2 / NUM_DRAWS)


def test_the_model_keeps_its_own_laws(model):
    own = posterior_of(model)
    before = {weight: law.loc.numpy() for weight, law in own.laws().items()}
    layers = posterior_of(given(model).as_model())
    for (weight, loc), copied in zip(before.items(), layers.weights, strict=True):
        np.testing.assert_array_equal(weight.loc, loc)
        np.testing.assert_allclose(copied.loc, loc + 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda loc, scale: (loc, -scale), r"laws\[kernel\]` must be a mean and .*elements from"),
        (lambda loc, scale: (loc, scale[0]), r"each of shape \(5, 6\).*of shapes.*\(6,\)"),
        (lambda loc, scale: (loc,), r"each of shape \(5, 6\)"),
        (lambda loc, scale: loc * np.nan, r"laws\[kernel\]` must be a list or a tuple"),
        (lambda loc, scale: (loc * np.nan, scale), r"laws\[kernel\]` has NaN or infinite"),
        (lambda loc, scale: ("loc", scale), "an array of real numbers"),
    ],
)
def test_what_are_no_laws(model, change, message):
    with pytest.raises(ValueError, match=message):
        given(model, change)


def test_laws_of_other_weights(model):
    laws = posterior_of(bayesian()).laws()
    with pytest.raises(ValueError, match="and no other. Received: laws of 4 weights, of a model w"):
        tfbnn.posteriors.GaussianPosterior(model, model.likelihoods, laws)
    likelihoods = tfbnn.posteriors.MAP(plain()).likelihoods
    with pytest.raises(ValueError, match="of a model with 0"):
        tfbnn.posteriors.GaussianPosterior(plain(), likelihoods, laws)
