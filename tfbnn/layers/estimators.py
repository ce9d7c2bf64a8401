"""Estimators: how a random kernel is put through a linear map in training.

All three are unbiased and give each output the same mean and variance; they differ in the noise
that the examples of a batch share, hence in the variance of the gradient, and in price:

| estimator | outputs | noise in a batch | products |
|---|---|---|---|
| `reparameterization` | `f(x, w)`, `w ~ q` | shared by all examples | one |
| `local_reparameterization` | `f(x, loc) + sqrt(f(x**2, scale**2)) * e` | independent | two |
| `flipout` | `f(x, loc) + r * f(s * x, scale * e)`, signs `r`, `s` | uncorrelated | two |

An estimator knows the map, the inputs and the weights; it does not know the layer. It returns the
outputs and the KL of each random weight. A Monte Carlo KL is taken at the weights that the outputs
were made with (local reparameterization draws outputs, not weights: there it has its own draw).
"""

from collections.abc import Callable

import tensorflow as tf

from tfbnn.layers.linear_maps import LinearMap
from tfbnn.weights import noise
from tfbnn.weights.families import NormalWeight, Weight

# Of a noise that no float32 output would show; the gradient of the maximum is 0 below it.
_SMALLEST_VARIANCE = 1e-24

Divergences = dict[NormalWeight, tf.Tensor]
Estimator = Callable[
    [LinearMap, tf.Tensor, NormalWeight, Weight | None, tf.Tensor], tuple[tf.Tensor, Divergences]
]


def mean(
    linear_map: LinearMap, inputs: tf.Tensor, kernel: Weight, bias: Weight | None
) -> tf.Tensor:
    """`f(x, loc)`: the output at the posterior mean of the weights, without noise."""
    outputs = linear_map(inputs, tf.cast(kernel.loc, inputs.dtype))
    return outputs if bias is None else linear_map.add_bias(outputs, bias.loc)


def reparameterization(
    linear_map: LinearMap,
    inputs: tf.Tensor,
    kernel: NormalWeight,
    bias: Weight | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, Divergences]:
    """`f(x, w)` with one draw `w = loc + scale * e` for the whole batch.

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 3.2.
    """
    kernel_seed, bias_seed = noise.split(seed, 2)
    draw, kl = kernel.draw(kernel_seed)
    outputs = linear_map(inputs, tf.cast(draw, inputs.dtype))
    divergences = {kernel: kl}
    if bias is None:
        return outputs, divergences
    bias_draw = bias.loc
    if bias.is_random:
        bias_draw, divergences[bias] = bias.draw(bias_seed)
    return linear_map.add_bias(outputs, bias_draw), divergences


def local_reparameterization(
    linear_map: LinearMap,
    inputs: tf.Tensor,
    kernel: NormalWeight,
    bias: Weight | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, Divergences]:
    """`f(x, loc) + sqrt(f(x**2, scale**2)) * e` with one draw `e` for each output.

    The variance is computed in float32: `x**2` overflows float16 at 256.

    Reference:
        Kingma et al. 2015, "Variational Dropout and the Local Reparameterization Trick", eq. 6.
    """
    kernel_seed, bias_seed, output_seed = noise.split(seed, 3)
    kernel_loc, kernel_variance, kl = kernel.moments(kernel_seed)
    divergences = {kernel: kl}
    outputs = linear_map(inputs, tf.cast(kernel_loc, inputs.dtype))
    variance = linear_map(tf.square(tf.cast(inputs, tf.float32)), kernel_variance)
    if bias is not None:
        bias_loc = bias.loc
        if bias.is_random:
            bias_loc, bias_variance, divergences[bias] = bias.moments(bias_seed)
            variance = linear_map.add_bias(variance, bias_variance)
        outputs = linear_map.add_bias(outputs, bias_loc)
    perturbation = _sqrt(variance) * noise.standard_normal(tf.shape(outputs), output_seed)
    return outputs + tf.cast(perturbation, outputs.dtype), divergences


def flipout(
    linear_map: LinearMap,
    inputs: tf.Tensor,
    kernel: NormalWeight,
    bias: Weight | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, Divergences]:
    """`f(x, loc) + r * f(s * x, scale * e)` with fair signs `s`, `r` for each example.

    The perturbation of a random bias takes the output's signs too: `r * (f(...) + scale_b * e_b)`.

    Reference:
        Wen et al. 2018, "Flipout: Efficient Pseudo-Independent Weight Perturbations on
        Mini-Batches", eq. 4.
    """
    kernel_seed, bias_seed, in_seed, out_seed = noise.split(seed, 4)
    loc, perturbation, kl = kernel.perturbation(kernel_seed)
    divergences = {kernel: kl}
    outputs = linear_map(inputs, tf.cast(loc, inputs.dtype))
    signs_in = _signs(linear_map, inputs, in_seed)
    signs_out = _signs(linear_map, outputs, out_seed)
    noisy = linear_map(inputs * signs_in, tf.cast(perturbation, inputs.dtype))
    if bias is not None:
        bias_loc = bias.loc
        if bias.is_random:
            bias_loc, bias_perturbation, divergences[bias] = bias.perturbation(bias_seed)
            noisy = linear_map.add_bias(noisy, bias_perturbation)
        outputs = linear_map.add_bias(outputs, bias_loc)
    return outputs + signs_out * noisy, divergences


ESTIMATORS: dict[str, Estimator] = {
    "reparameterization": reparameterization,
    "local_reparameterization": local_reparameterization,
    "flipout": flipout,
}
"""The estimators by name; the moment tests run over this table."""


def _signs(linear_map: LinearMap, like: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return noise.rademacher(linear_map.signs_shape(tf.shape(like)), seed, like.dtype)


def _sqrt(variance: tf.Tensor) -> tf.Tensor:
    """The square root, with gradient 0 at 0.

    All-zero patches (the borders of MNIST) have variance 0, where the root's gradient is infinite.
    Fast convolutions may round a sum of squares to below zero.
    """
    return tf.sqrt(tf.maximum(variance, _SMALLEST_VARIANCE))
