"""R-hat and effective sample sizes, of series whose correlations are known."""

import numpy as np
import pytest

from tfbnn.posterior.mcmc.adaptation import StepLength, scales_of, windows
from tfbnn.posterior.mcmc.mixing import effective_samples, r_hat

SAMPLES, CHAINS, SERIES = 2000, 4, 50


def autoregressive(correlation):
    """`w[t] = c * w[t - 1] + sqrt(1 - c**2) * e`, of variance 1."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(SAMPLES, CHAINS, SERIES))
    for number in range(1, SAMPLES):
        noise[number] *= np.sqrt(1 - correlation**2)
        noise[number] += correlation * noise[number - 1]
    return noise


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.5, 0.9])
def test_effective_samples_of_an_autoregressive_series(correlation):
    expected = SAMPLES * CHAINS * (1 - correlation) / (1 + correlation)
    found = effective_samples(autoregressive(correlation))
    assert found.shape == (SERIES,)
    error = found.std() / np.sqrt(SERIES)
    # Cutting the sum off where noise begins leaves a bias of a few per cent.
    assert abs(found.mean() - expected) < 4 * error + 0.05 * expected


def test_r_hat_is_what_the_formula_says():
    draws = np.random.default_rng(1).normal(size=(100, 3)) + [0.0, 0.3, 0.6]
    halves = np.stack([part for chain in draws.T for part in np.split(chain, 2)])
    within = halves.var(axis=1, ddof=1).mean()
    between = 50 * halves.mean(axis=1).var(ddof=1)
    expected = np.sqrt((49 / 50 * within + between / 50) / within)
    assert r_hat(draws) == pytest.approx(expected, rel=1e-12)


def test_chains_that_do_not_agree_or_stand_still():
    draws = autoregressive(0.0)
    assert (r_hat(draws) < 1.01).all()
    apart = draws + 2.0 * np.arange(CHAINS)[:, None]
    assert (r_hat(apart) > 2).all()
    assert (effective_samples(apart) < 20).all()
    # A drift is seen within a chain.
    assert (r_hat(draws + np.linspace(0, 3, SAMPLES)[:, None, None]) > 1.2).all()
    still = np.ones((10, 2))
    assert r_hat(still) == 1 and effective_samples(still) == 0
    assert np.isinf(r_hat(still * [1.0, 2.0]))


def test_the_step_comes_to_its_acceptance():
    length = StepLength.start(0.1)
    for _ in range(500):
        # Of a step of 0.5 it is 0.8.
        length = length.after(np.exp(-0.4463 * np.exp(length.log_step)), 0.8, True)
    assert np.exp(length.settled().log_step) == pytest.approx(0.5, rel=0.02)
    kept = length.after(0.1, 0.8, False)
    assert [float(one) for one in kept] == [float(one) for one in length]


@pytest.mark.parametrize("warmup", [4, 20, 333, 1000])
def test_windows_are_the_warm_up(warmup):
    counts, learns = zip(*windows(warmup), strict=True)
    assert sum(counts) == warmup and min(counts) >= 0
    assert learns == (False, *[True] * (len(learns) - 2), False)


def test_scales_are_those_within_chains():
    rng = np.random.default_rng(0)
    scales = np.array([0.01, 1.0, 1.0, 50.0])
    draws = scales * rng.normal(size=(2000, 4, 4)) + 10.0 * np.arange(4)[:, None]
    np.testing.assert_allclose(scales_of(draws)[1:], scales[1:], rtol=0.05)
    assert (scales_of(np.zeros((5, 2, 3))) == np.float32((5 / 15) ** 0.5)).all()
