"""The compiled passes against plain TensorFlow: values, KL, and the gradients of all of them."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.weights import divergences, priors, realisation
from tfbnn.weights.realisation import OPERANDS, Realisation
from tfbnn.weights.tracing import LARGE

SHAPES = {"compiled": (LARGE // 100 + 1, 100), "plain": (7, 5)}
PRIORS = {
    "normal": priors.Normal(loc=0.1, scale=0.3),
    "scale_mixture": priors.ScaleMixture(pi=0.25, sigma1=1.0, sigma2=0.05),
    "laplace": priors.Laplace(scale=0.2),
    "student_t": priors.StudentT(df=3.0, scale=0.1),
    "automatic_relevance": priors.AutomaticRelevance(smallest_scale=0.2, largest_scale=1.0),
}


def _tensors(shape, masked):
    rng = np.random.default_rng(0)
    loc, rho, noise = (
        tf.constant(rng.normal(mean, spread, shape), tf.float32)
        for mean, spread in ((0.0, 0.2), (-2.0, 2.0), (0.0, 1.0))
    )
    mask = tf.constant(rng.integers(0, 2, shape), tf.float32) if masked else None
    return loc, rho, noise, mask


def _plain(operand, prior, loc, rho, noise, mask):
    """The same by the formulas, with nothing shared."""
    scale = tf.math.softplus(rho)
    made = {
        "draw": lambda: loc + scale * noise,
        "perturbation": lambda: scale * noise,
        "variance": lambda: scale**2,
    }[operand]()
    if divergences.has_closed_form(prior):
        terms = divergences.kl_divergence(tfp.distributions.Normal(loc, scale), prior)
    else:
        entropy = 0.5 * np.log(2 * np.pi * np.e) + tf.math.log(scale)
        terms = -entropy - prior.distribution().log_prob(loc + scale * noise)
    keep = 1.0 if mask is None else mask
    outputs = [loc * keep, made * keep, tf.reduce_sum(terms * keep)]
    return outputs[1:] if operand == "draw" else outputs


def _values_and_gradients(function, loc, rho, upstream):
    with tf.GradientTape() as tape:
        tape.watch((loc, rho))
        outputs = list(function(loc, rho))
    return outputs, tape.gradient(outputs, (loc, rho), output_gradients=upstream)


# Compiling takes a second: every operand and every prior with and without a mask, if not together.
CASES = [
    (operand, prior, masked, size)
    for (row, operand), (column, prior), masked, size in itertools.product(
        enumerate(OPERANDS), enumerate(PRIORS), [False, True], SHAPES
    )
    if size == "plain" or masked == bool((row + column) % 2)
]


@pytest.mark.parametrize("operand, prior, masked, size", CASES)
def test_values_and_gradients_are_those_of_the_formulas(operand, prior, masked, size):
    loc, rho, noise, mask = _tensors(SHAPES[size], masked)
    one = Realisation(operand, PRIORS[prior], tuple(loc.shape))
    rng = np.random.default_rng(1)
    upstream = [tf.constant(rng.normal(size=loc.shape), tf.float32) for _ in range(2)]
    upstream = [*(upstream[:1] if operand == "draw" else upstream), tf.constant(0.3)]

    def fast(loc, rho):
        return one(loc, rho, noise, mask, PRIORS[prior].values())

    def plain(loc, rho):
        return _plain(operand, PRIORS[prior], loc, rho, noise, mask)

    values, gradients = _values_and_gradients(fast, loc, rho, upstream)
    expected, expected_gradients = _values_and_gradients(plain, loc, rho, upstream)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5)
    for value, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5)


def test_both_sizes_take_the_way_they_are_named_for(monkeypatch):
    compiled = []
    monkeypatch.setattr(realisation, "compiled", lambda f: compiled.append(f) or f)
    Realisation("draw", PRIORS["normal"], SHAPES["plain"])
    assert not compiled
    Realisation("draw", PRIORS["normal"], SHAPES["compiled"])
    assert len(compiled) == 3


def test_a_large_sum_keeps_its_digits():
    terms = np.random.default_rng(0).normal(3.0, 1.0, (3, 2_000, 500)).astype("float32")
    total = float(realisation._sum(tf.constant(terms)))
    assert total == pytest.approx(np.sum(terms, dtype="float64"), rel=1e-6)


class _NotForXLA(priors.AbstractPrior):
    """A normal prior whose density XLA cannot compile."""

    def distribution(self):
        return tfp.distributions.Normal(0.0, 1.0)

    def log_prob(self, value):
        density = tf.numpy_function(
            lambda w: (-0.5 * w**2 - 0.9189385).astype("float32"), [value], tf.float32
        )
        return tf.ensure_shape(density, value.shape)

    def get_config(self):
        return {}


def test_a_prior_that_xla_cannot_compile_is_not_compiled():
    loc, rho, noise, _ = _tensors(SHAPES["compiled"], masked=False)
    one = Realisation("draw", _NotForXLA(), tuple(loc.shape))
    draw, kl = one(loc, rho, noise, None, [])
    normal = Realisation("draw", priors.Normal(), tuple(loc.shape))
    _, other = normal(loc, rho, noise, None, [0.0, 1.0])
    np.testing.assert_allclose(draw, loc + tf.math.softplus(rho) * noise, rtol=1e-4, atol=1e-6)
    # The same prior, once by Monte Carlo and once in closed form.
    assert float(kl) == pytest.approx(float(other), rel=0.02)


class _Flat(priors.AbstractPrior):
    """An improper prior: density 1 everywhere."""

    distribution = None

    def get_config(self):
        return {}


def test_a_users_closed_form_is_compiled(monkeypatch):
    monkeypatch.setattr(divergences, "_CLOSED_FORMS", dict(divergences._CLOSED_FORMS))

    @divergences.register_closed_form(_Flat)
    def flat(loc, scale, prior):
        return -divergences.normal_entropy(scale)

    loc, rho, _, _ = _tensors(SHAPES["compiled"], masked=False)
    one = Realisation("variance", _Flat(), tuple(loc.shape))
    with tf.GradientTape() as tape:
        tape.watch((loc, rho))
        kl = one(loc, rho, None, None, [])[-1]
    entropy = 0.5 * np.log(2 * np.pi * np.e) + np.log(np.log1p(np.exp(rho)))
    assert float(kl) == pytest.approx(-np.sum(entropy), rel=1e-5)
    of_loc, of_rho = tape.gradient(kl, (loc, rho))
    np.testing.assert_allclose(of_loc, 0.0)
    expected = -tf.sigmoid(rho) / tf.math.softplus(rho)
    np.testing.assert_allclose(of_rho, expected, rtol=1e-4)


@pytest.mark.parametrize("size", SHAPES)
def test_second_derivatives_are_those_of_the_formulas(size):
    loc, rho, noise, _ = _tensors(SHAPES[size], masked=False)
    one = Realisation("draw", PRIORS["normal"], tuple(loc.shape))
    with tf.GradientTape() as outer:
        outer.watch(loc)
        with tf.GradientTape() as inner:
            inner.watch(loc)
            kl = one(loc, rho, noise, None, PRIORS["normal"].values())[-1]
        first = inner.gradient(kl, loc)
    np.testing.assert_allclose(outer.gradient(first, loc), 1 / 0.3**2, rtol=1e-5)


def test_layers_of_one_shape_and_kind_of_prior_share_what_is_compiled():
    share = realisation.realisation
    first = share("draw", priors.Normal(), (3, 4))
    assert share("draw", priors.Normal(scale=2.0), (3, 4)) is first
    tensors = priors.Normal().with_values([0.0, tf.constant(2.0)])
    assert share("draw", tensors, (3, 4)) is first
    others = [priors.Laplace(), priors.StudentT(3.0), priors.StudentT(4.0)]
    laws = [tfp.distributions.Logistic(0.0, s) for s in (1.0, 2.0)]
    laws += [tfp.distributions.Gumbel(0.0, 1.0), tfp.distributions.Logistic([0.0] * 4, 1.0)]
    others += [priors.Distribution(law) for law in laws]
    made = [first, *(share("draw", other, (3, 4)) for other in others)]
    assert [made.index(one) for one in made] == [0, 1, 2, 3, 4, 4, 6, 7]
    assert share("draw", priors.Normal(), (4, 3)) is not first
    assert share("variance", priors.Normal(), (3, 4)) is not first


def test_another_number_needs_no_new_trace():
    loc, rho, noise, _ = _tensors(SHAPES["plain"], masked=False)
    one = Realisation("draw", priors.Normal(), tuple(loc.shape))
    for scale in (0.5, 2.0, 3.0):
        kl = one(loc, rho, noise, None, [0.0, scale])[-1]
        posterior = tfp.distributions.Normal(loc, tf.math.softplus(rho))
        expected = tfp.distributions.kl_divergence(posterior, tfp.distributions.Normal(0.0, scale))
        assert float(kl) == pytest.approx(float(tf.reduce_sum(expected)), rel=1e-5)
    assert len(one._traced) == 1


class _OfPython(priors.Normal):
    """A user's prior, whose formula takes no tensors in the place of its numbers."""

    def log_prob(self, value):
        return -0.5 * tf.square(value / float(self.scale)) - math.log(self.scale)


