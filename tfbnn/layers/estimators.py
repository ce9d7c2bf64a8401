"""Estimators: how a random kernel is put through a linear map in training.

All three are unbiased and give each output the same mean and variance; they differ in the noise
that the examples of a batch share, hence in the variance of the gradient, and in price:

| estimator | outputs | noise in a batch | products |
|---|---|---|---|
| `reparameterization` | `f(x, w)`, `w ~ q` | shared by all examples | one |
| `local_reparameterization` | `f(x, loc) + sqrt(f(x**2, scale**2)) * e` | independent | two |
| `flipout` | `f(x, loc) + r * f(s * x, scale * e)`, signs `r`, `s` | uncorrelated | two |

An estimator knows the map, the inputs and the weights; it does not know the layer. It returns the
outputs and the draw of each random weight, for a Monte Carlo KL (local reparameterization draws
outputs, not weights: it has none).
"""

from collections.abc import Callable

import tensorflow as tf

from tfbnn.layers.linear_maps import Convolution, Dense
from tfbnn.weights import noise
from tfbnn.weights.families import NormalWeight, Weight

LinearMap = Dense | Convolution
Draws = dict[NormalWeight, tf.Tensor]
Estimator = Callable[
    [LinearMap, tf.Tensor, NormalWeight, Weight | None, tf.Tensor], tuple[tf.Tensor, Draws]
]


def mean(
    linear_map: LinearMap, inputs: tf.Tensor, kernel: Weight, bias: Weight | None
) -> tf.Tensor:
    """`f(x, loc)`: the output at the posterior mean of the weights, without noise."""
    outputs = linear_map(inputs, tf.cast(kernel.loc, inputs.dtype))
    return outputs if bias is None else outputs + _aligned(linear_map, bias.loc, outputs)


def reparameterization(
    linear_map: LinearMap,
    inputs: tf.Tensor,
    kernel: NormalWeight,
    bias: Weight | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, Draws]:
    """`f(x, w)` with one draw `w = loc + scale * e` for the whole batch.

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 3.2.
    """
    kernel_seed, bias_seed = noise.split(seed, 2)
    draw = kernel.sample(kernel_seed)
    outputs = linear_map(inputs, tf.cast(draw, inputs.dtype))
    draws = {kernel: draw}
    if bias is None:
        return outputs, draws
    bias_draw = bias.sample(bias_seed)
    if bias.is_random:
        draws[bias] = bias_draw
    return outputs + _aligned(linear_map, bias_draw, outputs), draws


def local_reparameterization(
    linear_map: LinearMap,
    inputs: tf.Tensor,
    kernel: NormalWeight,
    bias: Weight | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, Draws]:
    """`f(x, loc) + sqrt(f(x**2, scale**2)) * e` with one draw `e` for each output.

    The variance is computed in float32: `x**2` overflows float16 at 256.

    Reference:
        Kingma et al. 2015, "Variational Dropout and the Local Reparameterization Trick", eq. 6.
    """
    outputs = mean(linear_map, inputs, kernel, bias)
    variance = linear_map(tf.square(tf.cast(inputs, tf.float32)), tf.square(kernel.scale))
    if bias is not None and bias.is_random:
        variance += _aligned(linear_map, tf.square(bias.scale), variance)
    standard_deviation = _safe_sqrt(variance)
    perturbation = standard_deviation * noise.standard_normal(tf.shape(outputs), seed)
    return outputs + tf.cast(perturbation, outputs.dtype), {}


def flipout(
    linear_map: LinearMap,
    inputs: tf.Tensor,
    kernel: NormalWeight,
    bias: Weight | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, Draws]:
    """`f(x, loc) + r * f(s * x, scale * e)` with fair signs `s`, `r` for each example.

    The perturbation of a random bias takes the output's signs too: `r * (f(...) + scale_b * e_b)`.

    Reference:
        Wen et al. 2018, "Flipout: Efficient Pseudo-Independent Weight Perturbations on
        Mini-Batches", eq. 4.
    """
    kernel_seed, bias_seed, in_seed, out_seed = noise.split(seed, 4)
    perturbation = kernel.perturbation(kernel_seed)
    draws = {kernel: kernel.loc + perturbation}
    outputs = mean(linear_map, inputs, kernel, bias)
    signs_in = _signs(linear_map, inputs, in_seed)
    signs_out = _signs(linear_map, outputs, out_seed)
    noisy = linear_map(inputs * signs_in, tf.cast(perturbation, inputs.dtype))
    if bias is not None and bias.is_random:
        bias_perturbation = bias.perturbation(bias_seed)
        draws[bias] = bias.loc + bias_perturbation
        noisy += _aligned(linear_map, bias_perturbation, noisy)
    return outputs + signs_out * noisy, draws


ESTIMATORS: dict[str, Estimator] = {
    "reparameterization": reparameterization,
    "local_reparameterization": local_reparameterization,
    "flipout": flipout,
}
"""The estimators by name; the moment tests run over this table."""


def _signs(linear_map: LinearMap, like: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return noise.rademacher(linear_map.signs_shape(tf.shape(like)), seed, like.dtype)


def _aligned(linear_map: LinearMap, bias: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reshape(bias, linear_map.bias_shape(len(outputs.shape))), outputs.dtype)


def _safe_sqrt(variance: tf.Tensor) -> tf.Tensor:
    # All-zero patches (the borders of MNIST) have variance 0, where the gradient of the root is
    # infinite. The inner `where` keeps that infinity out of the product with 0.
    positive = variance > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, variance, 1.0)), 0.0)
