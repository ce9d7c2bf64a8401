"""TFP distributions as priors: stored without code, and refused where they cannot be one."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.weights import priors

tfd = tfp.distributions
tfb = tfp.bijectors


def test_parameters_of_any_precision_are_the_same_prior():
    parameters = [0.1, np.float32(0.1), np.float64(0.1), tf.constant(0.1)]
    config = {"distribution": {"type": "Normal", "parameters": {"loc": 0.0, "scale": 0.1}}}
    for scale in parameters:
        assert priors.Distribution(tfd.Normal(0.0, scale)).get_config() == config


def test_float64_distribution_is_computed_in_float32():
    prior = priors.Distribution(tfd.Normal(np.float64(0.0), np.float64(1.0)))
    log_prob = prior.log_prob(np.float64(1.0))
    assert log_prob.dtype == tf.float32
    assert float(log_prob) == pytest.approx(-0.5 * np.log(2 * np.pi) - 0.5)


def test_distribution_made_and_restored_inside_a_graph():
    config = priors.serialize(priors.Distribution(tfd.Logistic(0.0, 1.0)))

    @tf.function(autograph=False)
    def log_prob(w):
        made = priors.Distribution(tfd.Normal(0.0, 1.0))
        return priors.get(config).log_prob(w), made.log_prob(w)

    logistic, normal = log_prob(tf.constant([0.0]))
    np.testing.assert_allclose(logistic, [-np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(normal, [-0.5 * np.log(2 * np.pi)], rtol=1e-6)


def test_batch_shape_must_broadcast_to_the_weights():
    prior = priors.Distribution(tfd.Normal([0.0, 1.0], 1.0))
    each = -0.5 * np.log(2 * np.pi) - np.array([0.0, 0.5])
    np.testing.assert_allclose(prior.log_prob(tf.zeros((3, 2))), [each] * 3, rtol=1e-6)
    with pytest.raises(ValueError, match=r"must broadcast .* Received: batch_shape=\(2,\)"):
        prior.log_prob(tf.zeros((3, 1)))


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.Gamma(2.0, 1.0),
        tfd.HalfNormal(1.0),
        tfd.Uniform(-1e6, 1e6),
        tfd.TruncatedNormal(0.0, 1.0, -5.0, 5.0),
        tfd.VonMises(0.0, 1.0),
        tfd.Poisson(1.0),
        tfd.Bernoulli(probs=0.5),
        tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), tfd.Gamma([1.0, 2.0], 1.0)),
    ],
    ids=lambda d: d.name,
)
def test_distribution_must_cover_the_real_line(distribution):
    with pytest.raises(ValueError, match="whole real line.* Received: distribution="):
        priors.Distribution(distribution)


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0]),
        tfd.Dirichlet([1.0, 1.0]),
        tfd.Independent(tfd.Normal([0.0, 0.0], 1.0), 1),
        tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 1.0)]),
    ],
    ids=lambda d: d.name,
)
def test_distribution_must_have_scalar_events(distribution):
    with pytest.raises(ValueError, match="scalar events. Received: event_shape="):
        priors.Distribution(distribution)


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(1.0)),
        tfd.Normal(tf.Variable(0.0), 1.0),
        tfd.Normal(tfp.util.TransformedVariable(1.0, tfb.Softplus()), 1.0),
    ],
    ids=["bijector", "variable", "transformed_variable"],
)
def test_distribution_parameters_are_numbers(distribution):
    with pytest.raises(ValueError, match="stored without code. Received: "):
        priors.Distribution(distribution)


def test_callable_parameter_is_refused():
    distribution = tfd.TransformedDistribution(
        tfd.Normal(0.0, 1.0), tfb.Identity(), kwargs_split_fn=lambda kwargs: (kwargs, {})
    )
    with pytest.raises(ValueError, match="stored without code. Received: "):
        priors.Distribution(distribution)


def test_parameters_must_be_finite():
    with pytest.raises(ValueError, match="`loc` must be real and finite. Received: loc=nan"):
        priors.Distribution(tfd.Normal(float("nan"), 1.0))


def same_family(**parameters):
    two = {name: [value, value] for name, value in parameters.items()}
    return tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), tfd.StudentT(3.0, **two))


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.Normal(0.0, -1.0),
        tfd.Normal(0.0, 0.0),
        tfd.Normal([0.0, 0.0], [1.0, -1.0]),
        # TFP takes the absolute value in silence, also where it is told to check.
        tfd.StudentT(3.0, 0.0, -1.0),
        tfd.SinhArcsinh(0.0, -1.0),
        same_family(loc=0.0, scale=-1.0),
        tfd.Mixture(
            tfd.Categorical(probs=[0.5, 0.5]), [tfd.Normal(0.0, 1.0), tfd.StudentT(3.0, 0.0, -1.0)]
        ),
        # A finite density, of no law.
        tfd.JohnsonSU(0.0, -1.0, 0.0, 1.0),
        tfd.ExponentiallyModifiedGaussian(0.0, -1.0, 1.0),
        tfd.GeneralizedNormal(0.0, 1.0, -2.0),
        tfd.MixtureSameFamily(
            tfd.Categorical(probs=[0.5, 0.9]), tfd.Normal([0.0, 0.0], [1.0, 1.0])
        ),
        tfd.NormalInverseGaussian(0.0, 1.0, 1.0, -2.0),
    ],
    ids=lambda d: d.name,
)
def test_parameters_must_make_a_law(distribution):
    with pytest.raises(
        ValueError, match="(?s)(parameters with which|must be positive).*Received: "
    ):
        priors.Distribution(distribution)


@pytest.mark.parametrize(
    "distribution",
    [tfd.Normal(0.0, 1e-30), tfd.Gumbel(0.0, 1e-3)],
    ids=lambda d: d.name,
)
def test_a_density_that_overflows_is_refused(distribution):
    with pytest.raises(ValueError, match="from -10 to 10: .* Received: distribution="):
        priors.Distribution(distribution)


def test_own_distribution_class_is_refused():
    class Own(tfd.Normal):
        pass

    with pytest.raises(ValueError, match="Only classes of `tfp.distributions`.*Received: "):
        priors.Distribution(Own(0.0, 1.0))


def test_not_a_distribution():
    with pytest.raises(ValueError, match="instance of .* Received: distribution=3"):
        priors.Distribution(3)


def test_unknown_type_in_a_config():
    with pytest.raises(ValueError, match="no such distribution. Received: type='Nope'"):
        priors.Distribution.from_config({"distribution": {"type": "Nope", "parameters": {}}})
