"""What chains refuse, and what they say when they have not mixed."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.posterior.mcmc.kernels import KERNELS

K = keras.layers
MCMC = tfbnn.posteriors.MCMC
X, Y = np.eye(3, dtype="float32"), np.array([0, 1, 1])
SHORT = {"kernel": "random_walk", "samples": 4, "warmup": 4, "verbose": 0}


def classifier(*layers):
    model = keras.Sequential([keras.Input((3,)), *layers, K.Dense(2)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_chains_that_have_not_mixed_say_so_and_what_to_do():
    with pytest.warns(tfbnn.ConvergenceWarning) as caught:
        posterior = MCMC(classifier(), X, Y, prior=1.0, seed=3, **SHORT)
    (warning,) = caught
    assert warning.filename == __file__
    found = posterior.diagnostics
    assert not found.mixed
    for part in (
        f"R-hat is {found.r_hat['outputs']:.3f} of the outputs",
        f"of 16 draws {found.effective_samples['outputs']:.0f} of the outputs",
        "`warmup=` and `samples=`",
    ):
        assert part in str(warning.message)
    # The same seed gives the same draws.
    with pytest.warns(tfbnn.ConvergenceWarning):
        again = MCMC(classifier(), X, Y, prior=1.0, seed=3, **SHORT)
    for one, other in zip(posterior.chains, again.chains, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prior": None}, "needs a prior.*`tfbnn.with_prior` does.*Received: prior=None, and"),
        ({"prior": "fan_in"}, "needs the density of each weight.*to_bayesian"),
        ({"prior": 0.0}, "or its scale: .*Received: prior=0.0"),
        ({"chains": 1}, "`chains` must be a whole number, at least 2"),
        ({"samples": 3}, "`samples` must be a whole number, at least 4"),
        ({"kernel": "gibbs"}, "`kernel` must be one of"),
        ({"y": None}, "pass arrays `x` and `y`.*Received: y=None"),
        ({"y": Y[:2]}, "same number of rows.*Received: "),
        ({"y": Y + 2}, "Received: labels from 2.0 to 3.0"),
        ({"x": np.full((3, 3), np.nan)}, "NaN or infinite"),
        ({"samples": 10**8}, "would take more than 1 GiB.*Received: 400000000 draws"),
    ],
)
def test_bad_arguments(changed, message):
    given = {"x": X, "y": Y, "prior": 1.0, **SHORT, **changed}
    with pytest.raises(ValueError, match=message):
        MCMC(classifier(), **given)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_network_that_is_too_large(kernel):
    model, limit = classifier(K.Dense(10_000)), KERNELS[kernel].largest
    message = f"more than {limit} weights: take .*Laplace.*Received: a network with 60002 weights"
    with pytest.raises(ValueError, match=message):
        MCMC(model, X, Y, prior=1.0, **{**SHORT, "kernel": kernel})


def test_a_prior_is_given_once():
    bayesian = tfbnn.to_bayesian(classifier(), prior="normal", verbose=0)
    with pytest.raises(ValueError, match="priors of their own: leave `prior` out"):
        MCMC(bayesian, X, Y, prior=1.0, **SHORT)
    with pytest.raises(ValueError, match="needs the density.*FanIn"):
        MCMC(tfbnn.to_bayesian(classifier(), verbose=0), X, Y, **SHORT)


def test_models_it_cannot_take():
    with pytest.raises(TypeError, match="a Keras model"):
        MCMC(1, X, Y)
    uncompiled = keras.Sequential([keras.Input((3,)), K.Dense(2)])
    with pytest.raises(ValueError, match="has no likelihood"):
        MCMC(uncompiled, X, Y, prior=1.0)
    frozen = classifier()
    frozen.trainable = False
    with pytest.raises(ValueError, match="no weights that are trained"):
        MCMC(frozen, X, Y, prior=1.0, **SHORT)
