"""Uncertainties of classes against closed forms, identities and brute force."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from tfbnn.scores import class_uncertainty

CLASSIFICATION = [
    class_uncertainty.predictive_entropy,
    class_uncertainty.expected_entropy,
    class_uncertainty.mutual_information,
    class_uncertainty.variation_ratio,
    class_uncertainty.variance,
]


def draws(seed, shape=(8, 5, 4), concentration=0.5):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(shape[-1], concentration), size=shape[:-1])


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_entropy_of_the_uniform_law_is_log_classes(classes):
    value = class_uncertainty.entropy(np.full((2, classes), 1 / classes))
    np.testing.assert_allclose(value, np.log(classes), rtol=1e-12)


def test_entropy_of_certainty_is_zero_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = class_uncertainty.entropy(np.eye(3))
    assert value.tolist() == [0.0, 0.0, 0.0]
    assert not np.signbit(value).any()


def test_entropy_matches_scipy():
    probabilities = draws(0)
    expected = stats.entropy(probabilities, axis=-1)
    np.testing.assert_allclose(class_uncertainty.entropy(probabilities), expected, rtol=1e-12)


def test_entropy_is_float64_inside():
    probabilities = np.full((1, 7), 1 / 7, np.float32)
    value = class_uncertainty.entropy(probabilities)
    assert value.dtype == np.float64
    expected = -np.sum(probabilities.astype(np.float64) * np.log(probabilities, dtype=np.float64))
    np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_draws_that_disagree_are_epistemic():
    probabilities = [[[1.0, 0.0]], [[0.0, 1.0]]]
    np.testing.assert_allclose(class_uncertainty.predictive_entropy(probabilities), [np.log(2)])
    assert class_uncertainty.expected_entropy(probabilities) == [0.0]
    np.testing.assert_allclose(class_uncertainty.mutual_information(probabilities), [np.log(2)])
    assert class_uncertainty.variation_ratio(probabilities) == [0.5]
    assert class_uncertainty.variance(probabilities).tolist() == [[0.25, 0.25]]


def test_draws_that_agree_are_aleatoric():
    probabilities = np.full((6, 1, 2), 0.5)
    np.testing.assert_allclose(class_uncertainty.predictive_entropy(probabilities), [np.log(2)])
    np.testing.assert_allclose(class_uncertainty.expected_entropy(probabilities), [np.log(2)])
    assert class_uncertainty.mutual_information(probabilities) == [0.0]
    assert class_uncertainty.variation_ratio(probabilities) == [0.0]


def test_variation_ratio_counts_votes():
    votes = np.array([[0, 2], [0, 1], [1, 2], [0, 0], [2, 2]])
    value = class_uncertainty.variation_ratio(0.9 * np.eye(3)[votes] + 0.1 / 3)
    np.testing.assert_allclose(value, [2 / 5, 2 / 5])


def test_variation_ratio_matches_the_mode_by_hand():
    probabilities = draws(3, (16, 50, 6))
    votes = probabilities.argmax(-1)
    expected = [1 - np.bincount(column).max() / 16 for column in votes.T]
    np.testing.assert_allclose(class_uncertainty.variation_ratio(probabilities), expected)


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=4, min_side=2, max_side=5),
        elements=st.floats(-30, 30, width=32),
    )
)
def test_decomposition(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = shifted / shifted.sum(-1, keepdims=True)
    total = class_uncertainty.predictive_entropy(probabilities)
    aleatoric = class_uncertainty.expected_entropy(probabilities)
    epistemic = class_uncertainty.mutual_information(probabilities)
    np.testing.assert_allclose(aleatoric + epistemic, total, atol=1e-5)
    assert (epistemic >= 0).all()
    assert (epistemic <= np.log(len(probabilities)) + 1e-5).all()
    assert (total <= np.log(probabilities.shape[-1]) + 1e-5).all()


@pytest.mark.parametrize("function", CLASSIFICATION, ids=lambda function: function.__name__)
def test_shapes_and_event_axes(function):
    probabilities = draws(1, (4, 5, 2, 3))
    value = function(probabilities)
    assert value.shape == (5, 2, 3) if function is class_uncertainty.variance else (5, 2)
    assert value.dtype == np.float64
    np.testing.assert_array_equal(value[:, 1], function(probabilities[:, :, 1]))


@pytest.mark.parametrize("function", CLASSIFICATION, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.ones((3, 2)) / 2, r"needs 3 axes or more. Received: shape=\(3, 2\)"),
        (np.ones((0, 2, 2)), r"is empty.*Received: shape=\(0, 2, 2\)"),
        (np.full((1, 1, 2), np.nan), "must be finite.*Received: 2 of 2 values"),
        (np.ones((1, 2, 1)), r"as_categorical.*Received: shape=\(1, 2, 1\)"),
        ([[[1.5, -0.5]]], "not be negative.*Received: minimum=-0.5"),
        ([[[0.5, 0.5], [0.5, 0.9]]], "sum to 1.*Received: a sum of 1.4"),
    ],
)
def test_bad_probabilities(function, probabilities, message):
    with pytest.raises(ValueError, match=message):
        function(probabilities)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rounded_probabilities_are_accepted(dtype):
    exact = draws(2, (4, 50, 1000))
    found = class_uncertainty.predictive_entropy(exact.astype(dtype))
    rounding = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, class_uncertainty.predictive_entropy(exact), rtol=rounding)
