"""KL divergences against TFP, against float64 quadrature, and Monte Carlo against both.

The quadrature splits the posterior at the scales where the priors change, because a mixture's
narrow component is otherwise stepped over. `AutomaticRelevance` is no density: its KL is tested
against the smallest of those that it stands for, and against its formula in float64.
"""

import itertools

import hypothesis
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn import arguments
from tfbnn.weights import divergences, priors

tfd = tfp.distributions

# Rows: standard deviations; columns: means in units of them.
SCALE = np.repeat([1e-6, 1e-4, 1e-2, 1.0, 10.0], 5).astype(np.float32)
LOC = (np.tile([0.0, 1.0, -1.0, 10.0, 100.0], 5) * SCALE).astype(np.float32)
EXTREME_LOC = np.array([0.0, 1e-12, 1e-3, 1.0, 1e3, priors.LARGEST_WEIGHT], np.float32)
EXTREME_SCALE = np.array([arguments.SMALLEST_SCALE, 1e-6, 1.0, priors.LARGEST_WEIGHT], np.float32)
NUM_DRAWS = 4000
STANDARD_ERRORS = 5.0


def log_mixture(pi, sigma1, sigma2):
    def log_prob(w):
        first = np.log(pi) + scipy.stats.norm.logpdf(w, scale=sigma1)
        return np.logaddexp(first, np.log1p(-pi) + scipy.stats.norm.logpdf(w, scale=sigma2))

    return log_prob


def log_laplace(loc, scale):
    # scipy's takes the log of a density that underflows.
    return lambda w: -np.abs(w - loc) / scale - np.log(2 * scale)


# Each prior, its log density in float64, and the points where that changes character.
CASES = [
    (priors.Normal(), scipy.stats.norm(0, 1).logpdf, [0.0]),
    (priors.Normal(0.5, 1e-2), scipy.stats.norm(0.5, 1e-2).logpdf, [0.5]),
    (priors.Laplace(), log_laplace(0.0, 1.0), [0.0]),
    (priors.Laplace(0.5, 0.1), log_laplace(0.5, 0.1), [0.5]),
    (priors.ScaleMixture(), log_mixture(0.5, 1.0, 0.0025), [0.0]),
    (priors.ScaleMixture(0.25, 1e-4, 2.0), log_mixture(0.25, 1e-4, 2.0), [0.0]),
    (priors.StudentT(), scipy.stats.t(3).logpdf, [0.0]),
    (priors.StudentT(1.5, 0.5, 0.01), scipy.stats.t(1.5, 0.5, 0.01).logpdf, [0.5]),
    (priors.Cauchy(), scipy.stats.cauchy().logpdf, [0.0]),
    (priors.Cauchy(-0.5, 0.01), scipy.stats.cauchy(-0.5, 0.01).logpdf, [-0.5]),
    (priors.Distribution(tfd.Normal(0.5, 2.0)), scipy.stats.norm(0.5, 2.0).logpdf, [0.5]),
    (priors.Distribution(tfd.Logistic(0.0, 0.1)), scipy.stats.logistic(0, 0.1).logpdf, [0.0]),
    (
        priors.Distribution(
            tfd.MixtureSameFamily(
                tfd.Categorical(probs=[0.25, 0.75]), tfd.Normal([0.0, 0.0], [1.0, 0.0025])
            )
        ),
        log_mixture(0.25, 1.0, 0.0025),
        [0.0],
    ),
]
CLOSED = [case for case in CASES if divergences.has_closed_form(case[0])]
OPEN = [case for case in CASES if not divergences.has_closed_form(case[0])]


def each_of(cases):
    ids = [f"{type(prior).__name__}-{index}" for index, (prior, _, _) in enumerate(cases)]
    return pytest.mark.parametrize(("prior", "log_prob", "centres"), cases, ids=ids)


each_case = each_of(CASES)


