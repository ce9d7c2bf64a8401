"""Points: fixed normal numbers at which a likelihood is averaged over the outputs of a network.

An answer that is computed from the moments of the outputs needs the mean of `p(y | outputs)`. On a
device that is the mean over a few points, the same ones at each call, so that answers repeat.
"""

import functools

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

# Any seed would do; with this one exported files and `tfbnn` have the same points.
_SEED = (0, 0)
# As many primes as TFP has for the Halton sequence, one for each feature.
_MOST_FEATURES = 1000


@functools.lru_cache(maxsize=16)
def standard_points(num_points: int, features: int) -> np.ndarray:
    """Well spread points `(num_points, features)` with mean 0 and variance 1 in each feature,
    exactly.

    Half are normal quantiles of a randomised Halton sequence, the other half their negatives; each
    feature is divided by its root mean square. They are float32, and cannot be written to.

    Raises:
        ValueError: If `num_points` is odd or below 2, or `features` not from 1 to 1000.

    Reference:
        Owen 2017, "A randomized Halton algorithm in R".
    """
    if num_points < 2 or num_points % 2:
        raise ValueError(
            f"`num_points` must be even and at least 2. Received: num_points={num_points}"
        )
    if not 1 <= features <= _MOST_FEATURES:
        raise ValueError(
            f"`features` must be from 1 to {_MOST_FEATURES}. Received: features={features}"
        )
    # Outside of any graph that is being traced: the points are numbers.
    with tf.init_scope():
        uniforms = tfp.mcmc.sample_halton_sequence(
            features, num_results=num_points // 2, dtype=tf.float64, randomized=True, seed=_SEED
        )
        half = tf.math.ndtri(uniforms).numpy()
    points = np.concatenate([half, -half])
    points = (points / np.sqrt(np.mean(np.square(points), axis=0))).astype(np.float32)
    points.setflags(write=False)
    return points
