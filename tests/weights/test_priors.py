import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import tfbnn
from tfbnn.weights import priors

tfd = tfp.distributions


def mixture(*scales):
    weights = [1.0 / len(scales)] * len(scales)
    return tfd.MixtureSameFamily(
        tfd.Categorical(probs=weights), tfd.Normal([0.0] * len(scales), scales)
    )


DISTRIBUTIONS = [
    tfd.Normal(0.5, 2.0),
    tfd.Logistic(loc=np.float32(0.1), scale=tf.constant(0.3)),
    tfd.Gumbel(0.0, 1.0),
    tfd.StudentT(df=3, loc=0, scale=1),
    tfd.JohnsonSU(0.5, 1.0, 0.0, 2.0),
    mixture(1.0, 0.1, 0.01),
    tfd.MixtureSameFamily(tfd.Categorical(logits=[0.0, 1.0]), tfd.Laplace([0.0, 1.0], [1.0, 2.0])),
    tfd.Mixture(tfd.Categorical(probs=[0.2, 0.8]), [tfd.Normal(0.0, 1.0), tfd.Cauchy(0.0, 0.1)]),
]
# What the weights of a layer have for a prior: `FanIn` is a normal one there.
LAWS = [
    *(
        cls().at_fan_in(40)
        for cls in priors.PRIORS.values()
        if cls is not priors.AutomaticRelevance
    ),
    priors.Normal(0.25, 0.1),
    priors.ScaleMixture(0.25, 1.5, 0.01),
    priors.ScaleMixture(0.25, 0.01, 1.5),
    priors.ScaleMixture(0.5, 1.0, 1.0),
    priors.Laplace(-0.5, 0.2),
    priors.StudentT(4.5, 0.5, 0.1),
    priors.Cauchy(-0.5, 0.3),
    *(priors.Distribution(distribution) for distribution in DISTRIBUTIONS),
]
# And those that are configuration, but no law by themselves.
EXAMPLES = [
    *LAWS,
    priors.FanIn(3.0, smallest_scale=0.2),
    priors.AutomaticRelevance(),
    priors.AutomaticRelevance(0.1),
]


def each_of(examples):
    ids = [f"{type(prior).__name__}-{index}" for index, prior in enumerate(examples)]
    return pytest.mark.parametrize("prior", examples, ids=ids)


each_law, each_prior = each_of(LAWS), each_of(EXAMPLES)


def config_round_trip(prior):
    return json.loads(json.dumps(priors.serialize(prior)))


@each_law
def test_log_prob_is_that_of_the_distribution(prior):
    # Gumbel's density is zero in float32 below -88: stay within what every law can represent.
    w = np.linspace(-5.0, 5.0, 1001, dtype=np.float32).reshape(7, 11, 13)
    log_prob = prior.log_prob(w)
    assert log_prob.shape == w.shape
    assert log_prob.dtype == tf.float32
    assert prior.distribution().dtype == tf.float32
    np.testing.assert_allclose(log_prob, prior.distribution().log_prob(w), rtol=1e-5, atol=1e-5)


@each_law
def test_density_integrates_to_one(prior):
    near = np.geomspace(1e-7, 1e7, 40001)
    w = np.concatenate([-near[::-1], near])
    density = np.exp(prior.log_prob(w).numpy().astype(np.float64))
    np.testing.assert_allclose(np.trapezoid(density, w), 1.0, atol=2e-3)


@each_law
def test_log_prob_takes_half_precision_and_integers(prior):
    assert prior.log_prob(tf.constant([1.0], tf.float16)).dtype == tf.float32
    np.testing.assert_allclose(prior.log_prob([1]), prior.log_prob([1.0]))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("sigma2", [1.0, 0.0025, 1e-6])
def test_scale_mixture_is_finite_everywhere(sigma2, jit_compile):
    @tf.function(jit_compile=jit_compile, autograph=False)
    def value_and_gradient(w):
        with tf.GradientTape() as tape:
            tape.watch(w)
            log_prob = priors.ScaleMixture(sigma2=sigma2).log_prob(w)
        return log_prob, tape.gradient(log_prob, w)

    w = np.concatenate([[0.0], np.geomspace(1e-30, 1e4, 200)]).astype(np.float32)
    w = np.concatenate([-w, w])
    log_prob, gradient = value_and_gradient(tf.constant(w))
    prior, exact = priors.ScaleMixture(sigma2=sigma2), w.astype(np.float64)
    scales = np.array([[prior.sigma1], [sigma2]])
    shares = np.array([[prior.pi], [1 - prior.pi]])
    parts = np.log(shares) + stats.norm.logpdf(exact, scale=scales)
    expected = np.logaddexp(*parts)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-4)
    slope = -np.sum(np.exp(parts - expected) * exact / scales**2, axis=0)
    # What is left of the narrow part is the exponential of a difference of large numbers.
    np.testing.assert_allclose(gradient, slope, rtol=5e-3, atol=1e-30)


