"""Factorised variances: what they keep, and that no other product is closer."""

import numpy as np
import pytest

from tfbnn.export.variances import FORMS, factorise


def scales(shape, seed=0, sparsity=0.0):
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.01, 0.2, shape)
    return scale * (rng.uniform(size=shape) >= sparsity)


@pytest.mark.parametrize("shape", [(7, 5), (3, 3, 4, 6), (1, 1), (40, 1), (1, 40)])
@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_rank_one_keeps_the_sums_over_rows_and_columns(shape, sparsity):
    scale = scales(shape, sparsity=sparsity)
    factorised = factorise(scale, "rank_one")
    assert factorised.rows.shape == shape[:-1] and factorised.columns.shape == shape[-1:]
    assert factorised.variance().min() >= 0
    for axes in (-1, tuple(range(len(shape) - 1))):
        expected = np.square(scale).sum(axes)
        np.testing.assert_allclose(factorised.variance().sum(axes), expected, rtol=1e-5)


def divergence(variance, product):
    return np.sum(variance * np.log(variance / product) - variance + product)


def test_no_product_near_by_is_closer():
    variance = np.square(scales((6, 4)))
    factorised = factorise(np.sqrt(variance), "rank_one")
    least = divergence(variance, factorised.variance())
    rng = np.random.default_rng(1)
    for _ in range(50):
        rows = factorised.rows * np.exp(0.1 * rng.normal(size=6))
        columns = factorised.columns * np.exp(0.1 * rng.normal(size=4))
        assert divergence(variance, rows[:, np.newaxis] * columns) > least


def test_a_product_comes_back_as_it_is():
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(0.1, 1, (3, 3, 2)), rng.uniform(0.1, 1, 5)
    variance = rows[..., np.newaxis] * columns
    np.testing.assert_allclose(
        factorise(np.sqrt(variance), "rank_one").variance(), variance, rtol=1e-6
    )


def test_unit_is_the_mean_of_a_column():
    scale = scales((3, 3, 4, 6))
    factorised = factorise(scale, "unit")
    np.testing.assert_array_equal(factorised.rows, 1)
    np.testing.assert_allclose(factorised.columns, np.square(scale).mean((0, 1, 2)), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_pruned_columns_and_whole_kernels_stay_zero(form):
    scale = scales((6, 4))
    scale[:, 1] = 0
    assert not factorise(scale, form).variance()[:, 1].any()
    assert not factorise(np.zeros((6, 4)), form).variance().any()


def test_tiny_scales_do_not_underflow():
    factorised = factorise(scales((6, 4)) * 1e-15, "rank_one")
    np.testing.assert_allclose(
        factorised.variance(), factorise(scales((6, 4)), "rank_one").variance() * 1e-30, rtol=1e-4
    )


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match="`form` must be one of.*form='full'"):
        factorise(scales((3, 2)), "full")


@pytest.mark.parametrize("scale", [np.ones(3), -np.ones((2, 2)), np.full((2, 2), np.nan)])
def test_bad_scales_are_an_error(scale):
    with pytest.raises(ValueError, match="standard deviations of a kernel"):
        factorise(scale, "unit")
