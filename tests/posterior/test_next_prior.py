"""A posterior as the next prior: two halves of the data give the posterior of all."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.routes import ROUTES, bayesian, made, noisy

K = keras.layers
NOISE, PRIOR, HALF = 0.5, 2.0, 30
LAWS = [name for name, route in ROUTES.items() if {"laws", "layers"} <= route.has]


def halves():
    """Two halves whose inputs are orthogonal in each, so that weights are independent."""
    rng = np.random.default_rng(0)
    x = [np.sqrt(HALF) * np.linalg.qr(rng.normal(size=(HALF, 3)))[0] for _ in range(2)]
    y = [one @ [[1.0], [-2.0], [0.5]] + NOISE * rng.normal(size=(HALF, 1)) for one in x]
    return [(a.astype("float32"), b.astype("float32")) for a, b in zip(x, y, strict=True)]


def exact(data):
    """Mean and standard deviation of each weight, of all data together."""
    x, y = (np.concatenate(part) for part in zip(*data, strict=True))
    precision = x.T @ x / NOISE**2 + np.eye(3) / PRIOR**2
    mean = np.linalg.solve(precision, x.T @ y / NOISE**2)
    return mean.astype("float32"), (np.diag(precision)[:, None] ** -0.5).astype("float32")


def test_the_optimum_after_both_halves_is_the_posterior_of_all_data():
    data = halves()
    plain = keras.Sequential([keras.Input((3,)), K.Dense(1, use_bias=False)])
    plain.compile(loss=tfbnn.losses.NormalNLL(scale=NOISE))
    # The mode of the first half, where a diagonal Laplace approximation is exact.
    plain.layers[0].kernel.assign(exact(data[:1])[0])
    options = {"prior_precision": 1 / PRIOR**2, "predictive": "sampled", "verbose": 0}
    first = tfbnn.posteriors.Laplace(plain, *data[0], "diagonal", "exact", **options)
    kernel = tfbnn.continue_from(first).layers[0].kernel
    for found, expected in zip(kernel.prior.values(), exact(data[:1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    kernel.assign(*(tf.constant(one) for one in exact(data)))
    x, y = data[1]
    with tf.GradientTape() as tape:
        # What a linear network says has this mean and this variance.
        errors = tf.square(x @ kernel.loc - y) + x**2 @ kernel.scale**2
        loss = tf.reduce_sum(errors) / (2 * NOISE**2) + kernel.kl()
    variables = [kernel.loc_variable.value, kernel.rho_variable.value]
    scale = exact(data)[1]
    for slope in tape.gradient(loss, variables):
        # Of a step of one standard deviation, in nats.
        assert (np.abs(slope * scale) < 2e-3).all()


def test_training_with_one_half_after_the_other():
    layer = tfbnn.layers.DenseLocalReparameterization(
        1,
        use_bias=False,
        kernel_prior=tfbnn.priors.Normal(scale=PRIOR),
        kernel_posterior=tfbnn.families.Normal(initial_scale=0.1),
        seed=0,
    )
    model, steps, data = tfbnn.Sequential([keras.Input((3,)), layer]), 1000, halves()
    for number, half in enumerate(data):
        rate = keras.optimizers.schedules.CosineDecay(0.03, steps)
        model.compile(keras.optimizers.Adam(rate), loss=tfbnn.losses.NormalNLL(scale=NOISE))
        batches = tf.data.Dataset.from_tensors(half).repeat(steps)
        model.fit(batches, num_examples=HALF, verbose=0)
        kernel, (mean, scale) = model.layers[0].kernel, exact(data[: number + 1])
        assert (np.abs(kernel.loc - mean) < 0.25 * scale).all()
        assert (np.abs(kernel.scale / scale - 1) < 0.1).all()
        model = tfbnn.continue_from(model)


@pytest.mark.parametrize("name", LAWS)
def test_every_route_with_laws_is_a_prior(name, tmp_path):
    posterior, x = made(name), ROUTES[name].x
    model = tfbnn.continue_from(posterior)
    np.testing.assert_allclose(model(x), posterior.as_model()(x), atol=1e-5)
    model.save(tmp_path / "model.keras")
    for one in (model, tfbnn.load_model(tmp_path / "model.keras")):
        weights = tfbnn.layers.variational_weights(one)
        laws = posterior.with_laws().laws().values()
        for weight, law in zip(weights, laws, strict=True):
            for found, prior, expected in zip(
                (weight.loc, weight.scale), weight.prior.values(), law, strict=True
            ):
                np.testing.assert_allclose(found, expected, rtol=1e-4)
                np.testing.assert_allclose(prior, expected, rtol=1e-4)
            assert weight.kl() < 1e-3 * weight.size


def test_what_was_pruned_stays_so_and_noise_goes_on():
    pruned = tfbnn.prune(bayesian(), sparsity=0.5)
    following = tfbnn.continue_from(pruned)
    for old, new in zip(pruned.layers, following.layers, strict=True):
        np.testing.assert_array_equal(new.kernel.mask, old.kernel.mask)
        assert (new.kernel.prior.values()[1] > 0).numpy().all()
    model = tfbnn.continue_from(noisy([0.3, 1.0]))
    np.testing.assert_allclose(model.likelihood.loss.constant_scale(), [0.3, 1.0], rtol=1e-5)


def test_what_it_refuses():
    with pytest.raises(TypeError, match="A posterior as the next prior needs the mean"):
        tfbnn.continue_from(made("map"))
    with pytest.raises(TypeError, match="can go on learning"):
        tfbnn.continue_from(bayesian(base=keras.Sequential))
    with pytest.raises(TypeError, match="Expected a"):
        tfbnn.continue_from(1)