def expectation(function, loc, scale, centres):
    """`E[function(w)]`, `w ~ N(loc, scale**2)`: Gauss-Legendre between many break points."""
    steps = np.geomspace(1e-7, 1e3, 81)
    edges = np.concatenate([[c] + list(c + steps) + list(c - steps) for c in centres])
    z = np.concatenate([(edges - loc) / scale, np.linspace(-10, 10, 41)])
    z = np.unique(np.clip(z, -10, 10))
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half = np.diff(z)[:, None] / 2
    points = z[:-1, None] + half * (1 + nodes)
    return np.sum(half * weights * scipy.stats.norm.pdf(points) * function(loc + scale * points))


def exact_kl(log_prob, centres):
    loc, scale = LOC.astype(np.float64), SCALE.astype(np.float64)
    cross = [expectation(log_prob, m, s, centres) for m, s in zip(loc, scale, strict=True)]
    return -np.log(scale) - 0.5 * np.log(2 * np.pi * np.e) - np.array(cross)


def float64_kl(loc, scale, prior):
    """KL between two normals with the float64 series, exact near equality too."""
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    shift, u = (loc - prior.loc) / prior.scale, scale / prior.scale - 1
    powers = sum((-1) ** n * u**n / n for n in range(2, 20))
    return shift**2 / 2 + u**2 / 2 + np.where(np.abs(u) < 1e-2, powers, u - np.log1p(u))


