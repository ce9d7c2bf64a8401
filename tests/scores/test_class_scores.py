"""Scores against hand-computed cases, scikit-learn and synthetic data of known calibration."""

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from tfbnn.scores import class_scores, temperature

SCORES = [
    class_scores.negative_log_likelihood,
    class_scores.error,
    class_scores.brier_score,
    class_scores.expected_calibration_error,
]
# Predicted class 0, 0, 1, 0; right, wrong, right, right.
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
LABELS = np.array([0, 1, 1, 0])


def calibrated(seed, num_examples, classes=5, spread=1.5):
    """Logits, and labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.normal(size=(num_examples, classes))
    # Gumbel-max: the argmax of logits plus Gumbel noise is a draw from the softmax.
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(-1)


# Classification


def test_scores_by_hand():
    nll = -np.mean(np.log([0.9, 0.2, 0.7, 0.6]))
    brier = np.mean([2 * 0.1**2, 2 * 0.8**2, 2 * 0.3**2, 2 * 0.4**2])
    assert class_scores.negative_log_likelihood(PROBABILITIES, LABELS) == pytest.approx(nll)
    assert class_scores.error(PROBABILITIES, LABELS) == 0.25
    assert class_scores.brier_score(PROBABILITIES, LABELS) == pytest.approx(brier)


def test_scores_match_scikit_learn():
    logits, labels = calibrated(0, 300)
    probabilities = special.softmax(logits, axis=-1)
    nll = class_scores.negative_log_likelihood(probabilities, labels)
    brier = class_scores.brier_score(probabilities, labels)
    error = class_scores.error(probabilities, labels)
    one_hot = np.eye(5)[labels]
    assert nll == pytest.approx(metrics.log_loss(labels, probabilities))
    assert brier == pytest.approx(5 * metrics.mean_squared_error(one_hot, probabilities))
    assert error == pytest.approx(1 - metrics.accuracy_score(labels, probabilities.argmax(-1)))


def test_binary_brier_is_twice_the_one_class_score():
    one_class = metrics.brier_score_loss(LABELS, PROBABILITIES[:, 1])
    brier = class_scores.brier_score(PROBABILITIES[:, 1:], LABELS)
    assert brier == pytest.approx(2 * one_class)


def test_brier_range():
    assert class_scores.brier_score(np.eye(2), [0, 1]) == 0.0
    assert class_scores.brier_score(np.eye(2), [1, 0]) == 2.0


def test_negative_log_likelihood_of_an_impossible_label_is_finite():
    value = class_scores.negative_log_likelihood([[1.0, 0.0]], [1])
    assert value == pytest.approx(-np.log(np.finfo(np.float32).tiny))


def test_reliability_by_hand():
    bins = class_scores.reliability(PROBABILITIES, LABELS, num_bins=4)
    assert bins.count.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(bins.confidence, [np.nan, np.nan, 0.65, 0.85])
    np.testing.assert_allclose(bins.accuracy, [np.nan, np.nan, 1.0, 0.5])
    value = class_scores.expected_calibration_error(PROBABILITIES, LABELS, num_bins=4)
    assert value == pytest.approx(0.5 * 0.35 + 0.5 * 0.35)


def test_one_bin_compares_the_means():
    value = class_scores.expected_calibration_error(PROBABILITIES, LABELS, num_bins=1)
    assert value == pytest.approx(0.75 - 0.75)


def test_bins_include_their_right_edge():
    bins = class_scores.reliability([[0.5, 0.5], [1.0, 0.0]], [0, 0], num_bins=2)
    assert bins.count.tolist() == [1, 1]


def test_probability_just_above_one_is_in_the_last_bin():
    bins = class_scores.reliability([[1.0 + 1e-7, 0.0]], [0], num_bins=15)
    assert bins.count[-1] == 1


def test_calibrated_predictions_are_within_their_standard_errors():
    logits, labels = calibrated(1, 40_000)
    probabilities = special.softmax(logits, axis=-1)
    bins = class_scores.reliability(probabilities, labels)
    filled = bins.count > 20
    accuracy, count = bins.confidence[filled], bins.count[filled]
    standard_error = np.sqrt(accuracy * (1 - accuracy) / count)
    assert (np.abs(bins.accuracy - bins.confidence)[filled] < 4 * standard_error).all()
    # The bound in the docstring, by which calibrated predictions err on average.
    error = class_scores.expected_calibration_error(probabilities, labels)
    assert error < 2 * 0.4 * np.sqrt(15 / 40_000)


def test_calibration_error_of_a_known_bias():
    # Always 0.9 sure, right 70 times in 100.
    probabilities = np.tile([0.9, 0.1], (100, 1))
    labels = np.repeat([0, 1], [70, 30])
    value = class_scores.expected_calibration_error(probabilities, labels)
    assert value == pytest.approx(0.2)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_event_axes_are_flattened(score):
    logits, labels = calibrated(2, 60)
    probabilities = special.softmax(logits, axis=-1)
    expected = score(probabilities, labels)
    assert score(probabilities, labels[:, None]) == expected
    value = score(probabilities.reshape(10, 3, 2, 5), labels.reshape(10, 3, 2))
    # The likelihood is that of an example, which has six labels here.
    per_example = 6 if score is class_scores.negative_log_likelihood else 1
    assert value == pytest.approx(per_example * expected)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_a_weight_counts_labels(score):
    logits, labels = calibrated(2, 60)
    probabilities = special.softmax(logits, axis=-1)
    weights = np.random.default_rng(0).integers(0, 4, size=60)
    rows = np.repeat(np.arange(60), weights)
    expected = score(probabilities[rows], labels[rows])
    value = score(probabilities, labels, weights=weights)
    # The mean likelihood divides by the number of examples, as the objective does.
    per_example = len(rows) / 60 if score is class_scores.negative_log_likelihood else 1
    assert value == pytest.approx(per_example * expected)


@pytest.mark.parametrize("weights", [[1, 1], [0, 0, 0, 0], [1, -1, 1, 1], [1, np.nan, 1, 1]])
@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_bad_weights(score, weights):
    with pytest.raises(ValueError, match="`weights` must (have a number for each label|be finite)"):
        score(PROBABILITIES, LABELS, weights=weights)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_binary_is_two_classes(score):
    expected = score(PROBABILITIES, LABELS)
    assert score(PROBABILITIES[:, 1:], LABELS) == pytest.approx(expected)
    assert score(PROBABILITIES[:, 1:], LABELS.astype(np.float32)) == pytest.approx(expected)


def test_as_categorical():
    assert class_scores.as_categorical([[0.25]]).tolist() == [[0.75, 0.25]]
    assert class_scores.as_categorical(np.zeros((3, 2, 1))).shape == (3, 2, 2)
    np.testing.assert_array_equal(class_scores.as_categorical(PROBABILITIES), PROBABILITIES)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (PROBABILITIES, [0, 1, 2, 0], r"from 0 to 1.*Received: range=\[0, 2\]"),
        (PROBABILITIES, [0, -1, 0, 0], r"without a label.*Received: range=\[-1, 0\]"),
        (PROBABILITIES, [0, 1], r"Received: labels shape=\(2,\), predictions shape=\(4, 2\)"),
        (PROBABILITIES, np.eye(2)[LABELS], "one-hot.*argmax.*Received: labels shape"),
        (PROBABILITIES, [0, 0.5, 0, 0], "whole numbers. Received: labels="),
        (PROBABILITIES, [0, np.nan, 0, 0], "`labels` must be finite.*Received: 1 of 4"),
        (PROBABILITIES * np.nan, LABELS, "`probabilities` must be finite.*Received: 8 of 8"),
        (np.zeros((0, 2)), [], r"`probabilities` is empty.*Received: shape=\(0, 2\)"),
        (PROBABILITIES[:, 0], LABELS, r"needs 2 axes or more. Received: shape=\(4,\)"),
        (10 * PROBABILITIES, LABELS, "sum to 1.*Received: a sum of 10"),
        ([[3.0]] * 4, LABELS, r"in \[0, 1\]; are these logits.*Received: range=\[3, 3\]"),
    ],
)
def test_bad_data(score, probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        score(probabilities, labels)


@pytest.mark.parametrize("num_bins", [0, -1, 2.5, "many"])
def test_bad_num_bins(num_bins):
    with pytest.raises(ValueError, match="`num_bins` must be a whole number.*Received: num_bins="):
        class_scores.reliability(PROBABILITIES, LABELS, num_bins)


# Temperature


@pytest.mark.parametrize("factor", [0.2, 1.0, 4.0])
def test_temperature_recovers_a_factor(factor):
    logits, labels = calibrated(3, 4_000)
    fitted = temperature.fit_temperature(logits[None] * factor, labels)
    # Fisher information about log(T) at T = 1: the variance of the logits under the softmax.
    probabilities = special.softmax(logits, axis=-1)
    mean = np.sum(probabilities * logits, axis=-1)
    information = np.sum(np.sum(probabilities * logits**2, axis=-1) - mean**2)
    assert abs(np.log(fitted / factor)) < 4 / np.sqrt(information)


def test_temperature_scales_with_the_logits():
    rng = np.random.default_rng(4)
    logits, labels = calibrated(4, 500)
    samples = logits + rng.normal(size=(6, *logits.shape))
    one = temperature.fit_temperature(samples, labels)
    three = temperature.fit_temperature(3 * samples, labels)
    assert three == pytest.approx(3 * one, rel=1e-6)


def test_temperature_minimises_the_monte_carlo_likelihood():
    rng = np.random.default_rng(5)
    logits, labels = calibrated(5, 400)
    samples = 2 * (logits + rng.normal(size=(6, *logits.shape)))

    def loss(temperature):
        mean = special.softmax(samples / temperature, axis=-1).mean(axis=0)
        return class_scores.negative_log_likelihood(mean, labels)

    fitted = temperature.fit_temperature(samples, labels)
    around = [loss(fitted * np.exp(step)) for step in np.linspace(-1, 1, 201)]
    assert np.argmin(around) == 100


def test_temperature_of_binary_logits():
    logits, labels = calibrated(6, 500, classes=2)
    difference = (logits[:, 1] - logits[:, 0])[None, :, None]
    expected = temperature.fit_temperature(logits[None], labels)
    assert temperature.fit_temperature(difference, labels) == pytest.approx(expected, rel=1e-6)


def test_temperature_flattens_event_axes():
    logits, labels = calibrated(7, 200)
    expected = temperature.fit_temperature(logits[None], labels)
    value = temperature.fit_temperature(logits.reshape(1, 20, 10, 5), labels.reshape(20, 10))
    assert value == expected


def test_temperature_of_weighted_labels():
    logits, labels = calibrated(8, 200)
    weights = np.random.default_rng(0).integers(0, 4, size=200)
    rows = np.repeat(np.arange(200), weights)
    expected = temperature.fit_temperature(logits[None, rows], labels[rows])
    assert temperature.fit_temperature(logits[None], labels, weights) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([[[5.0, 0.0], [0.0, 5.0]]], "every answer is right.*Received: best temperature=0.05"),
        ([[[0.0, 5.0], [5.0, 0.0]]], "same order.*Received: best temperature=20"),
        ([[[1.0, 1.0], [1.0, 1.0]]], "No temperature between 0.05 and 20 is best"),
        ([[5.0, 0.0], [0.0, 5.0]], r"`logits` needs 3 axes or more. Received: shape=\(2, 2\)"),
        ([[[np.nan, 0.0], [0.0, 5.0]]], "`logits` must be finite"),
        ([[[5.0, 0.0]]], r"Received: labels shape=\(2,\), predictions shape=\(1, 2\)"),
    ],
)
def test_temperature_without_an_answer(logits, message):
    with pytest.raises(ValueError, match=message):
        temperature.fit_temperature(logits, labels=[0, 1])
