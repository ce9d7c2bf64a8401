"""Blocks that are needed together do not overlap; others share room."""

import numpy as np
import pytest

from tfbnn.export.c_source.buffers import Block, arranged


def overlaps(blocks, offsets):
    pairs = [(i, j) for i in range(len(blocks)) for j in range(i)]
    return [
        (i, j)
        for i, j in pairs
        if blocks[i].meets(blocks[j])
        and offsets[i] < offsets[j] + blocks[j].size
        and offsets[j] < offsets[i] + blocks[i].size
    ]


@pytest.mark.parametrize("seed", range(20))
def test_random_blocks_never_overlap(seed):
    rng = np.random.default_rng(seed)
    firsts = rng.integers(0, 20, 30).tolist()
    blocks = [Block(int(rng.integers(0, 50)), f, f + int(rng.integers(0, 5))) for f in firsts]
    offsets = arranged(blocks)
    assert min(offsets) >= 0 and not overlaps(blocks, offsets)
    # No more than twice what is needed at the fullest time.
    fullest = max(sum(b.size for b in blocks if b.first <= t <= b.last) for t in range(25))
    assert max(b.size + o for b, o in zip(blocks, offsets, strict=True)) <= 2 * fullest


def test_a_chain_needs_two_at_a_time():
    blocks = [Block(10, index, index + 1) for index in range(8)]
    assert max(arranged(blocks)) == 10


def test_the_check_sees_an_overlap():
    assert overlaps([Block(2, 0, 1), Block(2, 1, 2)], [0, 1]) == [(1, 0)]
