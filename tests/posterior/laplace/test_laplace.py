"""Laplace's approximation is the posterior where there is one in closed form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.posterior.laplace.networks import made
from tfbnn.posterior.laplace import evidence
from tfbnn.weights import noise

K = keras.layers
Laplace = tfbnn.posteriors.Laplace
NOISE, PRECISION, ROWS = 0.5, 2.0, 40


def regression(correlated):
    """A linear regression at its mode under the prior, and its exact posterior precision."""
    rng = np.random.default_rng(0)
    design = np.linalg.qr(rng.normal(size=(ROWS, 3)))[0] * 4
    if correlated:
        design = design @ np.array([[1, 0.9, 0], [0, 0.5, 0.4], [0, 0, 1]])
    y = design @ [[0.5], [-1.0], [0.3]] + NOISE * rng.normal(size=(ROWS, 1))
    model = keras.Sequential([keras.Input((3,)), K.Dense(1, use_bias=False)])
    model.compile(loss=tfbnn.losses.NormalNLL(scale=NOISE))
    precision = design.T @ design / NOISE**2 + PRECISION * np.eye(3)
    model.layers[0].kernel.assign(np.linalg.solve(precision, design.T @ y / NOISE**2))
    return model, design.astype("float32"), y.astype("float32"), precision


def drawn(posterior, count=4000):
    return posterior.draws(noise.as_seed(0), 0, count)[0].numpy().reshape(count, -1)


def moments_agree(draws, mean, covariance):
    """Means and covariances within 4 standard errors."""
    count, variances = len(draws), np.diag(covariance)
    centred = draws - mean
    assert (np.abs(centred.mean(axis=0)) < 4 * np.sqrt(variances / count)).all()
    error = np.sqrt((np.outer(variances, variances) + covariance**2) / count)
    assert (np.abs(centred.T @ centred / count - covariance) < 4 * error).all()


@pytest.mark.parametrize("structure", ["full", "last_layer", "kronecker", "diagonal"])
@pytest.mark.parametrize("correlated", [False, True])
def test_linear_regression(structure, correlated):
    model, x, y, precision = regression(correlated)
    posterior = Laplace(model, x, y, structure, "exact", PRECISION, verbose=0)
    # With one output a product of factors is the whole.
    exact = np.linalg.inv(precision)
    covariance = np.diag(1 / np.diag(precision)) if structure == "diagonal" else exact
    moments_agree(drawn(posterior), model.layers[0].kernel.numpy().ravel(), covariance)


def test_the_marginal_likelihood_is_the_evidence():
    model, x, y, _ = regression(True)
    posterior = Laplace(model, x, y, "full", "exact", PRECISION, verbose=0)
    covariance = x @ x.T / PRECISION + NOISE**2 * np.eye(ROWS)
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    expected = -0.5 * (log_determinant + (y.T @ np.linalg.solve(covariance, y)).item())
    assert posterior.log_marginal_likelihood == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal"])
@pytest.mark.parametrize("per_layer", [False, True])
def test_the_prior_precision_is_where_the_marginal_likelihood_is_largest(structure, per_layer):
    model, x, y = made("dense")
    options = {"prior_precision": "marginal_likelihood", "verbose": 0}
    posterior = Laplace(model, x[[0, 1] * 20], y[[0, 1] * 20], structure, "exact", **options)
    if per_layer:
        posterior.maximise_marginal_likelihood(per_layer=True)
    best, value = posterior.prior_precisions, posterior.log_marginal_likelihood
    assert len(best) == (1 if structure == "full" else 2)
    assert len(set(best)) == (2 if per_layer and structure != "full" else 1)
    for number in range(len(best)) if per_layer else [slice(None)]:
        for factor in (0.97, 1.03):
            changed = np.array(best)
            changed[number] *= factor
            posterior.prior_precisions = changed
            assert posterior.log_marginal_likelihood < value


def test_the_fixed_point_is_that_of_mackay():
    eigenvalues = np.array([0.0, 0.1, 3.0, 50.0])
    block = evidence.Block(eigenvalues, 1.7)
    precision = evidence.best_precision([block])
    effective = (eigenvalues / (eigenvalues + precision)).sum()
    assert precision == pytest.approx(effective / 1.7, rel=1e-9)


@pytest.mark.parametrize("name", ["convolution", "residual", "attention", "several", "steps"])
def test_a_linearised_network_is_its_jacobian(name):
    model, x, y = made(name)
    posterior = Laplace(model, x, y, "diagonal", "sampled", 1.0, verbose=0)
    draws = posterior.draws(noise.as_seed(0), 0, 3)
    found = tf.nest.flatten(posterior.outputs(draws, x))
    for number, values in enumerate(posterior.networks(draws)):
        # Central differences in float64 would need another model: a small step of it is enough.
        one = tf.nest.flatten(posterior.network(values, x))
        for output, others in zip(one, found, strict=True):
            np.testing.assert_allclose(others[number], output, rtol=1e-4, atol=1e-4)
    modes = [tf.convert_to_tensor(one) for one in posterior.variables]
    steps = [value - mode for value, mode in zip(values, modes, strict=True)]
    with tf.GradientTape(persistent=True) as tape:
        outputs = tf.nest.flatten(model(x, training=False))
    for output, moved in zip(outputs, one, strict=True):
        jacobians = tape.jacobian(
            output,
            [variable.value for variable in posterior.variables],
            tf.UnconnectedGradients.ZERO,
            experimental_use_pfor=False,
        )
        change = sum(
            tf.tensordot(tf.convert_to_tensor(jacobian), step, len(step.shape))
            for jacobian, step in zip(jacobians, steps, strict=True)
        )
        np.testing.assert_allclose(moved, output + change, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("structure", ["full", "last_layer", "kronecker", "diagonal"])
def test_draws_have_the_covariance_that_the_curvature_says(structure):
    model, x, y = made("dense")
    x, y, options = x[[0, 1] * 20], y[[0, 1] * 20], {"temperature": 0.5, "verbose": 0}
    posterior = Laplace(model, x, y, structure, "exact", 3.0, **options)
    draws = posterior.draws(noise.as_seed(1), 0, 4000)
    matrix = [one.numpy().reshape(4000, -1) for one in draws]
    if structure == "kronecker":
        sums = posterior.arrays
        inverse = np.kron(sums["1.inputs"][0] / sums["1.places"], sums["1.outputs"][0])
        matrix = matrix[2:]
    elif structure == "diagonal":
        inverse = np.diag(np.concatenate([one.ravel() for one in posterior.arrays.values()]))
    else:
        inverse = posterior.arrays["full"]
    covariance = 0.5 * np.linalg.inv(inverse + 3.0 * np.eye(len(inverse)))
    mean = np.concatenate([one.numpy().ravel() for one in posterior.mean()])[-len(inverse) :]
    moments_agree(np.concatenate(matrix, axis=1), mean, covariance)


@pytest.mark.parametrize("structure", ["full", "last_layer", "kronecker", "diagonal"])
def test_a_file_has_the_same_posterior(structure, tmp_path):
    model, x, y, _ = regression(True)
    posterior = Laplace(model, x, y, structure, prior_precision=1.5, verbose=0)
    posterior.save(tmp_path / "posterior")
    loaded = tfbnn.load_posterior(tmp_path / "posterior")
    np.testing.assert_allclose(drawn(loaded, 3), drawn(posterior, 3), rtol=1e-4, atol=1e-4)
    assert loaded.log_marginal_likelihood == pytest.approx(posterior.log_marginal_likelihood)
    assert loaded.describe() == {**posterior.describe(), "model": loaded.model.name}
