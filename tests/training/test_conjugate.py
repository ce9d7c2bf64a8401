"""Bayesian linear regression: the posterior is known, and has to come out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn

NOISE = 0.5
PRIOR_SCALE = 2.0


def _fit(x, y, layer):
    layer = layer(
        1,
        use_bias=False,
        kernel_prior=tfbnn.priors.Normal(scale=PRIOR_SCALE),
        kernel_posterior=tfbnn.families.Normal(initial_scale=0.1),
        seed=0,
    )
    model = tfbnn.Sequential([keras.Input((x.shape[1],)), layer])
    steps = 1500
    # A step size that falls to zero averages the gradient noise out.
    rate = keras.optimizers.schedules.CosineDecay(0.03, steps)
    model.compile(keras.optimizers.Adam(rate), loss=tfbnn.losses.NormalNLL(scale=NOISE))
    # One long epoch: fifteen hundred short ones would cost ten times as much.
    batches = tf.data.Dataset.from_tensors((x, y)).repeat(steps)
    model.fit(batches, num_examples=len(x), verbose=0)
    return layer.kernel.loc.numpy()[:, 0], layer.kernel.scale.numpy()[:, 0]


def _data(correlation):
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(60, 3)))
    mixing = np.linalg.cholesky(np.full((3, 3), correlation) + (1 - correlation) * np.eye(3))
    x = (np.sqrt(60) * q @ mixing.T).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5]]) + NOISE * rng.normal(size=(60, 1))
    return x, y.astype("float32")


def _posterior(x, y):
    precision = x.T @ x / NOISE**2 + np.eye(3) / PRIOR_SCALE**2
    return np.linalg.solve(precision, x.T @ y[:, 0] / NOISE**2), precision


@pytest.mark.parametrize(
    "layer", [tfbnn.layers.DenseReparameterization, tfbnn.layers.DenseLocalReparameterization]
)
@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_the_optimum_is_found(correlation, layer):
    x, y = _data(correlation)
    mean, precision = _posterior(x, y)
    loc, scale = _fit(x, y, layer)
    # The mean-field optimum has the exact mean, and the variances 1 / precision_ii: the exact ones
    # on the orthogonal design, less than those on the correlated one.
    expected = 1 / np.sqrt(np.diag(precision))
    assert np.all(np.abs(loc - mean) < 0.25 * expected)
    assert np.all(np.abs(scale / expected - 1) < 0.1)
    exact = np.sqrt(np.diag(np.linalg.inv(precision)))
    assert np.allclose(expected, exact, rtol=1e-3) == (correlation == 0.0)
