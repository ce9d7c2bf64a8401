"""`fit` says when sigma has not trained, by a statistic with known values."""

import warnings

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.training.convergence import LARGEST_PULL, ConvergenceWarning

RNG = np.random.default_rng(0)
FEATURES = 40
X = RNG.normal(size=(320, FEATURES)).astype("float32")
Y = (X @ RNG.normal(size=(FEATURES, 1)) + 0.5 * RNG.normal(size=(320, 1))).astype("float32")
SMALL = tfbnn.families.Normal(1e-4)
NOISE = tfbnn.losses.NormalNLL(0.5)


def pulls_of(
    epochs,
    optimizer=None,
    initial_scale=0.0067,
    layer=tfbnn.layers.DenseFlipout,
    loc=None,
    **options,
):
    keras.utils.set_random_seed(0)
    posterior = tfbnn.families.Normal(initial_scale)
    one = layer(1, posterior=posterior, use_bias=False, **options)
    model = tfbnn.Sequential([keras.Input((FEATURES,)), one])
    if loc is not None:
        one.kernel.loc_variable.assign(loc)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), loss=NOISE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y, epochs=epochs, verbose=0)
    found = [one for one in caught if issubclass(one.category, ConvergenceWarning)]
    return model.objective.sigma_gradients.mean_pull(), found


def test_only_the_kl_is_felt_where_sigma_is_small():
    # A posterior scale of .028 is where this regression ends: (N / noise**2 + 1)**-.5.
    (pull, _), warned = pulls_of(2, initial_scale=1e-4)
    assert pull == pytest.approx(1.0, abs=0.02)
    assert "still grows" in str(warned[0].message)


def test_too_large_a_sigma_pulls_the_other_way():
    (pull, _), warned = pulls_of(2, initial_scale=0.3)
    assert pull < -0.5 and "too large" in str(warned[0].message)


@pytest.mark.parametrize(
    "layer",
    [
        tfbnn.layers.DenseFlipout,
        tfbnn.layers.DenseReparameterization,
        tfbnn.layers.DenseLocalReparameterization,
    ],
)
def test_at_the_optimum_there_is_none(layer):
    exact = (len(X) / 0.25 + 1) ** -0.5
    loc = np.linalg.lstsq(X, Y, rcond=None)[0]
    options = {"initial_scale": exact, "layer": layer, "loc": loc}
    (pull, error), warned = pulls_of(5, keras.optimizers.Adam(1e-5), **options)
    # The rows are not exactly standard, and 50 steps are noisy.
    assert abs(pull) < LARGEST_PULL + 2 * error < 0.5 and not warned


def test_adam_by_name_gets_there():
    (pull, error), warned = pulls_of(150, "adam")
    assert abs(pull) < LARGEST_PULL + 2 * error < 0.5 and not warned


def test_a_mixture_is_judged_by_its_own_kl():
    """At small sigma the narrow component pulls, not the entropy: more than one nat a weight."""
    prior = tfbnn.priors.ScaleMixture(0.5, 1.0, 0.0025)
    (pull, _), _ = pulls_of(2, initial_scale=1e-4, prior=prior)
    assert abs(pull) == pytest.approx(1.0, abs=0.1)


def test_pruned_weights_are_left_out():
    keras.utils.set_random_seed(0)
    model = tfbnn.Sequential(
        [keras.Input((FEATURES,)), tfbnn.layers.DenseFlipout(4, posterior=SMALL)]
    )
    model.compile(keras.optimizers.Adam(1e-5), loss=NOISE)
    model.fit(X, np.repeat(Y, 4, axis=1), epochs=2, verbose=0)
    pruned = tfbnn.prune(model, 0.5)
    pruned.compile(keras.optimizers.Adam(1e-5), loss=NOISE)
    pruned.fit(X, np.repeat(Y, 4, axis=1), epochs=2, verbose=0)
    pull, _ = pruned.objective.sigma_gradients.mean_pull()
    # Half of the mean would be missing otherwise.
    assert pull > 0.9


def test_weights_that_are_not_trained_are_not_warned_of():
    model = tfbnn.Sequential([keras.Input((FEATURES,)), tfbnn.layers.DenseFlipout(1)])
    model.layers[0].trainable = False
    model.add(keras.layers.Dense(1))
    model.compile(loss=NOISE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y, verbose=0)


def test_a_scaled_loss_makes_no_difference():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3), initial_scale=64.0)
    (pull, _), _ = pulls_of(2, scaled, initial_scale=1e-4)
    assert pull == pytest.approx(1.0, abs=0.02)


def test_a_model_that_its_first_batch_builds_is_watched_too():
    keras.utils.set_random_seed(0)
    model = tfbnn.Sequential([tfbnn.layers.DenseFlipout(1, posterior=SMALL)])
    model.compile(keras.optimizers.Adam(1e-3), loss=NOISE)
    with pytest.warns(ConvergenceWarning, match="still grows") as caught:
        model.fit(X, Y, epochs=2, verbose=0)
    # The line of the user.
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        # Nothing is said of an earlier `fit`.
        model.fit(X, Y, epochs=1, initial_epoch=1, verbose=0)


@pytest.mark.parametrize("batch_size", [320, 160, 32])
def test_few_and_short_epochs_are_no_false_alarm(batch_size):
    """At the exact optimum of orthogonal rows."""
    rows = np.linalg.qr(RNG.normal(size=(320, FEATURES)))[0] * len(X) ** 0.5
    exact = (len(X) / 0.25 + 1) ** -0.5
    warned = 0
    for seed in range(5):
        keras.utils.set_random_seed(seed)
        posterior = tfbnn.families.Normal(exact)
        layer = tfbnn.layers.DenseReparameterization(1, posterior=posterior, use_bias=False)
        model = tfbnn.Sequential([keras.Input((FEATURES,)), layer])
        layer.kernel.loc_variable.assign(np.linalg.lstsq(rows, Y, rcond=None)[0])
        model.compile(keras.optimizers.Adam(1e-9), loss=NOISE)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(rows, Y, batch_size=batch_size, epochs=15, verbose=0)
        warned += any(issubclass(one.category, ConvergenceWarning) for one in caught)
    assert warned <= 1


def test_a_step_that_overflows_is_left_out():
    keras.utils.set_random_seed(0)
    layer = tfbnn.layers.DenseFlipout(1, posterior=SMALL)
    model = tfbnn.Sequential([keras.Input((FEATURES,)), layer])
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(1e-3), initial_scale=2.0**127, dynamic_growth_steps=1
    )
    model.compile(optimizer, loss=NOISE)
    model.fit(X, Y, epochs=4, verbose=0)
    pull, error = model.objective.sigma_gradients.mean_pull()
    assert np.isfinite(pull) and np.isfinite(error)