def test_a_prior_that_names_no_numbers_is_computed_as_it_is():
    loc, rho, noise, _ = _tensors(SHAPES["plain"], masked=False)
    share, shape = realisation.realisation, tuple(loc.shape)
    priors_of_python = [_OfPython(scale=0.5), _OfPython(scale=0.25)]
    made = [share("draw", prior, shape) for prior in priors_of_python]
    assert made[0] is not made[1] and share("draw", _OfPython(scale=0.5), shape) is made[0]
    for one, prior in zip(made, priors_of_python, strict=True):
        draw, kl = one(loc, rho, noise, None, prior.values())
        entropy = 0.5 * np.log(2 * np.pi * np.e) + tf.math.log(tf.math.softplus(rho))
        expected = tf.reduce_sum(-entropy - prior.log_prob(draw))
        assert float(kl) == pytest.approx(float(expected), rel=1e-5)


LEARNT = {
    **PRIORS,
    "logistic": priors.Distribution(tfp.distributions.Logistic(0.1, 0.3)),
    "mixture": priors.Distribution(
        tfp.distributions.MixtureSameFamily(
            tfp.distributions.Categorical(probs=[0.3, 0.7]),
            tfp.distributions.Normal([0.0, 0.1], [1.0, 0.2]),
        )
    ),
}


