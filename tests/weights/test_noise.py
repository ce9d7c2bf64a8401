"""Random numbers: exact laws, independence, and the same numbers in every mode."""

import keras
import numpy as np
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
    def draw():
        return noise.standard_normal((1000,), noise.as_seed(4))

    eager, graph = draw().numpy(), tf.function(draw)().numpy()
    compiled = tf.function(draw, jit_compile=True)().numpy()
    assert np.array_equal(eager, graph)
    # XLA rounds the logarithm and the cosine in its own way.
    assert np.allclose(eager, compiled, atol=1e-5)


def test_a_generator_never_repeats_a_seed():
    generator = keras.random.SeedGenerator(1)
    seeds = {tuple(noise.next_seed(generator).numpy()) for _ in range(100)}
    assert len(seeds) == 100
