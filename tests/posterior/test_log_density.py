"""The log posterior density of a network, against TFP and the evidence of a conjugate model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfbnn
from tfbnn.posterior.log_density import log_posterior

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X @ np.array([[1.0], [-0.5], [0.2]], "float32")


@pytest.fixture
def posterior():
    layer = tfbnn.layers.Dense(1, use_bias=False, kernel_prior=tfbnn.priors.Normal(0.0, 2.0))
    model = tfbnn.Sequential([keras.Input((3,)), layer], num_examples=48)
    model.compile(loss=tfbnn.losses.NormalNLL(scale=0.5))
    return tfbnn.posteriors.MeanFieldPosterior(model)


def test_it_is_the_joint_density_per_example(posterior):
    normal = tfp.distributions.Normal
    w = tf.constant([[0.3], [-0.2], [0.9]])
    data = tf.reduce_mean(normal(X @ w, 0.5).log_prob(Y))
    prior = tf.reduce_sum(normal(0.0, 2.0).log_prob(w)) / 48
    np.testing.assert_allclose(log_posterior(posterior, [w], (X, Y)), data + prior, rtol=1e-5)


def test_its_gradient_is_zero_at_the_conjugate_mean(posterior):
    # Of 48 examples like these twelve: ridge regression.
    precision = 4 * X.T @ X / 0.5**2 + np.eye(3) / 2.0**2
    mean = np.linalg.solve(precision, 4 * X.T @ Y / 0.5**2).astype("float32")
    w = tf.Variable(mean)
    with tf.GradientTape() as tape:
        value = log_posterior(posterior, [tf.identity(w)], (X, Y))
    np.testing.assert_allclose(tape.gradient(value, w), 0, atol=2e-5)


def test_weights_of_rows_count(posterior):
    w = [tf.zeros((3, 1))]
    twice = log_posterior(posterior, w, (X, Y, np.full(12, 2.0, "float32")))
    once, prior = log_posterior(posterior, w, (X, Y)), posterior.weights[0].prior
    prior = tf.reduce_sum(prior.log_prob(w[0])) / 48
    np.testing.assert_allclose(twice - prior, 2 * (once - prior), rtol=1e-5)


def test_what_it_needs():
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.Dense(1)])
    model.compile(loss=tfbnn.losses.NormalNLL())
    posterior = tfbnn.posteriors.MeanFieldPosterior(model)
    with pytest.raises(ValueError, match="number of training examples"):
        log_posterior(posterior, posterior.mean(), (X, Y))
    model.num_examples = 12
    with pytest.raises(ValueError, match="has no density|no law"):
        log_posterior(posterior, posterior.mean(), (X, Y))