def test_scale_mixture_against_float64():
    w = np.concatenate([[0.0], np.geomspace(1e-8, 1e4, 500)])
    wide = tfd.Normal(np.float64(0.0), 1.0).log_prob(w) + np.log(0.25)
    narrow = tfd.Normal(np.float64(0.0), 0.0025).log_prob(w) + np.log(0.75)
    log_prob = priors.ScaleMixture(0.25, 1.0, 0.0025).log_prob(w)
    np.testing.assert_allclose(log_prob, np.logaddexp(wide, narrow), rtol=1e-6, atol=1e-6)


def test_scale_mixture_gradient_against_float64():
    w = np.concatenate([[0.0], np.geomspace(1e-8, 1e4, 500)]).astype(np.float32)
    components = np.stack(
        [tfd.Normal(np.float64(0.0), s).prob(w.astype(np.float64)) for s in (1.0, 0.0025)]
    )
    with np.errstate(invalid="ignore"):
        share = np.nan_to_num(components[1] / components.sum(0))
    x = tf.constant(w)
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_prob = priors.ScaleMixture().log_prob(x)
    expected = -w.astype(np.float64) * ((1 - share) + share / 0.0025**2)
    np.testing.assert_allclose(tape.gradient(log_prob, x), expected, rtol=2e-5, atol=1e-12)


@each_prior
def test_config_round_trip(prior):
    again = keras.saving.deserialize_keras_object(config_round_trip(prior))
    assert type(again) is type(prior)
    assert again == prior
    assert hash(again) == hash(prior)


@each_law
def test_log_prob_after_a_config_round_trip(prior):
    again = keras.saving.deserialize_keras_object(config_round_trip(prior))
    np.testing.assert_array_equal(again.log_prob([-1.0, 0.5]), prior.log_prob([-1.0, 0.5]))


@each_prior
def test_get_and_from_config(prior):
    assert priors.get(prior) is prior
    assert priors.get(config_round_trip(prior)) == prior
    assert type(prior).from_config(prior.get_config()) == prior


@pytest.mark.parametrize("name", priors.PRIORS)
def test_get_by_name(name):
    assert priors.get(name) == priors.PRIORS[name]()


def test_get_short_config():
    assert priors.get({"class_name": "Laplace", "config": {"scale": 2.0}}) == priors.Laplace(0, 2)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda d: d.name)
def test_get_distribution(distribution):
    prior = priors.get(distribution)
    assert isinstance(prior, priors.Distribution)
    w = tf.constant([-1.0, 0.0, 2.0])
    expected = distribution.log_prob(tf.cast(w, distribution.dtype))
    np.testing.assert_allclose(prior.log_prob(w), expected, rtol=1e-6)


def test_equality_is_by_config():
    assert priors.Normal(0, 1) == priors.Normal(0.0, 1.0)
    assert priors.Normal(0.0, 1.0) != priors.Normal(0.0, 2.0)
    assert priors.Normal(0.0, 1.0) != priors.Laplace(0.0, 1.0)
    assert len({priors.Normal(), priors.Normal(), priors.Cauchy()}) == 2


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), 1e-50, 9e-13, 1.1e12, "1"])
@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (priors.Normal, "scale"),
        (priors.ScaleMixture, "sigma1"),
        (priors.ScaleMixture, "sigma2"),
        (priors.Laplace, "scale"),
        (priors.StudentT, "scale"),
        (priors.Cauchy, "scale"),
        (priors.AutomaticRelevance, "smallest_scale"),
        (priors.AutomaticRelevance, "largest_scale"),
    ],
)
def test_scales_are_those_that_float32_can_square(cls, name, bad):
    message = f"`{name}` must be a number between 1e-12 and 1e\\+12. Received: {name}={bad!r}$"
    with pytest.raises(ValueError, match=message):
        cls(**{name: bad})


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), 1e-50])
def test_degrees_of_freedom_are_positive(bad):
    with pytest.raises(ValueError, match=f"`df` must be a number between .* Received: df={bad}$"):
        priors.StudentT(df=bad)


@pytest.mark.parametrize("bad", [float("nan"), 1.1e6, -1.1e6])
@pytest.mark.parametrize("cls", [priors.Normal, priors.Laplace, priors.StudentT, priors.Cauchy])
def test_loc_is_no_further_out_than_a_weight(cls, bad):
    with pytest.raises(ValueError, match=f"`loc` must be a number between .* Received: loc={bad}$"):
        cls(loc=bad)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.5, float("nan")])
def test_pi_is_strictly_between_0_and_1(bad):
    with pytest.raises(ValueError, match=f"strictly between 0 and 1. Received: pi={bad}$"):
        priors.ScaleMixture(pi=bad)


