"""Rules for sets, intervals and acceptance: against their definitions, row by row."""

import dataclasses

import numpy as np
import pytest

from tfbnn import lite_rules
from tfbnn.lite_rules import Accepted, ClassSet, Interval, YesNoSet


def probabilities_of(rows, classes, seed=0):
    logits = 2 * np.random.default_rng(seed).normal(size=(rows, classes))
    p = np.exp(logits)
    return (p / p.sum(axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("penalty, num_unpenalised", [(0.0, 1), (0.1, 1), (0.05, 2), (0.01, 0)])
def test_scores_of_classes_are_those_of_the_definition(penalty, num_unpenalised):
    p = probabilities_of(40, 6)
    shares = np.random.default_rng(1).random((40, 1), np.float32)
    rule = ClassSet(0.5, penalty, num_unpenalised)
    scores, random = rule.scores(p), rule.scores(p, shares)
    for row in range(40):
        for label in range(6):
            before = p[row] > p[row, label]
            rank = 1 + before.sum()
            expected = p[row, before].sum() + penalty * max(rank - num_unpenalised, 0)
            assert abs(scores[row, label] - expected) < 1e-6
            assert abs(random[row, label] - expected - shares[row, 0] * p[row, label]) < 1e-6
    np.testing.assert_array_equal(rule(p, None), scores <= np.float32(0.5))


def test_a_set_has_the_most_probable_class_and_grows_by_rank():
    p = probabilities_of(50, 5)
    smaller, larger = (ClassSet(t)(p, None) for t in (0.0, 0.7))
    np.testing.assert_array_equal(smaller, p == p.max(axis=-1, keepdims=True))
    assert (larger >= smaller).all()
    least = np.where(larger, p, 2).min(axis=-1)
    most = np.where(larger, -1, p).max(axis=-1)
    assert (least > most).all()


def test_of_classes_that_are_as_probable_the_first_comes_first():
    p = np.full((1, 4), 0.25, np.float32)
    assert ClassSet(0.3)(p, None).tolist() == [[True, True, False, False]]


def test_no_class_is_empty_of_a_penalty():
    p = probabilities_of(5, 3)
    assert not ClassSet(0.05, penalty=0.1, num_unpenalised=0)(p, None).any()


@pytest.mark.parametrize("shape", [(6, 1), (6, 4)])
def test_yes_or_no_are_two_classes(shape):
    yes = np.random.default_rng(0).random(shape, np.float32)
    one = yes[:, 0] if shape[1] == 1 else yes
    as_classes = np.stack([1 - one, one], axis=-1)
    found = YesNoSet(0.6)(yes, None)
    np.testing.assert_array_equal(found, ClassSet(0.6)(as_classes, None))
    labels = (yes > 0.3).astype(int)
    scores = YesNoSet(0.6).of_labels(yes, None, labels)
    assert scores.shape == one.shape
    np.testing.assert_array_equal(
        scores, np.where(labels.reshape(one.shape) == (one > 0.5), 0, np.maximum(one, 1 - one))
    )


def test_an_interval_holds_what_scores_up_to_the_threshold():
    rng = np.random.default_rng(0)
    mean, deviation, labels = rng.normal(size=(3, 100, 2)).astype(np.float32)
    deviation = np.abs(deviation)
    rule = Interval([1.0, 0.5])
    lower, upper = rule(mean, deviation)
    held = (lower <= labels) & (labels <= upper)
    np.testing.assert_array_equal(held, Interval.of_labels(mean, deviation, labels) <= [1.0, 0.5])


def test_no_deviation_is_no_distance_or_all():
    zeros = np.zeros((2, 1), np.float32)
    scores = Interval.of_labels(zeros, zeros, np.array([[0.0], [1.0]]))
    np.testing.assert_array_equal(scores, [[0.0], [np.inf]])


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_accepted(shape):
    uncertainty = np.array([0.1, 0.2, 0.3], np.float32).reshape(shape)
    found = Accepted(float(np.float32(0.2)))(None, uncertainty)
    assert found.tolist() == [True, True, False]


@pytest.mark.parametrize(
    "rule", [ClassSet(0.25, 0.1, 2), YesNoSet(0.5), Interval([0.1, 2.0]), Accepted(0.5)]
)
def test_a_rule_comes_back_from_its_configuration(rule):
    assert lite_rules.rule_of(rule.get_config()) == rule
    assert set(rule.get_config()) == {"rule", *(f.name for f in dataclasses.fields(rule))}


@pytest.mark.parametrize(
    "config",
    [{}, {"rule": "Other"}, {"rule": "Accepted"}, {"rule": "Accepted", "threshold": "a"}, None]
    + [{"rule": "ClassSet", "threshold": 0.5, "penalty": 0.1, "num_unpenalised": "1"}]
    + [{"rule": "Accepted", "threshold": float("nan")}, {"rule": ["Accepted"], "threshold": 1.0}],
)
def test_a_damaged_configuration_is_an_error(config):
    with pytest.raises(ValueError, match="A rule must be one of.*Received: "):
        lite_rules.rule_of(config)
