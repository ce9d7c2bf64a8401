"""Encodings of kernels come back as they were."""

import numpy as np
import pytest

from tfbnn.export.c_source import weights


def kernel(shape, sparsity, seed=0):
    rng = np.random.default_rng(seed)
    kept = rng.uniform(size=shape) >= sparsity
    loc = rng.normal(size=shape).astype(np.float32) * kept
    return loc, rng.uniform(0.01, 0.1, shape).astype(np.float32) * kept


def decoded(encoded, values):
    """Values in the shape `(inputs, units)`."""
    rows, units = encoded.groups * encoded.inputs, encoded.units // encoded.groups
    if encoded.gaps is None:
        dense = values.reshape(rows, units)
    else:
        dense = np.zeros((rows, units), values.dtype)
        start = 0
        for row, count in enumerate(encoded.counts.tolist()):
            if row % encoded.inputs == 0:
                assert encoded.entry(row // encoded.inputs) == start
            part = slice(start, start + count)
            np.add.at(dense[row], np.cumsum(encoded.gaps[part].astype(int)), values[part])
            start += count
        assert start == len(values) == len(encoded.gaps)
    return np.concatenate(np.split(dense, encoded.groups), axis=1)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize(
    "shape, groups",
    [((7, 5), 1), ((1, 1), 1), ((3, 3, 4, 6), 1), ((3, 3, 4, 6), 3), ((3, 2000), 1)],
)
def test_float32_comes_back_exactly(shape, groups, sparsity):
    loc, scale = kernel(shape, sparsity)
    encoded = weights.encoded(loc, scale, "float32", groups)
    np.testing.assert_array_equal(decoded(encoded, encoded.loc), loc.reshape(-1, shape[-1]))
    variance = np.square(scale).reshape(-1, shape[-1])
    np.testing.assert_array_equal(decoded(encoded, encoded.scale), variance)


@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.999])
def test_int8_comes_back_to_half_a_step(sparsity):
    loc, scale = kernel((3, 2000), sparsity)
    encoded = weights.encoded(loc, scale, "int8")
    for values, codes, steps in (
        (loc, encoded.loc, encoded.loc_steps),
        (scale, encoded.scale, encoded.scale_steps),
    ):
        found = decoded(encoded, codes.astype(np.float64)) * steps
        assert (np.abs(found - values) <= 0.5001 * steps).all()


@pytest.mark.parametrize(
    "positions, storage, num_stored",
    [
        ([0, 255], "gaps8", 2),
        ([0, 256], "gaps8", 3),
        ([511], "gaps8", 3),
        (range(0, 66000, 300), "gaps16", 220),
        ([65536], "gaps16", 2),
    ],
)
def test_long_gaps(positions, storage, num_stored):
    loc = np.zeros((1, 70000), np.float32)
    loc[0, list(positions)] = 1.5
    candidates = [weights._stored(s, 1, loc, None, None, None) for s in ("gaps8", "gaps16")]
    encoded = candidates[storage == "gaps16"]
    np.testing.assert_array_equal(decoded(encoded, encoded.loc), loc)
    assert len(encoded.loc) == num_stored
    best = weights.encoded(loc, None, "float32")
    assert best.num_bytes == min(candidate.num_bytes for candidate in candidates)


def test_dense_where_positions_would_cost_more():
    assert weights.encoded(*kernel((100, 10), 0.1), "float32").storage == "dense"
    assert weights.encoded(*kernel((100, 10), 0.6), "int8").storage == "gaps8"
    assert weights.encoded(kernel((100, 10), 0.4)[0], None, "int8").storage == "dense"


def test_more_weights_than_16_bits_count():
    loc = np.zeros((1, 140000), np.float32)
    loc[:, :70000] = 1
    encoded = weights._stored("gaps8", 1, loc, None, None, None)
    assert encoded.counts.dtype == np.uint32 and encoded.counts[0] == 70000
