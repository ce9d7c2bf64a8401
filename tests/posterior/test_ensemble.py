"""Ensembles: the order of draws, members that fit, and a mixture of what members say."""

import keras
import numpy as np
import pytest
from scipy import special, stats

import tfbnn
from tests.routes import bayesian, ensemble, noisy, plain
from tfbnn.weights import noise

SEED = noise.as_seed(5)
X = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
Y = np.arange(6) % 3
SCALES = ([0.3, 1.0], [2.0, 0.1])


def numbers():
    return ensemble(*(lambda scale=scale: noisy(scale) for scale in SCALES))


def softmax(logits):
    return special.softmax(np.asarray(logits, np.float64), axis=-1)


def test_plain_members_are_all_there_is():
    members = [plain() for _ in range(3)]
    posterior = tfbnn.posteriors.Ensemble(members)
    assert posterior.num_draws == 3
    found = tfbnn.predict(posterior, X, num_samples=32, keep_samples=True, verbose=0)
    assert found.num_samples == 3
    expected = [softmax(member(X, training=False)) for member in members]
    np.testing.assert_allclose(found.samples[0], expected, atol=1e-6)
    np.testing.assert_allclose(found.prediction, np.mean(expected, axis=0), atol=1e-6)
    entropy = [stats.entropy(one, axis=-1) for one in (np.mean(expected, axis=0), expected)]
    np.testing.assert_allclose(
        found.mutual_information, entropy[0] - np.mean(entropy[1], axis=0), atol=1e-5
    )
    fewer = tfbnn.predict(posterior, X, num_samples=2, verbose=0).prediction
    np.testing.assert_allclose(fewer, np.mean(expected[:2], axis=0), atol=1e-6)


