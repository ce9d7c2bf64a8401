"""`tfbnn.with_prior`: training finds the mode of the posterior, and the prior is found again."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.conversion.architectures import ARCHITECTURES, trained
from tfbnn.conversion.regularizers import prior_of
from tfbnn.weights.negative_log_prior import NegativeLogPrior

K = keras.layers
NOISE, PRIOR, ROWS = 0.5, 0.7, 30


def plain():
    model = keras.Sequential([keras.Input((2,)), K.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), loss=tfbnn.losses.NormalNLL(scale=NOISE))
    return model


def test_the_mode_is_that_of_the_conjugate_model():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2))
    y = x @ [[0.5, 1.0], [-1.0, 0.3]] + 0.3 + NOISE * rng.normal(size=(ROWS, 2))
    model = tfbnn.with_prior(plain(), PRIOR, ROWS)
    data = tf.data.Dataset.from_tensors((x, y)).repeat(300)
    model.fit(data, num_examples=ROWS, verbose=0)
    design = np.hstack([x, np.ones((ROWS, 1))])
    precision = design.T @ design / NOISE**2 + np.eye(3) / PRIOR**2
    mode = np.linalg.solve(precision, design.T @ y / NOISE**2)
    found = np.vstack([model.layers[0].kernel.numpy(), model.layers[0].bias.numpy()])
    np.testing.assert_allclose(found, mode, atol=2e-5)
    posterior = tfbnn.posteriors.MAP(model)
    predicted = tfbnn.predict(posterior, x, verbose=0).prediction
    np.testing.assert_allclose(predicted, design @ mode, atol=1e-4)


def test_the_prior_goes_on_into_a_bayesian_model_and_a_file(tmp_path):
    prior = tfbnn.priors.StudentT(df=4.0, scale=0.3)
    model = tfbnn.with_prior(plain(), prior, ROWS)
    model.save(tmp_path / "model.keras")
    loaded = tfbnn.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        regularizer = one.layers[0].kernel.regularizer
        assert prior_of(regularizer, None, "kernel") == prior
    bayesian = tfbnn.to_bayesian(loaded, verbose=0)
    assert {weight.prior for weight in tfbnn.layers.variational_weights(bayesian)} == {prior}


def test_the_penalty_of_l2_is_that_of_a_normal_prior():
    weights = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    penalty = NegativeLogPrior(tfbnn.priors.Normal(scale=PRIOR), ROWS)
    other = keras.regularizers.L2(1 / (2 * ROWS * PRIOR**2))
    difference = penalty(weights) - penalty(0 * weights)
    np.testing.assert_allclose(difference, other(weights), rtol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_weight_that_is_trained_has_the_prior(name):
    model = trained(name)
    try:
        found = tfbnn.with_prior(model, "normal", ROWS)
    except ValueError as error:
        assert "no regularizer by which a prior could reach them" in str(error)
        return
    for old, new in zip(model.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert {one.regularizer.prior for one in found.trainable_variables} == {tfbnn.priors.Normal()}


def test_what_it_refuses():
    unbuilt = keras.Sequential([K.Dense(2)])
    with pytest.raises(ValueError, match="no weights yet"):
        tfbnn.with_prior(unbuilt, 1.0, ROWS)
    with pytest.raises(TypeError, match="random already"):
        tfbnn.with_prior(tfbnn.to_bayesian(plain(), verbose=0), 1.0, ROWS)
    for prior in ("fan_in", "automatic_relevance"):
        with pytest.raises(ValueError, match="needs the density of each weight"):
            tfbnn.with_prior(plain(), prior, ROWS)
    for prior in (-1.0, "nothing", None):
        with pytest.raises(ValueError, match="Received: "):
            tfbnn.with_prior(plain(), prior, ROWS)
