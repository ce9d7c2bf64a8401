"""Uncertainties of real numbers against closed forms, identities and brute force."""

import numpy as np
import pytest
from scipy import stats

from tfbnn.scores import number_uncertainty


def draws(seed, shape=(8, 5, 4), concentration=0.5):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(shape[-1], concentration), size=shape[:-1])


def mixture_cdf(x, loc, scale):
    return stats.norm.cdf(x, loc, scale).mean(axis=0)


def test_law_of_total_variance_against_the_moments_of_a_mixture():
    loc = np.array([[[1.0]], [[2.0]], [[6.0]]])
    scale = np.array([[[1.0]], [[0.5]], [[2.0]]])
    second_moment = np.mean(loc**2 + scale**2)
    expected = np.sqrt(second_moment - 3.0**2)
    np.testing.assert_allclose(
        number_uncertainty.total_standard_deviation(loc, scale), [[expected]]
    )
    np.testing.assert_allclose(number_uncertainty.epistemic_variance(loc), [[14 / 3]])
    np.testing.assert_allclose(number_uncertainty.aleatoric_variance(loc, scale), [[1.75]])


@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (5, 1, 1), (5, 4, 3)])
def test_scale_broadcasts_to_loc(shape):
    loc, scale = np.zeros((5, 4, 3)), np.full(shape, 2.0)
    np.testing.assert_array_equal(
        number_uncertainty.aleatoric_variance(loc, scale), np.full((4, 3), 4.0)
    )


@pytest.mark.parametrize("q", [1e-12, 0.001, 0.3, 0.5, 0.9, 0.999, 1 - 1e-12])
def test_mixture_quantile_of_one_normal(q):
    value = number_uncertainty.mixture_quantile([[[3.0, -1e3]]], [[[0.5, 10.0]]], q)
    expected = stats.norm.ppf(q, [[3.0, -1e3]], [[0.5, 10.0]])
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("q", [1e-9, 0.025, 0.4, 0.5, 0.6, 0.975, 1 - 1e-9])
def test_mixture_quantile_inverts_the_cdf(q):
    rng = np.random.default_rng(4)
    loc = 3 * rng.normal(size=(16, 200, 2))
    scale = np.exp(rng.normal(size=loc.shape))
    value = number_uncertainty.mixture_quantile(loc, scale, q)
    # 1e-6 of the narrowest standard deviation to either side must straddle the level.
    step = 1e-6 * scale.min(axis=0)
    if q > 0.5:
        value, loc, q = -value, -loc, 1 - q
    assert (mixture_cdf(value - step, loc, scale) <= q).all()
    assert (mixture_cdf(value + step, loc, scale) >= q).all()


def test_mixture_quantile_against_sampling():
    rng = np.random.default_rng(5)
    loc, scale, num_draws, q = np.array([-1.0, 0.0, 4.0]), np.array([0.5, 2.0, 1.0]), 400_000, 0.8
    which = rng.integers(3, size=num_draws)
    samples = rng.normal(loc[which], scale[which])
    value = number_uncertainty.mixture_quantile(loc[:, None, None], scale[:, None, None], q).item()
    density = stats.norm.pdf(value, loc, scale).mean()
    standard_error = np.sqrt(q * (1 - q) / num_draws) / density
    assert abs(np.quantile(samples, q) - value) < 4 * standard_error


def test_mixture_quantile_with_scales_far_apart():
    loc = np.array([0.0, 1e6])[:, None, None]
    scale = np.array([1e-6, 1e3])[:, None, None]
    value = number_uncertainty.mixture_quantile(loc, scale, 0.25).item()
    assert abs(value) < 1e-12
    value = number_uncertainty.mixture_quantile(loc, scale, 0.75).item()
    assert abs(value - 1e6) < 1e-3


def test_mixture_quantile_in_a_gap_stays_in_the_gap():
    value = number_uncertainty.mixture_quantile([[[-1000.0]], [[1000.0]]], 1.0, 0.5).item()
    assert -1000 < value < 1000


def test_credible_interval_is_central_and_symmetric():
    loc = np.array([-1.0, 0.0, 1.0])[:, None, None]
    lower, upper = number_uncertainty.credible_interval(loc, 0.7, mass=0.9)
    np.testing.assert_allclose(lower, -upper, rtol=1e-9)
    np.testing.assert_allclose(mixture_cdf(upper, loc, 0.7), 0.95, rtol=1e-7)


def test_credible_interval_keeps_tiny_tails():
    tail = 5e-13
    lower, upper = number_uncertainty.credible_interval([[[0.0]]], 1.0, mass=1 - 2 * tail)
    assert upper == -lower
    np.testing.assert_allclose(upper, -stats.norm.ppf(tail), rtol=1e-6)


def test_credible_interval_widens_with_mass():
    narrow = number_uncertainty.credible_interval(np.zeros((2, 1, 1)), 1.0, mass=0.5)
    wide = number_uncertainty.credible_interval(np.zeros((2, 1, 1)), 1.0, mass=0.95)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    np.testing.assert_allclose(wide, [[[-1.959964]], [[1.959964]]], rtol=1e-6)


def test_sample_quantile_is_over_draws():
    samples = draws(6)
    np.testing.assert_array_equal(
        number_uncertainty.sample_quantile(samples, 0.3), np.quantile(samples, 0.3, axis=0)
    )
    np.testing.assert_array_equal(
        number_uncertainty.sample_quantile(samples, 0), samples.min(axis=0)
    )


@pytest.mark.parametrize(
    ("loc", "scale", "message"),
    [
        ([1.0], 1.0, r"`loc` needs 2 axes or more. Received: shape=\(1,\)"),
        ([[np.inf]], 1.0, "`loc` must be finite.*Received: 1 of 1"),
        ([[1.0]], np.nan, "`scale` must be finite"),
        ([[1.0]], -1.0, "logarithm.*Received: smallest scale=-1"),
        ([[1.0]], [1.0, 2.0], r"broadcast.*Received: loc shape=\(1, 1\), scale shape=\(2,\)"),
        ([[1.0]], [[[1.0]]], r"Received: loc shape=\(1, 1\), scale shape=\(1, 1, 1\)"),
    ],
)
def test_bad_normals(loc, scale, message):
    with pytest.raises(ValueError, match=message):
        number_uncertainty.total_standard_deviation(loc, scale)


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, np.nan, [0.5, 0.6]])
def test_bad_levels(q):
    with pytest.raises(
        ValueError, match="`q` must be a number strictly between 0 and 1. Received: q="
    ):
        number_uncertainty.mixture_quantile([[[0.0]]], 1.0, q)
    with pytest.raises(ValueError, match="`mass` must be a number strictly.*Received: mass="):
        number_uncertainty.credible_interval([[[0.0]]], 1.0, q)


@pytest.mark.parametrize("q", [-0.1, 1.1, np.nan, [0.5, 0.6]])
def test_bad_sample_levels(q):
    with pytest.raises(ValueError, match="`q` must be a number between 0 and 1. Received: q="):
        number_uncertainty.sample_quantile([[0.0]], q)


def test_quantile_needs_noise():
    with pytest.raises(ValueError, match="must be positive.*Received: smallest scale=0.0"):
        number_uncertainty.mixture_quantile([[[0.0]]], 0.0, 0.5)