def test_members_take_turns_however_the_series_is_cut():
    posterior = ensemble(plain, bayesian)
    assert posterior.num_draws is None
    whole = posterior.outputs(posterior.draws(SEED, 0, 6), X).numpy()
    parts = [
        posterior.outputs(posterior.draws(SEED, first, count), X).numpy()
        for first, count in ((0, 1), (1, 3), (4, 2))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    first, second = posterior.members
    for number in (0, 2, 4):
        np.testing.assert_allclose(whole[number], first.model(X, training=False), atol=1e-5)
    drawn = second.draws(noise.fold_in(SEED, 1), 0, 3)
    np.testing.assert_allclose(whole[1::2], second.outputs(drawn, X), atol=1e-5)
    one_by_one = [
        posterior.network(values, X) for values in posterior.networks(posterior.draws(SEED, 1, 3))
    ]
    np.testing.assert_allclose(one_by_one, whole[1:4], atol=1e-5)


def test_an_ensemble_of_ensembles():
    inner = ensemble(plain, plain)
    posterior = tfbnn.posteriors.Ensemble([inner, plain()])
    found = tfbnn.predict(posterior, X, num_samples=4, keep_samples=True, seed=0, verbose=0)
    first, second = (softmax(one.model(X, training=False)) for one in inner.members)
    last = softmax(posterior.members[1].model(X, training=False))
    np.testing.assert_allclose(found.samples[0], [first, last, second, last], atol=1e-5)


def test_there_is_no_mean_network():
    assert ensemble(plain, plain).mean() is None


def test_temperatures_of_members_enter():
    warm, cold = bayesian(), bayesian()
    warm.likelihood.temperature, cold.likelihood.temperature = 3.0, 0.5
    posterior = tfbnn.posteriors.Ensemble([warm, cold])
    found = tfbnn.predict(posterior, X, num_samples=4, seed=5, keep_samples=True, verbose=0)
    for index, temperature in enumerate((3.0, 0.5)):
        member = posterior.members[index]
        outputs = member.outputs(member.draws(noise.fold_in(SEED, index), 0, 2), X)
        expected = softmax(outputs / temperature)
        np.testing.assert_allclose(found.samples[0][index::2], expected, atol=1e-5)
    # One of the ensemble's own comes on top, and members keep theirs.
    posterior.likelihoods[0].temperature = 2.0
    found = tfbnn.predict(posterior, X, num_samples=4, seed=5, keep_samples=True, verbose=0)
    np.testing.assert_allclose(found.samples[0][1::2], softmax(outputs / 0.5 / 2), atol=1e-5)
    assert (warm.likelihood.temperature, cold.likelihood.temperature) == (3.0, 0.5)


def drawn_means(posterior, count):
    """What the draws of each member say: `(members, draws, rows, targets)`."""
    return np.asarray(
        [
            member.outputs(member.draws(noise.fold_in(SEED, index), 0, count), X)
            for index, member in enumerate(posterior.members)
        ],
        np.float64,
    )


def test_numbers_are_a_mixture_of_members_with_noise_of_their_own():
    posterior = numbers()
    means = drawn_means(posterior, 3)
    found = tfbnn.predict(posterior, X, num_samples=6, seed=5, verbose=0)
    mean = means.mean(axis=(0, 1))
    noises = np.mean(np.square(SCALES), axis=0)
    spread = means.reshape(6, *mean.shape).var(axis=0)
    np.testing.assert_allclose(found.prediction, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.variance, spread + noises, rtol=1e-4)
    np.testing.assert_allclose(found.epistemic, np.sqrt(spread), rtol=1e-3, atol=1e-5)


def test_members_predictions_give_mean_and_variance():
    """Of members that are one network each: from what `tfbnn.predict` says of each."""
    models = [plain(loss=tfbnn.losses.NormalNLL(scale), outputs=2) for scale in (0.3, 1.0, 2.0)]
    each = [
        tfbnn.predict(tfbnn.posteriors.MAP(model), X, num_samples=1, verbose=0) for model in models
    ]
    found = tfbnn.predict(tfbnn.posteriors.Ensemble(models), X, verbose=0)
    means = np.asarray([one.prediction for one in each], np.float64)
    variances = np.asarray([one.variance for one in each])
    np.testing.assert_allclose(found.prediction, means.mean(axis=0), rtol=1e-4, atol=1e-5)
    # Lakshminarayanan et al. 2017, sec. 2.4.
    total = (variances + np.square(means)).mean(axis=0) - np.square(means.mean(axis=0))
    np.testing.assert_allclose(found.variance, total, rtol=1e-4)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_log_likelihood_is_that_of_the_mixture(kind):
    if kind == "classes":
        posterior, y = ensemble(plain, plain, plain), Y
        logits = [member.model(X, training=False) for member in posterior.members]
        log_prob = np.log(softmax(logits))[:, np.arange(6), Y]
    else:
        posterior, y = numbers(), np.random.default_rng(1).normal(size=(6, 2)).astype("float32")
        scales = np.asarray(SCALES)[:, np.newaxis, np.newaxis]
        means = drawn_means(posterior, 3)
        log_prob = stats.norm(means, scales).logpdf(y).reshape(6, 6, 2)
    mixture = special.logsumexp(log_prob, axis=0) - np.log(len(log_prob))
    found = tfbnn.evaluate(posterior, X, y, num_samples=6, seed=5, verbose=0)
    assert found.nll == pytest.approx(-mixture.reshape(6, -1).sum(-1).mean(), rel=1e-4)


def other(shape=(5,), outputs=3, loss=None):
    model = keras.Sequential([keras.Input(shape), keras.layers.Dense(outputs)])
    model.compile(loss=loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize(
    "member, error, message",
    [
        (lambda: other((4,)), ValueError, "same inputs.*input_shape .*4.* of member 1, and .*5"),
        (lambda: other(outputs=2), ValueError, "same outputs. Received: output_shape .* member 1"),
        (
            lambda: other(loss=tfbnn.losses.NormalNLL(1.0)),
            ValueError,
            r"same kind of targets.*\['Normal'\] of member 1, and \['Categorical'\] of member 0",
        ),
        (lambda: "model", TypeError, "a Keras model or a posterior. Received: models"),
    ],
)
def test_members_that_do_not_fit(member, error, message):
    with pytest.raises(error, match=message):
        tfbnn.posteriors.Ensemble([other(), member()])


def test_one_member_is_none():
    with pytest.raises(ValueError, match="two members or more. Received: models, a list of 1"):
        tfbnn.posteriors.Ensemble([other()])


def test_a_member_without_a_likelihood():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="no likelihood: call `compile"):
        tfbnn.posteriors.Ensemble([other(), model])
