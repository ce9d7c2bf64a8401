"""Chains have the posterior where there is one in closed form, and agree where there is none."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.posterior.mcmc.mixing import effective_samples

K = keras.layers
MCMC = tfbnn.posteriors.MCMC
NOISE, PRIOR, ROWS = 0.5, 0.7, 30
# A chance of 6e-5 for each of the few numbers that a test compares.
ERRORS = 4


def regression():
    """A linear regression with correlated inputs, and its exact posterior."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2)) @ [[1.0, 0.8], [0.0, 0.5]]
    y = x @ [[0.5], [-1.0]] + 0.3 + NOISE * rng.normal(size=(ROWS, 1))
    design = np.hstack([x, np.ones((ROWS, 1))])
    precision = design.T @ design / NOISE**2 + np.eye(3) / PRIOR**2
    mean = np.linalg.solve(precision, design.T @ y / NOISE**2)[:, 0]
    return x.astype("float32"), y.astype("float32"), mean, np.linalg.inv(precision)


def plain():
    model = keras.Sequential([keras.Input((2,)), K.Dense(1)])
    model.compile(loss=tfbnn.losses.NormalNLL(scale=NOISE))
    return model


def flat(posterior):
    """Draws as chains gave them, `(samples, chains, weights)`."""
    return np.concatenate([one.reshape(*one.shape[:2], -1) for one in posterior.chains], axis=-1)


def check_moments(draws, mean, covariance):
    """Means, variances and covariances, each within errors of as many draws as it is worth."""
    centred = draws - mean
    products = centred[..., :, None] * centred[..., None, :]
    for found, expected in ((draws, mean), (products, covariance)):
        errors = found.std(axis=(0, 1)) / np.sqrt(effective_samples(found))
        assert (np.abs(found.mean(axis=(0, 1)) - expected) < ERRORS * errors).all()


@pytest.mark.parametrize(
    ("kernel", "samples"), [("nuts", 1000), ("hmc", 500), ("random_walk", 4000)]
)
def test_linear_regression(kernel, samples):
    x, y, mean, covariance = regression()
    posterior = MCMC(plain(), x, y, kernel, PRIOR, samples=samples, warmup=500, seed=1, verbose=0)
    found = posterior.diagnostics
    assert found.mixed and found.r_hat["weights"] < 1.01 and found.divergences == 0
    assert found.num_draws == posterior.num_draws == 4 * samples
    check_moments(flat(posterior), mean, covariance)


def test_a_variational_model_brings_its_priors():
    x, y, mean, covariance = regression()
    prior = tfbnn.priors.Normal(scale=PRIOR)
    model = tfbnn.to_bayesian(plain(), prior=prior, verbose=0)
    posterior = MCMC(model, x, y, "hmc", samples=500, warmup=500, seed=2, verbose=0)
    check_moments(flat(posterior), mean, covariance)
