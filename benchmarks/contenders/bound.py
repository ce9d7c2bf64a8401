"""The least a step can cost: its products, its random numbers and a fused update, nothing else.

No activation, no loss, no KL, no standard deviations: what is left of a step when everything
between the products is free.
"""

import math
from typing import Any

import networks
import tensorflow as tf

from tfbnn.weights import noise


class Contender:
    """Products, random numbers and updates of one estimator, in one TensorFlow function."""

    def __init__(self, case: dict[str, Any]):
        self.case = case
        self.layers = networks.layers(case["network"], case["width"])
        self.seed = tf.Variable([1, 2], dtype=tf.int64)
        shapes = [layer.kernel_shape for layer in self.layers]
        copies = 1 if case["estimator"] == "deterministic" else 2
        self.slots = [
            [tf.Variable(tf.fill(shape, value)) for value in (0.01, 0.0, 0.0)]
            for shape in shapes * copies
        ]
        self.gradients = [tf.random.normal(shape) for shape in shapes * copies]
        # Each product has tensors of its own, or TensorFlow would compute equal ones once.
        products = self.layers * (2 if case["estimator"] in ("local", "flipout") else 1)
        self.inputs = [tf.random.normal(self._shape(layer, False)) for layer in products]
        self.upstream = [tf.random.normal(self._shape(layer, True)) for layer in products]
        self.function = tf.function(self._all, autograph=False)

    def step(self) -> None:
        float(self.function())

    def describe(self) -> dict[str, Any]:
        return {"traces": self.function.experimental_get_tracing_count()}

    def _all(self) -> tf.Tensor:
        made = [*self._products(), *self._noise()]
        for (variable, m, v), gradient in zip(self.slots, self.gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=0.9,
                beta2_power=0.999,
                lr=1e-6,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-7,
                grad=gradient,
            )
        self.seed.assign_add([1, 1])
        # One element of each, so that none is left out.
        return tf.add_n([tf.reshape(tensor, [-1])[0] for tensor in made])

    def _products(self) -> list[tf.Tensor]:
        made = []
        for number, (x, g) in enumerate(zip(self.inputs, self.upstream, strict=True)):
            # The first layer has no gradient of its inputs.
            first = number % len(self.layers) == 0
            made += self._layer_products(x, g, self.slots[number][0], first)
        return made

    def _layer_products(
        self, x: tf.Tensor, g: tf.Tensor, kernel: tf.Variable, first: bool
    ) -> list[tf.Tensor]:
        if len(x.shape) == 2:
            made = [tf.matmul(x, kernel), tf.matmul(x, g, transpose_a=True)]
            return made + ([] if first else [tf.matmul(g, kernel, transpose_b=True)])
        options = {"strides": [1, 1, 1, 1], "padding": "SAME"}
        made = [
            tf.nn.conv2d(x, kernel, **options),
            tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=g, **options
            ),
        ]
        if not first:
            made.append(
                tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=x.shape, filter=kernel, out_backprop=g, **options
                )
            )
        return made

    def _noise(self) -> list[tf.Tensor]:
        estimator, made = self.case["estimator"], []
        weights = estimator in ("reparameterization", "flipout") or (
            estimator == "local" and self.case["prior"] == "mixture"
        )
        for number, layer in enumerate(self.layers):
            seed = noise.fold_in(self.seed, number)
            if weights:
                made.append(noise.standard_normal((math.prod(layer.kernel_shape),), seed))
            if estimator == "local":
                made.append(noise.standard_normal((self.upstream[number].shape[:]), seed + 1))
            if estimator == "flipout":
                made += [
                    noise.rademacher(tensor.shape[:1] + tensor.shape[-1:], seed, tf.float32)
                    for tensor in (self.inputs[number], self.upstream[number])
                ]
        return made

    def _shape(self, layer: Any, output: bool) -> tuple[int, ...]:
        batch = self.case["batch"]
        if isinstance(layer, networks.Dense):
            return (batch, layer.units if output else layer.inputs)
        return (batch, layer.size, layer.size, layer.filters if output else layer.channels)