def gradients(function, *values):
    values = [tf.convert_to_tensor(value) for value in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(*values)
    return [tf.convert_to_tensor(gradient) for gradient in tape.gradient(result, values)]


def assert_mean(samples, expected, rounding):
    """The mean over axis 0 is within k standard errors, plus float32 rounding."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    deviation = np.abs(samples.mean(0) - expected)
    assert np.all(deviation <= STANDARD_ERRORS * error + rounding), deviation / error


def test_the_quadrature_itself():
    np.testing.assert_allclose(expectation(np.square, 0.3, 2.0, [0.0]), 4.09, rtol=1e-12)
    prior, log_prob, centres = CASES[0]
    expected = float64_kl(LOC, SCALE, prior)
    np.testing.assert_allclose(exact_kl(log_prob, centres), expected, rtol=1e-9)


def test_which_are_closed():
    closed = {type(prior) for prior, _, _ in CLOSED}
    assert closed == {priors.Normal, priors.Laplace, priors.Distribution}
    assert divergences.has_closed_form(priors.AutomaticRelevance())
    assert not divergences.has_closed_form(priors.Distribution(tfd.Logistic(0.0, 1.0)))
    assert len(OPEN) == 8


@each_of(CLOSED)
def test_closed_form_against_quadrature(prior, log_prob, centres):
    kl = divergences.kl_divergence(tfd.Normal(LOC, SCALE), prior)
    assert kl.shape == LOC.shape
    assert kl.dtype == tf.float32
    np.testing.assert_allclose(kl, exact_kl(log_prob, centres), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("prior", [priors.Normal(), priors.Normal(0.5, 1e-2)], ids=repr)
def test_closed_form_against_tfp(prior):
    posterior = tfd.Normal(LOC, SCALE)
    expected = tfd.kl_divergence(posterior, prior.distribution())
    np.testing.assert_allclose(
        divergences.kl_divergence(posterior, prior), expected, rtol=1e-5, atol=1e-6
    )


def test_tfp_registry_is_used():
    posterior = tfd.Normal(LOC, SCALE)
    prior = priors.Distribution(tfd.Normal(0.5, 2.0))
    np.testing.assert_allclose(
        divergences.kl_divergence(posterior, prior),
        divergences.kl_divergence(posterior, priors.Normal(0.5, 2.0)),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_normal_is_accurate_where_nothing_was_learnt(scale):
    offset = np.geomspace(1e-7, 0.9, 300)
    posterior_scale = (scale * (1 + np.concatenate([-offset, offset]))).astype(np.float32)
    # The law the float32 computation sees: the prior's scale is rounded too.
    prior = priors.Normal(scale=float(np.float32(scale)))
    kl = divergences.normal_normal(tf.zeros_like(posterior_scale), posterior_scale, prior)
    expected = float64_kl(np.zeros_like(posterior_scale), posterior_scale, prior)
    assert np.all(kl >= 0)
    np.testing.assert_allclose(kl, expected, rtol=1e-6)


def test_normal_is_zero_at_the_prior():
    prior = priors.Normal(0.3, 0.1)
    kl = divergences.kl_divergence(tfd.Normal([0.3], [0.1]), prior)
    d_loc, d_scale = gradients(lambda m, s: divergences.normal_normal(m, s, prior), [0.3], [0.1])
    assert float(kl[0]) == float(d_loc[0]) == float(d_scale[0]) == 0.0


@each_case
def test_monte_carlo_against_quadrature(prior, log_prob, centres):
    loc, scale = np.tile(LOC, (NUM_DRAWS, 1)), np.tile(SCALE, (NUM_DRAWS, 1))
    noise = tf.random.stateless_normal(loc.shape, (1, 2), alg="philox")
    samples = divergences.monte_carlo(scale, prior, loc + scale * noise)
    expected = exact_kl(log_prob, centres)
    # The cancelling terms are of the size of the entropy; a squared distance rounds relatively.
    assert_mean(samples, expected, rounding=4e-6 * (np.abs(expected) + 15.0))


@each_of(OPEN)
def test_own_draw_against_quadrature(prior, log_prob, centres):
    posterior = tfd.Normal(np.tile(LOC, (NUM_DRAWS, 1)), np.tile(SCALE, (NUM_DRAWS, 1)))
    samples = divergences.kl_divergence(posterior, prior, seed=tf.constant([3, 4]))
    assert samples.shape == posterior.loc.shape
    expected = exact_kl(log_prob, centres)
    assert_mean(samples, expected, rounding=4e-6 * (np.abs(expected) + 15.0))


@each_case
@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_are_finite(prior, log_prob, centres, jit_compile):
    @tf.function(jit_compile=jit_compile, autograph=False)
    def kl_and_gradients(loc, scale):
        with tf.GradientTape() as tape:
            tape.watch([loc, scale])
            kl = divergences.kl_divergence(tfd.Normal(loc, scale), prior, seed=(5, 6))
        return kl, *tape.gradient(kl, [loc, scale])

    for tensor in kl_and_gradients(tf.constant(LOC), tf.constant(SCALE)):
        assert tensor.shape == LOC.shape
        assert np.all(np.isfinite(tensor))


WITH_GRADIENTS = [
    priors.Normal(0.5, 0.1),
    priors.Laplace(0.5, 0.1),
    # All weights between the scales, within the smallest, and beyond the largest.
    priors.AutomaticRelevance(0.01, 100.0),
    priors.AutomaticRelevance(2.0, 4.0),
    priors.AutomaticRelevance(1e-3, 0.3),
]


@pytest.mark.parametrize("prior", WITH_GRADIENTS, ids=repr)
def test_closed_form_gradients_are_those_of_the_value(prior):
    loc = np.linspace(-1.0, 1.0, 9, dtype=np.float32)
    scale = np.geomspace(0.02, 1.0, 9).astype(np.float32)

    def kl(loc, scale):
        return divergences.kl_divergence(tfd.Normal(loc, scale), prior)

    step = 1e-3 * scale
    d_loc, d_scale = gradients(kl, loc, scale)
    # A central difference of float32 values of about 10 is good to 1e-6 * 10 / step.
    difference = (kl(loc + step, scale) - kl(loc - step, scale)) / (2 * step)
    np.testing.assert_allclose(d_loc, difference, rtol=1e-2, atol=0.1)
    difference = (kl(loc, scale + step) - kl(loc, scale - step)) / (2 * step)
    np.testing.assert_allclose(d_scale, difference, rtol=1e-2, atol=0.1)


@pytest.mark.parametrize("name", ["loc", "scale"])
def test_slopes_in_the_numbers_of_a_normal_prior_are_those_of_tfp(name):
    given = {"loc": tf.constant(0.2), "scale": tf.constant(0.7)}
    posterior = tfd.Normal([0.5, -1.0, 0.2], [0.1, 0.7, 3.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(given)
        prior = priors.Normal().with_values([given["loc"], given["scale"]])
        found = divergences.kl_divergence(posterior, prior)
        expected = tfd.kl_divergence(posterior, tfd.Normal(**given))
    slopes = [tape.gradient(kl, given[name]) for kl in (found, expected)]
    np.testing.assert_allclose(*slopes, rtol=1e-5)


def test_slopes_in_the_numbers_of_each_weight_are_not_summed():
    posterior, scale = tfd.Normal([0.3, 0.3], [0.2, 0.2]), tf.constant([0.5, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(scale)
        prior = priors.Normal().with_values([0.0, scale])
        kl = divergences.kl_divergence(posterior, prior)
    # 1 / scale - (loc**2 + posterior_scale**2) / scale**3
    np.testing.assert_allclose(tape.gradient(kl, scale), [0.96, 0.48375], rtol=1e-5)


@pytest.mark.parametrize("prior", WITH_GRADIENTS, ids=repr)
def test_closed_forms_have_second_derivatives(prior):
    loc, scale = tf.constant([0.4, 0.6]), tf.constant([0.05, 0.3])

    def slopes(loc, scale):
        return gradients(
            lambda m, s: divergences.kl_divergence(tfd.Normal(m, s), prior), loc, scale
        )

    d2_loc, d2_scale = (
        gradients(lambda m: slopes(m, scale)[0], loc)[0],
        gradients(lambda s: slopes(loc, s)[1], scale)[0],
    )
    step = 1e-2 * scale
    difference = (slopes(loc + step, scale)[0] - slopes(loc - step, scale)[0]) / (2 * step)
    np.testing.assert_allclose(d2_loc, difference, rtol=1e-2)
    difference = (slopes(loc, scale + step)[1] - slopes(loc, scale - step)[1]) / (2 * step)
    np.testing.assert_allclose(d2_scale, difference, rtol=1e-2)


def smallest_kl(loc, scale, smallest, largest):
    """The smallest `KL(N(loc, scale**2) || N(0, s**2))` of all `s` from `smallest` to `largest`."""
    posterior = tfd.Normal(np.asarray(loc, np.float64), np.asarray(scale, np.float64))
    least, most = np.log(np.float64(smallest)), np.log(np.float64(largest))
    centre, width = least + 30.0, 30.0
    # Each search is finer, between the neighbours of the best point of the one before.
    for _ in range(4):
        points = np.clip(centre + np.linspace(-width, width, 201)[:, None], least, most)
        kl = tfd.kl_divergence(posterior, tfd.Normal(np.float64(0.0), np.exp(points))).numpy()
        centre = np.take_along_axis(
            np.broadcast_to(points, kl.shape), np.argmin(kl, axis=0)[None], axis=0
        )
        width = width / 50
    return np.min(kl, axis=0)


# The smallest and the largest scale.
BOUNDS = [(1e-9, 1e12), (1e-3, 1e12), (1e-3, 0.05), (0.1, 1.0), (1.0, 1.0), (30.0, 1e12)]


@pytest.mark.parametrize("bounds", BOUNDS)
def test_automatic_relevance_is_the_smallest_kl_of_all_that_are_allowed(bounds):
    kl = divergences.kl_divergence(tfd.Normal(LOC, SCALE), priors.AutomaticRelevance(*bounds))
    expected = smallest_kl(LOC, SCALE, *bounds)
    assert kl.shape == LOC.shape and kl.dtype == tf.float32
    # Float32 holds the logarithms, up to 20, to 2e-6.
    np.testing.assert_allclose(kl, expected, rtol=2e-6, atol=5e-6)


def to_one(loc, scale, prior_scale):
    """KL to a normal, that of the smallest or of the largest scale."""
    t, r = loc / prior_scale, scale / prior_scale
    return (t**2 + r**2 - 1) / 2 - tf.math.log(r)


def to_nearest(loc, scale):
    """KL to the nearest normal of all."""
    return tf.math.log1p(loc**2 / scale**2) / 2


def value_and_slopes(function, loc, scale, *rest):
    def with_rest(loc, scale):
        return function(loc, scale, *rest)

    values = with_rest(tf.constant(loc), tf.constant(scale)), *gradients(with_rest, loc, scale)
    return [value.numpy() for value in values]


def automatic_relevance_in_float64(loc, scale, smallest, largest):
    """The value and both slopes, which are those of the case that a weight is in."""
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    square = loc**2 + scale**2
    cases = [
        value_and_slopes(to_one, loc, scale, smallest),
        value_and_slopes(to_one, loc, scale, largest),
        value_and_slopes(to_nearest, loc, scale),
    ]
    which = [square <= smallest**2, square >= largest**2]
    return [np.select(which, parts[:2], parts[2]) for parts in zip(*cases, strict=True)]


def automatic_relevance(loc, scale, smallest, largest):
    """What the package says."""
    prior = priors.AutomaticRelevance(smallest, largest)
    return divergences.normal_automatic_relevance(loc, scale, prior)


def assert_automatic_relevance(found, expected, scale):
    (kl, d_loc, d_scale), (exact, exact_d_loc, exact_d_scale) = found, expected
    np.testing.assert_allclose(kl, exact, rtol=2e-6, atol=1e-5)
    np.testing.assert_allclose(d_loc, exact_d_loc, rtol=2e-6, atol=1e-37)
    # Of the entropy's slope, `-1 / scale`, the prior may leave nothing.
    np.testing.assert_array_less(
        np.abs(d_scale - exact_d_scale), 2e-6 * np.abs(exact_d_scale) + 1e-6 / scale
    )


@pytest.mark.parametrize("bounds", BOUNDS[1:])
def test_slopes_of_automatic_relevance_are_those_of_the_formula(bounds):
    found = value_and_slopes(automatic_relevance, LOC, SCALE, *bounds)
    expected = automatic_relevance_in_float64(LOC, SCALE, *bounds)
    assert_automatic_relevance(found, expected, SCALE)


@pytest.mark.parametrize("bounds", [(1e-6, 1.0), (0.1, 1e6), (50.0, 1e12), (1e-9, 0.1)])
@pytest.mark.parametrize("which", [0, 1])
def test_the_cases_of_automatic_relevance_meet_in_value_and_slopes(bounds, which):
    angle, border = np.linspace(-1.5, 1.5, 31), bounds[which]
    loc, scale = border * np.sin(angle), border * np.cos(angle)
    both = value_and_slopes(to_one, loc, scale, border), value_and_slopes(to_nearest, loc, scale)
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 / border)
    # The package on both sides of the border, and so near that float32 hardly tells them apart.
    for factor in (1 - 1e-6, 1.0, 1 + 1e-6):
        near = np.float32(factor * loc), np.float32(factor * scale)
        found = value_and_slopes(automatic_relevance, *near, *bounds)
        for value, expected, size in zip(found, both[0], (1, 1 / scale, 1 / scale), strict=True):
            np.testing.assert_array_less(np.abs(value - expected), 1e-5 * size)


EXTREME_BOUNDS = itertools.combinations_with_replacement(
    [arguments.SMALLEST_SCALE, 1.0, arguments.LARGEST_SCALE], 2
)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("bounds", list(EXTREME_BOUNDS))
def test_automatic_relevance_is_right_at_the_extremes(bounds, jit_compile):
    loc, scale = (x.ravel() for x in np.meshgrid([*-EXTREME_LOC, *EXTREME_LOC], EXTREME_SCALE))
    loc, scale = np.float32(loc), np.float32(scale)
    function = tf.function(automatic_relevance, jit_compile=jit_compile, autograph=False)
    found = value_and_slopes(function, loc, scale, *bounds)
    assert all(np.all(np.isfinite(tensor)) for tensor in found)
    expected = automatic_relevance_in_float64(loc, scale, *bounds)
    assert_automatic_relevance(found, expected, scale)


def test_automatic_relevance_needs_a_number_for_a_kl():
    with pytest.raises(ValueError, match="must be a number.*Received: smallest_scale='fan_in'"):
        divergences.kl_divergence(tfd.Normal([0.0], [1.0]), priors.AutomaticRelevance())


@pytest.mark.parametrize("mean", [1e-3, 1.0, 1e4])
def test_laplace_gradient_when_the_mean_is_many_scales_away(mean):
    d_loc, d_scale = gradients(
        lambda m, s: divergences.normal_laplace(m, s, priors.Laplace()), [mean], [1e-30]
    )
    np.testing.assert_allclose(d_loc, [1.0], rtol=1e-6)
    np.testing.assert_allclose(d_scale, [-1e30], rtol=1e-6)


@pytest.mark.parametrize("prior", [priors.Normal(), priors.Laplace(0.5, 0.1)], ids=repr)
def test_monte_carlo_gradient_is_unbiased(prior):
    loc, scale = np.tile(LOC, (NUM_DRAWS, 1)), np.tile(SCALE, (NUM_DRAWS, 1))
    noise = tf.random.stateless_normal(loc.shape, (7, 8), alg="philox")
    samples = gradients(lambda m, s: divergences.monte_carlo(s, prior, m + s * noise), loc, scale)
    closed = gradients(lambda m, s: divergences.kl_divergence(tfd.Normal(m, s), prior), LOC, SCALE)
    for draws, expected in zip(samples, closed, strict=True):
        assert_mean(draws, expected, rounding=1e-5 * np.abs(expected) + 1e-6)


def test_gradient_with_an_own_draw_is_unbiased():
    # A mixture of two equal components is a normal without a closed form.
    loc, scale = np.tile(LOC, (NUM_DRAWS, 1)), np.tile(SCALE, (NUM_DRAWS, 1))
    mixture, normal = priors.ScaleMixture(0.5, 2.0, 2.0), priors.Normal(0.0, 2.0)
    samples = gradients(
        lambda m, s: divergences.kl_divergence(tfd.Normal(m, s), mixture, seed=(1, 9)), loc, scale
    )
    closed = gradients(lambda m, s: divergences.kl_divergence(tfd.Normal(m, s), normal), LOC, SCALE)
    for draws, expected in zip(samples, closed, strict=True):
        assert_mean(draws, expected, rounding=1e-5 * np.abs(expected) + 1e-6)


def test_the_draw_is_the_one_given():
    prior, draw = priors.Cauchy(), tf.constant([0.5, -2.0])
    posterior = tfd.Normal([0.0, 1.0], [1.0, 2.0])
    np.testing.assert_allclose(
        divergences.kl_divergence(posterior, prior, draw=draw, seed=(1, 2)),
        -posterior.entropy() - prior.log_prob(draw),
        rtol=1e-6,
    )


def test_own_draw_depends_on_the_seed_only():
    posterior, prior = tfd.Normal(LOC, SCALE), priors.ScaleMixture()
    first, again, other = (
        divergences.kl_divergence(posterior, prior, seed=seed).numpy()
        for seed in [(1, 2), (1, 2), (1, 3)]
    )
    np.testing.assert_array_equal(first, again)
    # A posterior of 1e-6 moves the log density by less than float32 can show.
    assert np.all(first[10:] != other[10:])


def test_half_precision_is_computed_in_float32():
    posterior = tfd.Normal(tf.constant([0.0], tf.float16), tf.constant([1e-3], tf.float16))
    for prior in (priors.Normal(), priors.Cauchy()):
        kl = divergences.kl_divergence(posterior, prior, seed=(1, 2))
        full = tfd.Normal([0.0], tf.cast(posterior.scale, tf.float32))
        assert kl.dtype == tf.float32
        np.testing.assert_array_equal(kl, divergences.kl_divergence(full, prior, seed=(1, 2)))


def test_a_draw_is_needed():
    posterior = tfd.Normal([0.0], [1.0])
    with pytest.raises(
        ValueError, match=r"KL divergence to Cauchy.* Received: draw=None, seed=None"
    ):
        divergences.kl_divergence(posterior, priors.Cauchy())


def test_the_draw_has_the_posterior_shape():
    with pytest.raises(ValueError, match=r"shape of the posterior, \(2,\). Received: draw.shape="):
        divergences.kl_divergence(tfd.Normal([0.0, 0.0], 1.0), priors.Cauchy(), draw=[1.0])


def test_the_posterior_is_normal():
    with pytest.raises(ValueError, match="must be a .*Normal`. Received: posterior="):
        divergences.kl_divergence(tfd.Laplace(0.0, 1.0), priors.Normal())


def test_one_closed_form_per_class():
    with pytest.raises(ValueError, match="one closed form only. Received: prior_class="):
        divergences.register_closed_form(priors.Normal)(divergences.normal_normal)


def log_uniform(low, high):
    """Numbers of every size, the ends more often than others."""
    powers = hypothesis.strategies.floats(np.log10(low), np.log10(high)).map(lambda p: 10.0**p)
    inside = powers.map(lambda number: min(max(number, low), high))
    return hypothesis.strategies.sampled_from([low, 1.0, high]) | inside


STANDARD_DEVIATIONS = log_uniform(arguments.SMALLEST_SCALE, arguments.LARGEST_SCALE)
LOCATIONS = hypothesis.strategies.floats(-priors.LARGEST_WEIGHT, priors.LARGEST_WEIGHT)
ARGUMENTS = {
    "loc": LOCATIONS.filter(lambda loc: loc == 0 or abs(loc) > 1e-30),
    "df": log_uniform(1e-6, 1e12),
    "pi": hypothesis.strategies.floats(1e-37, 1 - 1e-7),
    "scale": STANDARD_DEVIATIONS,
    "sigma1": STANDARD_DEVIATIONS,
    "sigma2": STANDARD_DEVIATIONS,
    "smallest_scale": STANDARD_DEVIATIONS,
    "largest_scale": STANDARD_DEVIATIONS,
}


@hypothesis.strategies.composite
def any_prior(draw):
    classes = [cls for cls in priors.PRIORS.values() if cls is not priors.FanIn]
    cls = draw(hypothesis.strategies.sampled_from(classes))
    options = {name: draw(ARGUMENTS[name]) for name in cls().get_config()}
    if cls is priors.AutomaticRelevance:
        options["largest_scale"] = max(options.values())
    return cls(**options)


@hypothesis.given(prior=any_prior(), normal=hypothesis.strategies.sampled_from([0.0, 1.0, -6.7]))
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_prior_that_is_accepted_has_a_finite_kl_and_gradient(prior, normal):
    loc, scale = np.meshgrid(np.concatenate([-EXTREME_LOC, EXTREME_LOC]), EXTREME_SCALE)
    loc, scale = tf.constant(loc), tf.constant(scale)
    with tf.GradientTape() as tape:
        tape.watch((loc, scale))
        kl = divergences.kl_divergence(tfd.Normal(loc, scale), prior, loc + scale * normal)
    gradients = tape.gradient(kl, (loc, scale))
    assert all(np.all(np.isfinite(tensor)) for tensor in (kl, *gradients))