@pytest.mark.parametrize(
    "name, size", [(name, "plain") for name in LEARNT] + [("normal", "compiled")]
)
def test_gradients_in_the_numbers_of_a_prior(name, size):
    prior = LEARNT[name]
    loc, rho, noise, mask = _tensors(SHAPES[size], masked=True)
    one = Realisation("perturbation", prior, tuple(loc.shape))
    given = [tf.constant(number, tf.float32) for number in prior.values()]

    def kl(numbers):
        return 0.5 * one(loc, rho, noise, mask, numbers)[-1]

    with tf.GradientTape() as tape:
        tape.watch((given, loc, rho))
        value = kl(given)
    of_numbers, *of_law = tape.gradient(value, (given, loc, rho))
    assert float(value) == pytest.approx(float(kl(prior.values())), rel=1e-6)
    with tf.GradientTape() as tape:
        tape.watch((loc, rho))
        value = kl(prior.values())
    for found, expected in zip(of_law, tape.gradient(value, (loc, rho)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for number, slopes in zip(given, of_numbers, strict=True):
        for place in np.ndindex(*number.shape):
            step = np.zeros(number.shape, "float32")
            step[place] = 1e-2 * max(abs(float(number[place])), 0.1)
            above, below = (
                kl([n + sign * step if n is number else n for n in given]) for sign in (1, -1)
            )
            difference = float(above - below) / (2 * step[place])
            # Float32 holds the two values to 1e-6 of their size.
            rounding = 1e-6 * abs(float(value) / float(step[place]))
            assert float(slopes[place]) == pytest.approx(difference, rel=2e-2, abs=rounding)
