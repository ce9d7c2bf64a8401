import keras_tuner
import pytest

from tfbnn import search
from tfbnn.search.space import choose, choose_prior
from tfbnn.weights import priors


def test_a_range_is_sampled_within_its_limits():
    hp = keras_tuner.HyperParameters()
    assert choose(hp, "a", search.Range(0.01, 1.0)) == pytest.approx(0.1)
    assert choose(hp, "b", search.Range(-1.0, 3.0, log=False)) == 1.0
    draws = [hp.space[0].random_sample(seed) for seed in range(200)]
    assert min(draws) >= 0.01 and max(draws) <= 1
    # Each factor is equally likely: half of the draws are below the geometric mean.
    assert sum(draw < 0.1 for draw in draws) == pytest.approx(100, abs=4 * 50**0.5)


def test_one_value_is_fixed_and_several_are_a_choice():
    hp = keras_tuner.HyperParameters()
    assert choose(hp, "a", (3,)) == 3
    assert choose(hp, "b", (3, 4)) == 3
    assert [type(one).__name__ for one in hp.space] == ["Fixed", "Choice"]


def test_the_arguments_of_a_prior_exist_only_with_it():
    space = search.Space()
    hp = keras_tuner.HyperParameters()
    hp.values = {"prior": "scale_mixture", "scale_mixture_pi": 0.25}
    prior = choose_prior(hp, space.priors)
    assert isinstance(prior, priors.ScaleMixture)
    assert prior.pi == 0.25
    assert prior.sigma2 == pytest.approx(hp["scale_mixture_sigma2"])
    assert "normal_scale" not in hp
    assert hp.is_active("scale_mixture_sigma1") and not hp.is_active("laplace_scale")


@pytest.mark.parametrize("name", sorted(priors.PRIORS))
def test_every_prior_can_be_searched(name):
    hp = keras_tuner.HyperParameters()
    assert choose_prior(hp, {name: {}}) == priors.get(name)


@pytest.mark.parametrize("low, high, log", [(1, 1, False), (0, 1, True), (2, 1, True)])
def test_an_empty_range_is_an_error(low, high, log):
    with pytest.raises(
        ValueError, match=f"A range goes from .* Received: low={low}.*, high={high}"
    ):
        search.Range(low, high, log)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimators": ("flipout",)}, r"`estimators` must be some of \['Flipout', .*=\('flipout"),
        ({"priors": {"gauss": {}}}, "`priors` must be some of .*'scale_mixture'.* Received"),
        ({"priors": {}}, "`priors` must be some of"),
        ({"widths": ()}, r"`widths` must be a `Range` or a tuple .* widths=\(\)"),
        ({"recipes": ("sparce",)}, r"`recipes` must be some of \['calibrated', .*=\('sparce"),
        ({"warm_up": (2.0,)}, "`warm_up"),
        ({"beta": 1.0}, r"`beta` must be .* Received: beta=1\.0"),
        ({"priors": {"normal": {"scale": [1.0]}}}, r"`priors\['normal'\]\['scale'\]` must be"),
    ],
)
def test_bad_spaces_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        search.Space(**options)


def test_by_default_the_objective_is_the_elbo():
    assert search.Space().recipes == ("elbo",) and search.Space().beta is None
