"""Laws: the laws of weights as numbers, and how a random map computes with them in a file.

A file has no Keras layers, no `rho` and no masks: only means, standard deviations (zero where a
weight is pruned) and rules that stand in for the layers while the graph is traced.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.export.variances import FactorisedVariance, factorise
from tfbnn.layers.precision import in_float32
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.scopes import forward_rule, outside_loops
from tfbnn.layers.variational import random_maps
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.gaussian import AbstractGaussianPosterior, GaussianPosterior, NormalLaw
from tfbnn.prediction.moments import linear_moments
from tfbnn.prediction.normals import Moments

Normals = Callable[[Any], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class FrozenWeight:
    """Mean and standard deviation of one weight tensor; `scale` is None for a fixed weight.

    `factors` are the variances as a product, where they are stored so; `scale` is then theirs.
    `squares` are the squares of the means as a product, likewise.
    """

    loc: np.ndarray
    scale: np.ndarray | None
    factors: FactorisedVariance | None = None
    squares: FactorisedVariance | None = None

    def spread(self, linear_map: Any, squares: tf.Tensor) -> tf.Tensor:
        """`f(squares, scale**2)`: the variance that the weights give to a linear map."""
        return _second(linear_map, squares, self.scale, self.factors)

    def carried(self, linear_map: Any, variance: tf.Tensor) -> tf.Tensor:
        """`f(variance, loc**2)`: the variance of the inputs after a linear map."""
        return _second(linear_map, variance, self.loc, self.squares)

    @classmethod
    def of(cls, loc: tf.Tensor, scale: tf.Tensor | None = None) -> "FrozenWeight":
        """One with arrays in the place of tensors."""
        return cls(np.asarray(loc), None if scale is None else np.asarray(scale))

    def draws(self, noise: tf.Tensor) -> tf.Tensor:
        """`loc + scale * noise`, for noise with a leading axis of draws."""
        if self.factors is None:
            return _constant(self.loc) + _constant(self.scale) * noise
        # One after the other: the converter would store the product of the two constants.
        noise *= _constant(np.sqrt(self.factors.columns))
        return _constant(self.loc) + noise * _constant(np.sqrt(self.factors.rows)[..., np.newaxis])


@dataclasses.dataclass(frozen=True)
class FrozenLayer:
    """The weights of one random map."""

    kernel: FrozenWeight
    bias: FrozenWeight | None


FrozenModel = dict[RandomMap, FrozenLayer]


def freeze(posterior: AbstractGaussianPosterior, form: str = "full") -> FrozenModel:
    """The weights of every random map as NumPy arrays, pruned elements exactly zero.

    Args:
        posterior: A Gaussian posterior.
        form: How the variances of kernels are stored: `"full"`, or a form of `variances.FORMS`.
    """
    laws, frozen = posterior.laws(), {}
    for one in random_maps(posterior.model):
        kernel = FrozenWeight.of(*laws[one.kernel])
        if form != "full" and one.linear_map.has_rows_and_columns:
            factors = factorise(kernel.scale, form)
            squares = factorise(np.abs(kernel.loc), "rank_one")
            kernel = FrozenWeight(kernel.loc, np.sqrt(factors.variance()), factors, squares)
        bias = one.bias
        if bias is not None:
            bias = FrozenWeight.of(*laws.get(bias, (bias.loc,)))
        frozen[one] = FrozenLayer(kernel, bias)
    return frozen


def as_stored(posterior: AbstractPosterior, form: str) -> AbstractPosterior:
    """The posterior with the laws that a file has, whose variances have a form."""
    if form == "full":
        return posterior
    laws = dict(posterior.laws())
    for one, weights in freeze(posterior, form).items():
        laws[one.kernel] = NormalLaw(*map(tf.constant, (weights.kernel.loc, weights.kernel.scale)))
    return GaussianPosterior(posterior.model, posterior.likelihoods, laws)


@dataclasses.dataclass(frozen=True, eq=False)
class MeanRule:
    """A random map at the posterior mean of its weights."""

    frozen: FrozenModel

    def __call__(self, one: RandomMap, inputs: tf.Tensor) -> tf.Tensor:
        weights = self.frozen[one]
        outputs = one.linear_map(inputs, _constant(weights.kernel.loc))
        return outputs if weights.bias is None else outputs + _bias(one, weights.bias.loc, outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class MomentsRule:
    """A random map on means and variances; see `tfbnn.prediction.moments`."""

    frozen: FrozenModel

    def __call__(self, one: RandomMap, x: Moments) -> Moments:
        weights = self.frozen[one]
        linear_map, bias = one.linear_map, weights.bias
        bias_scale = None if bias is None else bias.scale
        return linear_moments(
            linear_map,
            x,
            _constant(weights.kernel.loc),
            functools.partial(weights.kernel.spread, linear_map),
            functools.partial(weights.kernel.carried, linear_map),
            None if bias is None else _constant(bias.loc),
            None if bias_scale is None else _constant(np.square(bias_scale)),
        )


class MonteCarloRule:
    """A random map for `num_samples` networks at once, with noise drawn in the file.

    The rows of `inputs` are `num_samples` groups, one for each network, each of which holds the
    whole batch; or the batch alone, as long as the networks do not differ: a layer then computes
    once what they have in common.

    A dense layer that sees each example once draws its outputs, `loc + scale * noise`, which have
    the law that drawn weights give them (given the inputs, outputs of different rows and units are
    independent normals). Layers in which one kernel meets an example more than once (convolutions,
    dense layers on sequences, layers called several times) draw kernels, one for each network.

    Args:
        frozen: The weights.
        num_samples: Number of networks.
        batch_size: Rows of the batch.
        calls: How often each random map is called.
        normals: The source of noise: `normals(shape)` gives independent `N(0, 1)`. By default an
            operation that LiteRT has built in and that draws anew at each call.
    """

    def __init__(
        self,
        frozen: FrozenModel,
        num_samples: int,
        batch_size: int,
        calls: Counter,
        normals: Normals | None = None,
    ):
        self._frozen = frozen
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._calls = calls
        self._normals = normals or _fresh_normals
        self._graph = tf.compat.v1.get_default_graph()
        self._draws: dict[RandomMap, tuple[list[Any], list[Any]]] = {}

    def __call__(self, one: RandomMap, inputs: tf.Tensor) -> tf.Tensor:
        if self._calls[one] == 1 and not one.linear_map.shares_kernel(inputs):
            return self._draw_outputs(one, inputs)
        return self._draw_kernels(one, inputs)

    def _draw_outputs(self, one: RandomMap, inputs: tf.Tensor) -> tf.Tensor:
        weights = self._frozen[one]
        outputs = MeanRule(self._frozen)(one, inputs)
        variance = weights.kernel.spread(one.linear_map, tf.square(inputs))
        if weights.bias is not None and weights.bias.scale is not None:
            variance += _bias(one, np.square(weights.bias.scale), outputs)
        # A leading axis of networks, over which a batch that they have in common is broadcast.
        grouped = (-1, self._batch_size, *outputs.shape[1:])
        mean, root = tf.reshape(outputs, grouped), tf.reshape(tf.sqrt(variance), grouped)
        noise = self._normals((self._num_samples, self._batch_size, *outputs.shape[1:]))
        return tf.reshape(mean + root * noise, (-1, *outputs.shape[1:]))

    def _draw_kernels(self, one: RandomMap, inputs: tf.Tensor) -> tf.Tensor:
        kernels, biases = self._drawn(one)
        shared = inputs.shape[0] == self._batch_size
        groups = [inputs] * self._num_samples if shared else tf.split(inputs, self._num_samples)
        outputs = [one.linear_map(g, k) for g, k in zip(groups, kernels, strict=True)]
        if biases:
            pairs = zip(outputs, biases, strict=True)
            outputs = [output + _bias(one, bias, output) for output, bias in pairs]
        return tf.concat(outputs, axis=0)

    def _drawn(self, one: RandomMap) -> tuple[list[Any], list[Any]]:
        """One kernel and bias for each network; the same ones at each call, in loops too."""
        if one not in self._draws:
            weights = self._frozen[one]
            with outside_loops(self._graph):
                biases = [] if weights.bias is None else self._draw(weights.bias)
                self._draws[one] = self._draw(weights.kernel), biases
        return self._draws[one]

    def _draw(self, weight: FrozenWeight) -> list[Any]:
        if weight.scale is None:
            return [_constant(weight.loc)] * self._num_samples
        return tf.unstack(weight.draws(self._normals((self._num_samples, *weight.loc.shape))))


def calls_of(posterior: AbstractGaussianPosterior, inputs: Any) -> Counter:
    """How often the model calls each of its random maps."""
    calls: Counter = Counter()
    rule = MeanRule(freeze(posterior))

    def counting(one: RandomMap, map_inputs: tf.Tensor) -> tf.Tensor:
        calls[one] += 1
        return rule(one, map_inputs)

    with forward_rule(counting), in_float32(posterior.model):
        posterior.model(inputs, training=False)
    return calls


def _second(
    linear_map: Any, x: tf.Tensor, root: np.ndarray, factors: FactorisedVariance | None
) -> tf.Tensor:
    """`f(x, root**2)`, or with the product that stands for `root**2`."""
    if factors is not None:
        # A sum of squares is not negative; the converter would multiply rows and columns out again.
        sums = tf.nn.relu(linear_map(x, _constant(factors.rows[..., np.newaxis])))
        return sums * _constant(factors.columns)
    # Relative to the largest, squares stay in the range of float16; a zero matrix too. The
    # converter would move a factor of the outputs back into the weights.
    unit = max(float(np.max(np.abs(root))), 1e-15)
    return linear_map(x * unit**2, _constant(np.square(root / unit)))


def _fresh_normals(shape: Any) -> tf.Tensor:
    # `tf.random.normal` would bake in the global seed of the process that exports, and every
    # interpreter would repeat the same stream.
    return tf.raw_ops.RandomStandardNormal(shape=shape, dtype=tf.float32)


def _constant(value: Any) -> tf.Tensor:
    return tf.convert_to_tensor(value, tf.float32)


def _bias(one: RandomMap, bias: Any, outputs: tf.Tensor) -> tf.Tensor:
    return tf.reshape(_constant(bias), one.linear_map.bias_shape(len(outputs.shape)))
