"""`tfp.layers` on legacy Keras 2, which must be chosen before TensorFlow is imported."""

import math
import os
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import networks
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

tfd = tfp.distributions


class Contender:
    """The network in `tfp.layers`, with `KL / num_examples` given by hand."""

    def __init__(self, case: dict[str, Any]):
        self.case = case
        tf_keras.utils.set_random_seed(0)
        shape = networks.input_shape(case["network"])
        layers = [
            layer
            for one in networks.layers(case["network"], case["width"])
            for layer in self._layers(one)
        ]
        self.model = tf_keras.Sequential([tf_keras.layers.InputLayer(shape), *layers])
        self.model.compile(
            tf_keras.optimizers.Adam(1e-3, jit_compile=case["jit"] == "on"),
            loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=case["jit"] == "on",
        )
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(case["batch"], *shape)).astype("float32")
        labels = rng.integers(0, networks.CLASSES, case["batch"])
        batch = tf.constant(rows), tf.constant(labels)
        self.model.make_train_function()
        self.batches = iter(tf.data.Dataset.from_tensors(batch).repeat())

    def step(self) -> None:
        float(self.model.train_function(self.batches)["loss"])

    def predict(self, rows: np.ndarray) -> None:
        """`num_samples` passes, each with weights of its own, to the mean probabilities."""
        if not hasattr(self, "forward"):
            jit = self.case["jit"] == "on"
            self.forward = tf.function(
                lambda x: tf.nn.softmax(self.model(x)), jit_compile=jit, autograph=False
            )
        size = self.case["batch"]
        for start in range(0, len(rows), size):
            batch = tf.constant(rows[start : start + size])
            total = 0.0
            for _ in range(self.case["num_samples"]):
                total += self.forward(batch)
            (total / self.case["num_samples"]).numpy()

    def describe(self) -> dict[str, Any]:
        return {"tf_keras": tf_keras.__version__, "tensorflow_probability": tfp.__version__}

    def _layers(self, layer: Any) -> list[Any]:
        suffix = networks.SUFFIXES[self.case["estimator"]]
        options = {
            "kernel_divergence_fn": self._divergence,
            **({"kernel_prior_fn": _mixture} if self.case["prior"] == "mixture" else {}),
        }
        if isinstance(layer, networks.Dense):
            flatten = [tf_keras.layers.Flatten()] if layer.inputs == 7 * 7 * 64 else []
            activation = None if layer.last else "relu"
            make = getattr(tfp.layers, "Dense" + suffix)
            return [*flatten, make(layer.units, activation=activation, **options)]
        make = getattr(tfp.layers, "Convolution2D" + suffix)
        made = make(layer.filters, layer.kernel, padding="same", activation="relu", **options)
        return [made, tf_keras.layers.MaxPooling2D()]

    def _divergence(self, posterior: Any, prior: Any, draw: Any) -> tf.Tensor:
        del draw
        if self.case["prior"] == "normal":
            return tfd.kl_divergence(posterior, prior) / networks.EXAMPLES
        # TFP knows no closed form; its users write this.
        sample = posterior.sample()
        return (posterior.log_prob(sample) - prior.log_prob(sample)) / networks.EXAMPLES


def _mixture(dtype: Any, shape: Any, name: Any, trainable: Any, add_variable: Any) -> Any:
    del name, trainable, add_variable
    components = tfd.Normal(tf.zeros(2, dtype), tf.constant([1.0, math.exp(-6)], dtype))
    one = tfd.MixtureSameFamily(tfd.Categorical(probs=[0.25, 0.75]), components)
    return tfd.Independent(tfd.Sample(one, shape), 0)
