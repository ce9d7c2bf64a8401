"""Blocks: whole ones go, the lowest scores first, and as many as fit."""

import keras
import numpy as np
import pytest

import tfbnn
from tests.pruning.models import spread
from tfbnn.pruning import masks
from tfbnn.pruning.rankings import BlockRanking

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Dense = tfbnn.layers.DenseFlipout


def make_model(*layers):
    layers = layers or [Dense(18, "relu", kernel_prior="normal"), Dense(5, kernel_prior="normal")]
    model = tfbnn.Sequential([keras.Input((10,)), *layers])
    model.compile("adam", SPARSE)
    return spread(model)


def kernels(model):
    return masks.prunable_weights(model)


def blocks_of(array, size):
    """The blocks along the last axis but one, by a loop."""
    return [array[..., i : i + size, :] for i in range(0, array.shape[-2], size)]


def assert_whole_blocks(mask, size):
    for block in blocks_of(mask, size):
        assert (block == block[..., :1, :]).all()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("block_size", [4, 16])
def test_whole_blocks_go_also_the_short_last_one(block_size, scope):
    model = make_model()
    pruned = tfbnn.prune(
        model, 0.5, scope=scope, granularity="block", block_size=block_size, criterion="snr"
    )
    kept = []
    for old, new in zip(kernels(model), kernels(pruned), strict=True):
        mask = new.mask.numpy()
        assert_whole_blocks(mask, block_size)
        assert 0 < mask.mean() < 1
        loc, variance = old.loc.numpy() ** 2, old.scale.numpy() ** 2
        snr = [
            np.sqrt(one.sum(-2) / other.sum(-2))
            for one, other in zip(
                blocks_of(loc, block_size), blocks_of(variance, block_size), strict=True
            )
        ]
        alive = [block[0] > 0 for block in blocks_of(mask, block_size)]
        kept.append((np.concatenate(snr), np.concatenate(alive)))
    if scope == "global":
        kept = [tuple(map(np.concatenate, zip(*kept, strict=True)))]
    for snr, alive in kept:
        assert snr[~alive].max() < snr[alive].min()


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.8])
def test_as_many_as_fit(sparsity):
    pruned = tfbnn.prune(make_model(), sparsity, granularity="block")
    size = sum(kernel.size for kernel in kernels(pruned))
    removed = size - masks.num_weights(pruned)
    assert round(sparsity * size) - 4 < removed <= round(sparsity * size)


def test_channels_of_a_convolution():
    convolution = tfbnn.layers.Convolution1DFlipout
    layers = [keras.layers.Reshape((10, 1)), convolution(6, 3), convolution(5, 3)]
    model = make_model(*layers, keras.layers.Flatten(), Dense(2))
    pruned = tfbnn.prune(model, 0.5, granularity="block", scope="layer")
    mask = kernels(pruned)[1].mask.numpy()
    assert mask.shape == (3, 6, 5)
    assert_whole_blocks(mask, 4)
    assert not (mask == mask[:1]).all()


def test_scores_of_blocks_are_sums():
    model = make_model()
    kernel = kernels(model)[0]
    single = BlockRanking(model, "savage_dickey")
    blocks = BlockRanking(model, "savage_dickey", 4)
    for weights, sums in zip(single._scores, blocks._scores, strict=True):
        expected = np.stack([block.sum(-2) for block in blocks_of(weights, 4)], -2)
        np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-4)
    pruned = tfbnn.prune(model, criterion="savage_dickey", granularity="block")
    np.testing.assert_array_equal(
        kernels(pruned)[0].mask, np.repeat(blocks._scores[0] > 0, 4, -2)[: kernel.shape[0]]
    )


def test_cumulative():
    half = tfbnn.prune(make_model(), 0.5, granularity="block")
    more = tfbnn.prune(half, 0.75, granularity="block")
    again = tfbnn.prune(more, 0.5, granularity="block")
    for before, after, same in zip(*map(kernels, (half, more, again)), strict=True):
        assert not (after.mask.numpy() * (1 - before.mask.numpy())).any()
        assert_whole_blocks(after.mask.numpy(), 4)
        np.testing.assert_array_equal(after.mask, same.mask)
    assert masks.sparsity_of(more) == pytest.approx(0.75, abs=0.02)


def test_one_block_of_each_layer_stays():
    pruned = tfbnn.prune(make_model(), 0.99, scope="layer", granularity="block")
    assert all(0 < kernel.mask.numpy().sum() <= 4 for kernel in kernels(pruned))
    with pytest.raises(ValueError, match="would be left without a weight.*scope='global'"):
        tfbnn.prune(make_model(), 0.999, granularity="block")