def test_the_scale_of_fan_in_is_known_when_a_layer_is_built():
    assert priors.FanIn(10.0).at_fan_in(40) == priors.Normal(scale=0.5)
    assert priors.FanIn(10.0, smallest_scale=0.7).at_fan_in(40) == priors.Normal(scale=0.7)
    layer = tfbnn.layers.Convolution2DFlipout(5, 3, kernel_prior="fan_in", bias_posterior="normal")
    layer.build((None, 8, 8, 2))
    assert layer.kernel.prior == priors.Normal(scale=(10 / 18) ** 0.5)
    assert layer.bias.prior == layer.kernel.prior
    wide = tfbnn.layers.DenseFlipout(5, kernel_prior="fan_in", bias_posterior="normal")
    wide.build((None, 1000))
    assert wide.kernel.prior == priors.Normal(scale=0.1)
    # Of a bias it does not get as narrow.
    assert wide.bias.prior == priors.Normal(scale=0.3)
    again = type(wide).from_config(wide.get_config())
    assert (
        again.kernel_prior == wide.kernel_prior == priors.FanIn()
        and again.bias_prior == wide.bias_prior
    )
    with pytest.raises(ValueError, match=r"known when a layer is built.*Received: FanIn"):
        wide.kernel_prior.log_prob(0.0)


def test_automatic_relevance_is_known_when_a_layer_is_built():
    assert priors.AutomaticRelevance() == priors.AutomaticRelevance("fan_in")
    at_30 = priors.AutomaticRelevance().at_fan_in(30)
    assert at_30 == priors.AutomaticRelevance(smallest_scale=(0.3 / 30) ** 0.5, largest_scale=1.0)
    assert at_30.at_fan_in(1000) == at_30
    # What was asked for is what there is.
    assert priors.AutomaticRelevance(0.7).at_fan_in(3000).largest_scale == 0.7
    assert priors.AutomaticRelevance(largest_scale=1e-3).at_fan_in(3).smallest_scale == 1e-3
    with pytest.raises(ValueError, match="must not be above.*smallest_scale=2.0, largest_scale=1"):
        priors.AutomaticRelevance(2.0, 1.0)
    layer = tfbnn.layers.Convolution2DFlipout(5, 3, kernel_prior="automatic_relevance")
    layer.build((None, 8, 8, 2))
    assert layer.kernel.prior == priors.AutomaticRelevance((0.3 / 18) ** 0.5, (30 / 18) ** 0.5)
    again = type(layer).from_config(layer.get_config())
    assert again.kernel_prior == layer.kernel_prior == priors.AutomaticRelevance()


@pytest.mark.parametrize("fan_in", [2, 1000])
@pytest.mark.parametrize("prior", [priors.AutomaticRelevance(), priors.Normal(scale=0.02)])
def test_biases_have_a_prior_of_their_own(fan_in, prior):
    layer = tfbnn.layers.DenseFlipout(5, kernel_prior=prior)
    layer.build((None, fan_in))
    assert layer.bias_prior == priors.OF_BIASES
    assert layer.bias.prior == priors.Normal(scale=max((10 / fan_in) ** 0.5, 0.3))
    assert type(layer).from_config(layer.get_config()).bias_prior == layer.bias_prior
    given = tfbnn.layers.DenseFlipout(5, kernel_prior=prior, bias_prior=prior)
    given.build((None, fan_in))
    assert given.bias_prior == prior and given.bias.prior == prior.at_fan_in(fan_in)


@pytest.mark.parametrize("prior", [priors.AutomaticRelevance(), priors.AutomaticRelevance(0.1)])
def test_automatic_relevance_is_no_law_by_itself(prior):
    for ask in (prior.distribution, lambda: prior.log_prob(0.0)):
        with pytest.raises(ValueError, match="no law by itself.*FanIn.*Received: AutomaticRel"):
            ask()


@pytest.mark.parametrize("bad", ["fan_out", None, [0.1]])
def test_the_smallest_scale_is_a_number_or_fan_in(bad):
    with pytest.raises(ValueError, match="'fan_in' or .* Received: smallest_scale="):
        priors.AutomaticRelevance(smallest_scale=bad)


@pytest.mark.parametrize("bad", ["gaussian", None, 3, "Normal"])
def test_get_lists_the_known_names(bad):
    with pytest.raises(
        ValueError, match=r"\['automatic_relevance', 'cauchy', 'fan_in'.*Received: identifier"
    ):
        priors.get(bad)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"a": 1},
        {"class_name": "Nope", "config": {}},
        {"class_name": "Normal", "config": {"width": 1.0}},
        keras.saving.serialize_keras_object(keras.initializers.Zeros()),
    ],
)
def test_get_refuses_other_configs(config):
    with pytest.raises(ValueError, match="(?s)^`identifier`.* Received: "):
        priors.get(config)
