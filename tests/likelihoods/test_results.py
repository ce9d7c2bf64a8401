"""Results: the pair, and the rest that a prediction holds."""

import numpy as np
import pytest
from scipy import stats

from tfbnn.likelihoods.class_results import ClassPrediction
from tfbnn.likelihoods.normal import NormalPrediction
from tfbnn.likelihoods.results import Prediction
from tfbnn.likelihoods.table import likelihood_of
from tfbnn.scores import number_uncertainty

CATEGORICAL = likelihood_of("sparse_categorical_crossentropy")
BERNOULLI = likelihood_of("binary_crossentropy")
NORMAL = likelihood_of("normal_nll")
RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.ones(3), size=(6, 5)).astype("float32")
LOC = RNG.normal(size=(6, 5, 2)).astype("float32")
SCALE = RNG.uniform(0.5, 2.0, size=(6, 5, 2)).astype("float32")


def test_classes():
    result = CATEGORICAL.prediction((PROBABILITIES,), keep_samples=True)
    prediction, uncertainty = result
    assert isinstance(result, ClassPrediction) and len(result) == 2
    assert result[0] is prediction and result[1] is result[-1] is uncertainty
    assert [id(part) for part in result[:]] == [id(prediction), id(uncertainty)]
    with pytest.raises(IndexError):
        result[2]
    np.testing.assert_allclose(prediction, PROBABILITIES.mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        uncertainty, stats.entropy(PROBABILITIES.mean(0), axis=-1), rtol=1e-5
    )
    assert result.predictive_entropy is uncertainty
    np.testing.assert_allclose(
        result.expected_entropy, stats.entropy(PROBABILITIES, axis=-1).mean(0), rtol=1e-5
    )
    np.testing.assert_allclose(
        result.mutual_information, uncertainty - result.expected_entropy, atol=1e-6
    )
    assert result.epistemic is result.mutual_information
    assert result.aleatoric is result.expected_entropy
    np.testing.assert_allclose(result.variance, PROBABILITIES.var(0), rtol=1e-5)
    votes = PROBABILITIES.argmax(-1)
    share = [np.bincount(column).max() / 6 for column in votes.T]
    np.testing.assert_allclose(result.variation_ratio, 1 - np.array(share), rtol=1e-6)
    assert result.num_samples == 6


def test_quantiles_of_probabilities():
    result = CATEGORICAL.prediction((PROBABILITIES,), keep_samples=True)
    np.testing.assert_allclose(result.quantile(0.3), np.quantile(PROBABILITIES, 0.3, axis=0))
    low, high = result.credible_interval(0.8)
    np.testing.assert_allclose([low, high], np.quantile(PROBABILITIES, [0.1, 0.9], axis=0))


@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 5, 3), (6, 5, 4, 2)])
def test_yes_or_no_is_the_entropy_of_two_classes(shape):
    yes = RNG.uniform(size=shape).astype("float32")
    result = BERNOULLI.prediction((yes,), keep_samples=False)
    assert result.prediction.shape == result.variance.shape == shape[1:]
    entropy = stats.entropy([yes.mean(0), 1 - yes.mean(0)])
    expected = entropy[..., 0] if shape[-1] == 1 else entropy
    for name in ("uncertainty", "expected_entropy", "mutual_information", "variation_ratio"):
        assert getattr(result, name).shape == expected.shape
    np.testing.assert_allclose(result.uncertainty, expected, rtol=1e-4)


def test_real_numbers():
    result = NORMAL.prediction((LOC, SCALE), keep_samples=True)
    assert isinstance(result, NormalPrediction)
    np.testing.assert_allclose(result.prediction, LOC.mean(0), atol=1e-6)
    np.testing.assert_allclose(result.epistemic, LOC.std(0), rtol=1e-5)
    np.testing.assert_allclose(result.aleatoric, np.sqrt((SCALE**2).mean(0)), rtol=1e-5)
    np.testing.assert_allclose(
        result.variance, result.epistemic**2 + result.aleatoric**2, rtol=1e-5
    )
    np.testing.assert_allclose(result.uncertainty**2, result.variance, rtol=1e-5)
    q = result.quantile(0.9)
    np.testing.assert_allclose(stats.norm.cdf((q - LOC) / SCALE).mean(0), 0.9, rtol=1e-6)
    low, high = result.credible_interval(0.5)
    expected = number_uncertainty.credible_interval(LOC, SCALE, 0.5)
    np.testing.assert_array_equal([low, high], expected)


@pytest.mark.parametrize(
    ("likelihood", "parameters"), [(CATEGORICAL, (PROBABILITIES,)), (NORMAL, (LOC, SCALE))]
)
def test_concatenate(likelihood, parameters):
    mask = np.array([True, False, True, True, False])
    whole = likelihood.prediction(parameters, keep_samples=True, mask=mask)
    parts = [
        likelihood.prediction(tuple(p[:, rows] for p in parameters), True, mask[rows])
        for rows in (slice(0, 2), slice(2, 3), slice(3, 5))
    ]
    joined = Prediction.concatenate(parts)
    assert type(joined) is type(whole) and joined.num_samples == 6
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(getattr(joined, name), value, err_msg=name)


def test_answers_of_several_shapes_are_not_one_array():
    parts = [CATEGORICAL.prediction((p,), False) for p in (PROBABILITIES, PROBABILITIES[:, None])]
    with pytest.raises(ValueError, match=r"pad the sequences.*shapes \[\(3,\), \(5, 3\)\]"):
        Prediction.concatenate(parts)


def test_samples_are_kept_whole_or_not_at_all():
    kept = NORMAL.prediction((LOC, SCALE), keep_samples=True)
    dropped = NORMAL.prediction((LOC, SCALE), keep_samples=False)
    joined = Prediction.concatenate([kept, dropped])
    assert joined.samples is None
    with pytest.raises(ValueError, match="`keep_samples=True`. Received: samples=None"):
        joined.quantile(0.5)


def test_arrays_are_float32_and_the_text_is_short():
    for result in (
        CATEGORICAL.prediction((PROBABILITIES,), True),
        NORMAL.prediction((LOC, SCALE), True),
    ):
        arrays = [value for value in vars(result).values() if isinstance(value, np.ndarray)]
        assert {array.dtype for array in arrays} == {np.dtype("float32")}
        assert "samples=(" not in repr(result) and "num_samples=6" in repr(result)
