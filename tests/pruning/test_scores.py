"""Scores: against closed forms."""

import keras
import numpy as np
import pytest
from scipy import stats

import tfbnn
from tfbnn.pruning import scores

RNG = np.random.default_rng(0)
LOC = np.concatenate([[0.0], RNG.normal(size=199)]).reshape(20, 10)
SCALE = np.exp(RNG.uniform(np.log(1e-3), np.log(3.0), size=(20, 10)))


def make_weight(prior="normal"):
    layer = tfbnn.layers.DenseFlipout(10, kernel_prior=prior)
    layer.build((None, 20))
    layer.kernel.loc_variable.assign(LOC)
    layer.kernel.rho_variable.assign(np.log(np.expm1(SCALE)))
    return layer.kernel


def test_snr():
    np.testing.assert_allclose(scores.snr(make_weight()), np.abs(LOC) / SCALE, rtol=1e-4)


def test_zero_density():
    expected = -stats.norm.logpdf(0, LOC, SCALE)
    np.testing.assert_allclose(scores.zero_density(make_weight()), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prior_scale", [0.1, 1.0])
def test_savage_dickey_of_normals(prior_scale):
    weight = make_weight(tfbnn.priors.Normal(scale=prior_scale))
    score = scores.savage_dickey(weight).numpy()
    expected = stats.norm.logpdf(0, 0, prior_scale) - stats.norm.logpdf(0, LOC, SCALE)
    np.testing.assert_allclose(score, expected, rtol=1e-3, atol=1e-4)
    # q(0) >= p(0) in closed form; a posterior wider than the prior is never below it.
    limit = np.sqrt(2 * np.maximum(np.log(prior_scale / SCALE), 0))
    below = (np.abs(LOC) / SCALE <= limit) & (SCALE <= prior_scale)
    np.testing.assert_array_equal(score <= 0, below)
    assert 0 < below.sum() < below.size


def test_savage_dickey_of_a_scale_mixture():
    weight = make_weight(tfbnn.priors.ScaleMixture(pi=0.25, sigma1=1.0, sigma2=0.01))
    prior = np.log(0.25 * stats.norm.pdf(0) + 0.75 * stats.norm.pdf(0, scale=0.01))
    expected = prior - stats.norm.logpdf(0, LOC, SCALE)
    np.testing.assert_allclose(scores.savage_dickey(weight), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prior", ["laplace", "student_t", "cauchy"])
def test_savage_dickey_of_any_prior(prior):
    weight = make_weight(prior)
    at_zero = float(weight.prior.log_prob(0.0))
    expected = at_zero - stats.norm.logpdf(0, LOC, SCALE)
    np.testing.assert_allclose(scores.savage_dickey(weight), expected, rtol=1e-3, atol=1e-4)


def test_savage_dickey_needs_a_density():
    weight = make_weight("automatic_relevance")
    message = "choose 'snr', or train with a prior.*Received: AutomaticRelevance"
    with pytest.raises(ValueError, match=message):
        scores.savage_dickey(weight)
    np.testing.assert_allclose(scores.snr(weight), np.abs(LOC) / SCALE, rtol=1e-4)


@pytest.mark.parametrize("criterion", scores.CRITERIA)
def test_scores_are_in_float32_and_finite_at_the_edges(criterion):
    keras.config.set_dtype_policy("mixed_float16")
    weight = make_weight()
    weight.rho_variable.assign(np.full(LOC.shape, -500.0))
    score = scores.CRITERIA[criterion](weight).numpy()
    assert score.dtype == np.float32
    # The scale is as small as a scale may be.
    expected = {
        "snr": np.abs(LOC) / 1e-12,
        "zero_density": -stats.norm.logpdf(0, LOC, 1e-12),
        "savage_dickey": stats.norm.logpdf(0) - stats.norm.logpdf(0, LOC, 1e-12),
    }
    np.testing.assert_allclose(score, expected[criterion], rtol=1e-5)


@pytest.mark.parametrize("criterion", scores.CRITERIA)
def test_a_group_of_one_scores_as_its_weight(criterion):
    weight = make_weight()
    group = scores.GROUP_CRITERIA[criterion]
    expected = scores.CRITERIA[criterion](weight)
    np.testing.assert_allclose(group.of_sums(*group.terms(weight)), expected, rtol=1e-4)


def test_savage_dickey_of_a_group_is_that_of_its_joint_law():
    weight = make_weight()
    group = scores.GROUP_CRITERIA["savage_dickey"]
    score = group.of_sums(*[term[3].sum() for term in group.terms(weight)])
    joint = stats.multivariate_normal(LOC[3], np.diag(SCALE[3] ** 2)).logpdf(np.zeros(10))
    expected = stats.norm.logpdf(np.zeros(10)).sum() - joint
    assert score == pytest.approx(expected, rel=1e-3)
