"""Coverage over random splits, every route and kind of answer, what is refused."""

import keras
import numpy as np
import pytest

import tfbnn
from tests.prediction.test_labelled import LOSSES, kernel_of, make_model
from tfbnn.decisions.answers import LabelledAnswers
from tfbnn.decisions.conformal import fitted, untried
from tfbnn.likelihoods.categorical import Categorical
from tfbnn.likelihoods.normal import Normal

SPLITS, ROWS, TESTED = 200, 100, 400


def at_least(found, nominal):
    """Mean coverage is at least nominal minus two standard errors."""
    return np.mean(found) >= nominal - 2 * np.std(found, ddof=1) / np.sqrt(len(found))


def at_most(found, nominal):
    return np.mean(found) <= nominal + 2 * np.std(found, ddof=1) / np.sqrt(len(found))


def overconfident(rng, rows, classes=8):
    """Probabilities three times as sure as they should be, and labels."""
    logits = 1.5 * rng.normal(size=(rows, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    p = np.exp(3 * logits)
    return (p / p.sum(axis=-1, keepdims=True)).astype(np.float32), labels


def coverages(settings, randomised, coverage):
    """The coverage of each split, and how much its sets differ in size."""
    found = []
    for seed in range(SPLITS):
        rng = np.random.default_rng(seed)
        p, labels = overconfident(rng, ROWS + TESTED)
        rule = untried(Categorical.region_type, *settings, randomised)
        answers = LabelledAnswers(Categorical, p[:ROWS], p[:ROWS, 0], labels[:ROWS])
        rule = fitted(rule, answers, coverage, rng if randomised else None)
        shares = rng.random((TESTED, 1), np.float32) if randomised else None
        sets = rule.holds(rule.scores(p[ROWS:], shares))
        held = np.take_along_axis(sets, labels[ROWS:, np.newaxis], axis=-1)
        found.append((held.mean(), sets.sum(axis=-1).std()))
    return np.transpose(found)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("settings", [(0.0, 1), (0.05, 2)], ids=["adaptive", "regularised"])
def test_sets_cover_what_is_asked_over_random_splits(settings, coverage):
    plain, random = (coverages(settings, randomised, coverage) for randomised in (False, True))
    assert at_least(plain[0], coverage) and at_least(random[0], coverage)
    assert at_most(random[0], coverage + 1 / (ROWS + 1))


def test_a_penalty_makes_sets_even_in_size():
    plain, penalised = (coverages(one, False, 0.9)[1] for one in ((0.0, 1), (0.2, 2)))
    assert (penalised < plain).mean() > 0.99


@pytest.mark.parametrize("targets", [1, 3])
def test_intervals_cover_what_is_asked_over_random_splits(targets):
    found = []
    for seed in range(SPLITS):
        rng = np.random.default_rng(seed)
        deviation = rng.uniform(0.5, 2, size=(ROWS + TESTED, targets)).astype(np.float32)
        mean = rng.normal(size=deviation.shape).astype(np.float32)
        # Four times the noise that the model says, and heavy tails.
        labels = mean + 4 * deviation * rng.standard_t(3, size=mean.shape)
        answers = LabelledAnswers(Normal, mean[:ROWS], deviation[:ROWS], labels[:ROWS])
        rule = fitted(untried(Normal.region_type, 0.0, 1), answers, 0.9)
        lower, upper = rule(mean[ROWS:], deviation[ROWS:])
        assert np.shape(rule.threshold) == (targets,)
        found.append(np.mean((lower <= labels[ROWS:]) & (labels[ROWS:] <= upper), axis=0))
    for place in np.transpose(found):
        assert at_least(place, 0.9) and at_most(place, 0.9 + 1 / (ROWS + 1))


def labelled(name, rows, steps=0, seed=0):
    """Inputs, and targets that the model of `make_model` would not find surprising."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, steps, 3) if steps else (rows, 3)).astype(np.float32)
    outputs = x @ kernel_of(LOSSES[name][1])
    if name in ("classes", "probabilities"):
        return x, outputs.argmax(axis=-1)
    if name == "one-hot":
        return x, np.eye(3)[outputs.argmax(axis=-1)]
    if "yes" in name:
        return x, (outputs > 0).astype(int)
    if name == "counts":
        return x, rng.poisson(3.0, size=outputs.shape)
    return x, outputs[..., :2]


@pytest.mark.parametrize("name", LOSSES)
def test_every_likelihood_has_its_region(name):
    x, y = labelled(name, 60)
    found = tfbnn.conformal(make_model(name, 0, 0.1), x, y, 0.8, num_samples=4, seed=0)
    answer = found.predict(x)
    rows = {"classes": 3, "probabilities": 3, "one-hot": 3, "yes or no": 2}
    if name in rows:
        assert answer.region.shape == (60, rows[name]) and answer.region.dtype == bool
    elif name == "several yes or no":
        assert answer.region.shape == (60, 2, 2)
    else:
        lower, upper = answer.region
        assert lower.shape == y.shape
        held = np.mean((lower <= y) & (y <= upper), axis=0)
        np.testing.assert_array_less(0.79, held)
    assert found.num_rows == 60 and found.coverage == 0.8


def test_the_same_networks_answer_later():
    x, y = labelled("classes", 60)
    found = tfbnn.conformal(make_model("classes", 0, 0.5), x, y, num_samples=3)
    for _ in range(2):
        one, other = found.predict(x[:7]), found.predict(x)
        np.testing.assert_array_equal(one.region, other.region[:7])
    scores = found.rule.of_labels(*other[:2], y)
    # ceil(61 * 0.9) = 55
    assert found.threshold == np.sort(scores)[54]


def test_a_data_set_and_a_posterior_will_do():
    import tensorflow as tf

    x, y = labelled("classes", 60)
    model = make_model("classes", 0, 0.1)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
    settings = {"num_samples": 3, "seed": 1, "coverage": 0.8}
    found = tfbnn.conformal(model, data, **settings)
    ensemble = tfbnn.posteriors.Ensemble([model, make_model("classes", 0, 0.1)])
    other = tfbnn.conformal(ensemble, x, y, **settings)
    assert found.threshold == tfbnn.conformal(model, x, y, **settings).threshold
    assert other.predict(x).region.shape == (60, 3)
    model.likelihood.take_temperatures(model.likelihood.at(2.0))
    with pytest.raises(ValueError, match="the network has changed since"):
        other.predict(x)


def test_randomised_sets_repeat_with_a_seed():
    x, y = labelled("classes", 60)
    found = tfbnn.conformal(make_model("classes", 0, 0.1), x, y, randomised=True, num_samples=3)
    one, same, other = (found.predict(x, seed=seed).region for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_another_prior_of_laplace_is_another_network():
    x, y = labelled("classes", 60)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(3)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    posterior = tfbnn.posteriors.Laplace(model, x, y, prior_precision=1.0, verbose=0)
    found = tfbnn.conformal(posterior, x, y, num_samples=2)
    found.predict(x)
    posterior.prior_precisions = [100.0]
    with pytest.raises(ValueError, match="the network has changed since.*another prior"):
        found.predict(x)


def test_a_network_that_has_changed_is_an_error():
    x, y = labelled("classes", 60)
    model = make_model("classes", 0, 0.1)
    found = tfbnn.conformal(model, x, y, num_samples=2)
    tfbnn.calibrate(model, x, (y + (np.arange(60) % 6 == 0)) % 3, num_samples=2, seed=0, of="draws")
    with pytest.raises(ValueError, match="the network has changed since.*Received: model="):
        found.predict(x)
    found = tfbnn.conformal(model, x, y, num_samples=2)
    kernel = model.layers[0].kernel.loc_variable
    kernel.assign(kernel + 1e-3)
    with pytest.raises(ValueError, match="the network has changed since"):
        found.predict(x)


@pytest.mark.filterwarnings("ignore:Sigma never left its start")
def test_rows_that_were_trained_on_are_warned_of():
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(3)])
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = labelled("classes", 60)
    model.fit(x, y, verbose=0)
    with pytest.warns(UserWarning, match="60 of the 60 rows that the model has kept from `fit`"):
        tfbnn.conformal(model, x, y, num_samples=1)
    tfbnn.conformal(model, *labelled("classes", 60, seed=1), num_samples=1)


SETTINGS = [
    ({"coverage": 1.0}, "`coverage` must be a number strictly between 0 and 1.*coverage=1.0"),
    ({"coverage": 0.99}, "A coverage of 0.99 needs 99 labelled rows.*Received: 60 rows"),
    ({"penalty": -1.0}, "`penalty` must be a number between 0 and 1"),
    ({"num_unpenalised": -1}, "`num_unpenalised` must be a whole number, at least 0"),
    ({"randomised": 1}, "`randomised` must be True or False"),
    ({"y": None}, "There are no targets"),
]


@pytest.mark.parametrize("settings, message", SETTINGS)
def test_bad_arguments(settings, message):
    x, y = labelled("classes", 60)
    with pytest.raises(ValueError, match=message):
        tfbnn.conformal(make_model("classes", 0, 0.1), **{"x": x, "y": y, **settings})


@pytest.mark.parametrize("name, value", [("penalty", 0.1), ("randomised", True)])
def test_intervals_have_no_settings_of_sets(name, value):
    x, y = labelled("normal", 60)
    with pytest.raises(ValueError, match=f"are for sets of classes.*{name}={value}"):
        tfbnn.conformal(make_model("normal", 0, 0.1), x, y, **{name: value})


def test_masked_steps_are_refused():
    x, y = labelled("classes", 60, steps=4)
    found = tfbnn.conformal(make_model("classes", 4, 0.1), x, y, num_samples=2)
    assert np.shape(found.threshold) == (4,) and found.predict(x).region.shape == (60, 4, 3)
    x[3, 2:] = 0
    with pytest.raises(ValueError, match="Every label has to count once.*from 0 to 1"):
        tfbnn.conformal(make_model("classes", 4, 0.1), x, y, num_samples=2)
