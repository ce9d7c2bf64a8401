"""The curvature of each likelihood is the expected Hessian of its log density."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfbnn.likelihoods.normal import NormalNLL
from tfbnn.likelihoods.poisson import PoissonNLL
from tfbnn.likelihoods.table import likelihood_of

LOSSES = keras.losses
# Gauss-Hermite points for the expectation over a real number.
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(12)


def classes(likelihood, probabilities):
    return [(p, np.array([k])) for k, p in enumerate(probabilities)]


def yes_or_no(likelihood, probabilities):
    (p,) = probabilities
    return [(1 - p, np.array([[0.0]])), (p, np.array([[1.0]]))]


def real(likelihood, loc, scale):
    shares = WEIGHTS / WEIGHTS.sum()
    return [(w, np.array([loc + scale * z])) for w, z in zip(shares, POINTS, strict=True)]


def counts(likelihood, rate):
    (rate,) = rate
    probability, found = np.exp(-rate), []
    for k in range(60):
        found.append((probability, np.array([[float(k)]])))
        probability *= rate / (k + 1)
    return found


CASES = {
    "classes": (LOSSES.SparseCategoricalCrossentropy(from_logits=True), [0.3, -1.0, 0.8], classes),
    "shares": (LOSSES.SparseCategoricalCrossentropy(), [0.2, 0.3, 0.5], None),
    "yes or no": (LOSSES.BinaryCrossentropy(from_logits=True), [0.7], yes_or_no),
    "fixed noise": (NormalNLL(scale=0.7), [0.4], real),
    "predicted noise": (NormalNLL(scale="head"), [0.4, -0.3], real),
    "counts": (PoissonNLL(), [1.1], counts),
}


@pytest.mark.parametrize("name", [name for name in CASES if name != "shares"])
def test_it_is_the_expected_hessian(name):
    loss, outputs, labels = CASES[name]
    likelihood = likelihood_of(loss)
    outputs = tf.Variable([outputs], dtype=tf.float32)
    parameters = [p.numpy()[0] for p in likelihood.parameters(outputs)]
    expected = 0.0
    for share, y in labels(likelihood, *parameters):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                log_prob = tf.reduce_sum(likelihood.log_prob(y, tf.identity(outputs)))
            gradient = inner.gradient(log_prob, outputs)
        expected -= share * outer.jacobian(gradient, outputs).numpy()[0, :, 0, :]
    found = likelihood.curvature(outputs).numpy()
    assert found.shape == (1, outputs.shape[1], outputs.shape[1])
    np.testing.assert_allclose(found[0], expected, rtol=2e-3, atol=2e-4)


def test_probabilities_are_curved_by_their_inverse():
    loss, outputs, _ = CASES["shares"]
    found = likelihood_of(loss).curvature(tf.constant([outputs]))
    np.testing.assert_allclose(found[0], np.diag(1 / np.array(outputs)), rtol=1e-5)
