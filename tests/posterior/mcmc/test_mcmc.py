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
    start = plain()
    start.set_weights([0 * one for one in start.get_weights()])
    # Of each weight its own, with the mean at the start.
    model = tfbnn.to_bayesian(start, prior=tfbnn.priors.Informative(PRIOR), verbose=0)
    posterior = MCMC(model, x, y, "hmc", samples=500, warmup=500, seed=2, verbose=0)
    check_moments(flat(posterior), mean, covariance)
    assert posterior.variables == [
        model.layers[0].kernel.loc_variable,
        model.layers[0].bias.loc_variable,
    ]


def network():
    """A 2-10-1 network, and rows that it can learn."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)).astype("float32")
    y = np.sin(2 * x[:, :1]) + x[:, 1:] ** 2 / 2 + 0.5 * rng.normal(size=(40, 1))
    model = keras.Sequential([keras.Input((2,)), K.Dense(10, "tanh"), K.Dense(1)])
    model.compile(loss=tfbnn.losses.NormalNLL(scale=NOISE))
    return tfbnn.with_prior(model, 1.0, len(x)), x, y.astype("float32")


@pytest.mark.slow
def test_nuts_agrees_with_a_long_run_of_another_kernel(tmp_path):
    model, x, y = network()
    posterior = MCMC(model, x, y, seed=0, warmup=500, verbose=0)
    found = posterior.diagnostics
    # Hidden units change places and signs: of what the network says, and of its density.
    assert max(found.r_hat[kind] for kind in ("outputs", "log_density")) <= 1.01
    assert min(found.effective_samples_per_second.values()) > 0
    long = MCMC(model, x, y, "hmc", samples=5000, warmup=1000, seed=1, verbose=0)
    asked = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [3.0, -3.0]], "float32")
    first, second = (outputs(one, asked) for one in (posterior, long))
    for function in (lambda f: f, np.square):
        one, other = function(first), function(second)
        variance = sum(r.var(axis=(0, 1)) / effective_samples(r) for r in (one, other))
        difference = one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))
        assert (np.abs(difference) < ERRORS * np.sqrt(variance)).all()
    posterior.plot(tmp_path / "chains.png")
    assert (tmp_path / "chains.png").stat().st_size > 10_000


def outputs(posterior, x):
    """`(samples, chains, rows)`."""
    values = [one.reshape(-1, *one.shape[2:]) for one in posterior.chains]
    found = posterior.outputs(values, x).numpy()[..., 0]
    return found.reshape(*posterior.chains[0].shape[:2], -1)
