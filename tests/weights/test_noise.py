"""Random numbers: exact laws, independence, and the same numbers in every mode."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfbnn.weights import noise

COUNT = 400_000


def test_normals_have_the_moments_and_tails_of_a_normal():
    values = noise.standard_normal((COUNT,), noise.as_seed(1)).numpy().astype("float64")
    # Variance of the sample mean of w**k is (E[w**2k] - E[w**k]**2) / n.
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(values**power) - moment) < 4 * np.sqrt(spread / COUNT)
    for limit, share in ((2, 0.0455), (3, 0.0027)):
        error = 4 * np.sqrt(share / COUNT)
        assert abs(np.mean(np.abs(values) > limit) - share) < error


def test_signs_are_fair_and_independent():
    signs = noise.rademacher((2, COUNT), noise.as_seed(2), tf.float32).numpy()
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert np.abs(signs.mean(axis=1)).max() < 4 / np.sqrt(COUNT)
    assert abs(np.mean(signs[0] * signs[1])) < 4 / np.sqrt(COUNT)


def test_seeds_made_from_one_are_independent():
    seed = noise.as_seed(3)
    seeds = [*noise.split(seed, 2), noise.fold_in(seed, 0), noise.fold_in(seed, 1)]
    draws = np.stack([noise.standard_normal((COUNT,), s).numpy() for s in seeds])
    correlation = np.corrcoef(draws) - np.eye(len(seeds))
    assert np.abs(correlation).max() < 5 / np.sqrt(COUNT)


def test_the_same_seed_gives_the_same_numbers_in_every_mode():
    # The seed is an argument: TensorFlow evaluates functions of constants without the compiler.
    def draw(seed):
        return noise.standard_normal((1001,), seed), noise.rademacher((1001,), seed, tf.float32)

    seed = noise.as_seed(4)
    eager = [values.numpy() for values in draw(seed)]
    for function in (
        tf.function(draw, autograph=False),
        tf.function(draw, jit_compile=True, autograph=False),
    ):
        for one, other in zip(eager, function(seed), strict=True):
            # Signs are exact; XLA may round the logarithm in its own way.
            np.testing.assert_allclose(one, other, atol=1e-6)


# The known answers that come with Random123, the reference implementation: counter, key, result.
@pytest.mark.parametrize(
    ("counter", "key", "result"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_bits_are_those_of_threefry(counter, key, result):
    words = tf.constant(key, tf.uint32)
    left, right = noise._threefry(tf.constant([counter[0]], tf.uint32), words, counter[1])
    assert (int(left[0]), int(right[0])) == result


def test_normals_have_the_law_of_a_normal_far_into_the_tails():
    values = noise.standard_normal((20_000_000,), noise.as_seed(6)).numpy().astype("float64")
    for limit in (3.0, 3.5, 4.0, 4.5, 5.0):
        for side in (values, -values):
            share = scipy.stats.norm.sf(limit)
            error = np.sqrt(share * len(values))
            assert abs(np.sum(side > limit) - share * len(values)) < 4.5 * error
    test = scipy.stats.kstest(values[:1_000_000], "norm")
    assert test.pvalue > 1e-4


def test_neighbours_of_any_distance_are_independent():
    values = noise.standard_normal((4_000_000,), noise.as_seed(7)).numpy().astype("float64")
    # Of Box-Muller's pairs the squares are what a mistake would tie together.
    for series in (values, values**2 - 1, np.abs(values) > 2):
        series = (series - np.mean(series)) / np.std(series)
        for lag in (1, 2, 3, 1200, 2_000_000):
            correlation = np.mean(series[lag:] * series[:-lag])
            assert abs(correlation) < 4.5 / np.sqrt(len(series) - lag)


def test_normals_and_signs_of_one_seed_are_independent():
    seed = noise.as_seed(8)
    normals = noise.standard_normal((COUNT,), seed).numpy()
    signs = noise.rademacher((COUNT,), seed, tf.float32).numpy()
    for series in (normals, np.abs(normals) - np.mean(np.abs(normals))):
        for shifted in (series, np.repeat(series[: COUNT // 2], 2)):
            assert abs(np.mean(shifted * signs)) < 4.5 / np.sqrt(COUNT)


@pytest.mark.parametrize("size", [1, 7, 2**15 - 1, 2**15 + 1, 100_003])
def test_a_size_known_late_gives_the_same_numbers(size):
    late = tf.function(
        lambda x, seed: noise.standard_normal(tf.shape(x), seed),
        input_signature=[tf.TensorSpec([None]), tf.TensorSpec([2], tf.int64)],
        autograph=False,
    )
    seed = noise.as_seed(9)
    values = late(tf.zeros([size]), seed).numpy()
    assert values.shape == (size,)
    np.testing.assert_allclose(values, noise.standard_normal((size,), seed), atol=1e-6)


def test_batches_of_many_sizes_are_compiled_in_few():
    blocks = {int(noise._block(tf.constant(size))) for size in range(2**17, 2**18, 101)}
    assert len(blocks) <= 9
    for size in (1, 16_384, 16_385, 131_072, 150_000):
        block = int(noise._block(tf.constant(size)))
        assert size <= block <= max(1.125 * size + 1, noise._SMALLEST_BLOCK)


def test_a_generator_never_repeats_a_seed():
    generator = keras.random.SeedGenerator(1)
    seeds = {tuple(noise.next_seed(generator).numpy()) for _ in range(100)}
    assert len(seeds) == 100
