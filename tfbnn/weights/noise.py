"""Random numbers: all that training and prediction draw.

Normals are made by the Box-Muller transform from the bits of Threefry, a counter-based generator:
number `i` of a draw is a function of the seed and of `i` alone, the same in eager mode and in a
graph, and up to rounding under XLA. Both are compiled by XLA into one pass over the result, which
makes a normal several times cheaper than `tf.random.stateless_normal` does (see
`docs/performance.md`). The law is exact to the resolution of its uniform numbers, 31 bits rounded
to float32: the largest value is 6.7. TensorFlow must be built with XLA, as its releases are.

References:
    Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", sec. 3.3.
    Box and Muller 1958, "A Note on the Generation of Random Normal Deviates".
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.weights import tracing
from tfbnn.weights.polynomial import polynomial

# Threefry-2x32: two words of 32 bits, 20 rounds, constants of sec. 3.3 of the paper.
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_ROUNDS = 20
_PARITY = 0x1BD11BDA

# The second word of the counter. Normals and signs of one seed share no bits.
_NORMALS, _SIGNS = 0, 1

# Taylor series of the cosine and of sin(x) / x, as far as float32 can tell on [0, pi / 4].
_COSINE = tuple((-1) ** k / math.factorial(2 * k) for k in range(7))
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(7))

# Of dynamic and small sizes only some are compiled: at most eight for each power of two.
_SMALLEST_BLOCK = 2**14


def standard_normal(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Independent `N(0, 1)` draws, float32; of a seed of shape `(2,)` the low 32 bits are used."""
    size = _size(shape)
    pairs, words = _block((size + 1) // 2), _words(seed)
    if tracing.inside_xla():
        values = tracing.kept(_interleaved_normals(pairs, words))
    else:
        # A complex number lies in memory as two real ones: this is no copy.
        values = tf.reshape(tf.bitcast(_kernel(_complex_normals)(pairs, words), tf.float32), [-1])
    return _shaped(values, size, shape)


def rademacher(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor, dtype: Any) -> tf.Tensor:
    """Independent fair signs, -1 or +1: mean 0, variance 1; the seed as in `standard_normal`."""
    size = _size(shape)
    make = _random_signs if tracing.inside_xla() else _kernel(_random_signs)
    return tf.cast(_shaped(make(_block(size), _words(seed)), size, shape), dtype)


def as_seed(seed: int) -> tf.Tensor:
    """The seed tensor of shape `(2,)` that the whole number `seed` stands for."""
    return tf.constant([seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF], tf.int64)


def fold_in(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """A seed for item `number` of a series, independent of the seeds of the other items."""
    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")


def split(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """`count` independent seeds made from one."""
    # Named, because the automatic choice under XLA on a CPU is tens of times slower.
    return tf.unstack(tf.random.experimental.stateless_split(seed, count, alg="philox"))


def next_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
    """The next seed of a layer's generator, another one on each replica.

    Replicas of a model share the state of its seed generators. Without the replica's number in the
    seed they would all draw the same noise, and more replicas would not reduce its variance.
    """
    seed = tf.cast(tf.convert_to_tensor(generator.next()), tf.int64)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return seed
    return fold_in(seed, replica.replica_id_in_sync_group)


@functools.cache
def _kernel(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Any:
    """The compiled function, traced once for all callers.

    Traced inside one of them, it would keep that caller's graph, and its model, for ever.
    """
    with tf.init_scope():
        return tracing.compiled(function).get_concrete_function(
            tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.uint32)
        )


def _complex_normals(count: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
    return tf.complex(*_box_muller(tf.range(count), words))


def _interleaved_normals(count: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
    """The same numbers by twice the work, for XLA, which cannot see two reals in one complex."""
    index = tf.range(2 * count)
    even, odd = _box_muller(index // 2, words)
    return tf.where(tf.equal(index % 2, 0), even, odd)


def _box_muller(counters: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Real and imaginary part of `sqrt(-2 * log(u)) * exp(2j * pi * v)`: two normals."""
    radius_bits, angle_bits = _threefry(counters, words, _NORMALS)
    # 31 bits and a half: never 0, whose logarithm is infinite.
    uniform = (_signed_float(_shifted_right(radius_bits, 1)) + 0.5) * 2.0**-31
    radius = tf.sqrt(-2.0 * tf.math.log(uniform))
    # Two bits choose the quadrant; the angle within it lies in [-pi / 4, pi / 4).
    angle = _signed_float(tf.bitwise.left_shift(angle_bits, _word(2))) * (math.pi * 2.0**-33)
    square = tf.square(angle)
    cosine, sine = polynomial(_COSINE, square), angle * polynomial(_SINE, square)
    quadrant = _shifted_right(angle_bits, 30)
    odd = tf.equal(tf.bitwise.bitwise_and(quadrant, _word(1)), _word(1))
    signed = tf.where(tf.less(quadrant, _word(2)), radius, -radius)
    return signed * tf.where(odd, -sine, cosine), signed * tf.where(odd, cosine, sine)


def _random_signs(count: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
    bits, _ = _threefry(tf.range(count), words, _SIGNS)
    sign = tf.bitwise.bitwise_and(bits, _word(0x80000000))
    return tf.bitcast(tf.bitwise.bitwise_or(sign, _word(0x3F800000)), tf.float32)  # of 1.0


def _threefry(counters: tf.Tensor, words: tf.Tensor, stream: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Two words of random bits for each of the counters `(counter, stream)`."""
    keys = [words[0], words[1], words[0] ^ words[1] ^ _word(_PARITY)]
    left = tf.cast(counters, tf.uint32) + keys[0]
    right = tf.fill(tf.shape(counters), _word(stream)) + keys[1]
    for number in range(_ROUNDS):
        left = left + right
        right = _rotated_left(right, _ROTATIONS[number % len(_ROTATIONS)]) ^ left
        if number % 4 == 3:
            injection = number // 4 + 1
            left = left + keys[injection % 3]
            right = right + keys[(injection + 1) % 3] + _word(injection)
    return left, right


def _words(seed: Any) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(seed), tf.uint32)


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)


def _shifted_right(bits: tf.Tensor, count: int) -> tf.Tensor:
    return tf.bitwise.right_shift(bits, _word(count))


def _rotated_left(bits: tf.Tensor, count: int) -> tf.Tensor:
    return tf.bitwise.left_shift(bits, _word(count)) | _shifted_right(bits, 32 - count)


def _signed_float(bits: tf.Tensor) -> tf.Tensor:
    # By way of int32: conversions of unsigned numbers are slow on CPUs.
    return tf.cast(tf.bitcast(bits, tf.int32), tf.float32)


def _size(shape: Sequence[int] | tf.Tensor) -> int | tf.Tensor:
    """Number of elements: a Python number if the shape is one of numbers, as a weight's is."""
    if tf.is_tensor(shape):
        return tf.reduce_prod(shape)
    return math.prod(int(axis) for axis in shape)


def _block(size: int | tf.Tensor) -> tf.Tensor:
    """How many numbers to make where `size` are needed: large sizes known in advance are exact.

    Others, which follow the batch, are rounded up to one of eight sizes between two powers of two,
    so that batches of many sizes do not each wait for the compiler.
    """
    if isinstance(size, int) and size >= _SMALLEST_BLOCK:
        return tf.constant(size)
    size = tf.maximum(tf.cast(size, tf.int32), _SMALLEST_BLOCK)
    exponent = tf.cast(tf.math.log(tf.cast(size, tf.float64)) / math.log(2.0), tf.int32)
    step = tf.bitwise.left_shift(1, exponent - 3)
    return (size + step - 1) // step * step


def _shaped(values: tf.Tensor, size: int | tf.Tensor, shape: Any) -> tf.Tensor:
    # A slice from the start of a vector is no copy.
    return tf.reshape(values[:size], shape)
