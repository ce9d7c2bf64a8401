"""Deterministic Keras 3. `update` is Keras' own or the fast one that tfbnn uses."""

from typing import Any

import keras
import networks
import numpy as np
import tensorflow as tf
from contenders import devices


class Contender:
    """A Keras model, its training step and its predictions."""

    def __init__(self, case: dict[str, Any], strategy: tf.distribute.Strategy | None = None):
        self.case = case
        strategy = strategy or devices.strategy(case)
        keras.config.set_dtype_policy(case.get("precision", "float32"))
        keras.utils.set_random_seed(0)
        shape = networks.input_shape(case["network"])
        layers = [
            layer
            for one in networks.layers(case["network"], case["width"])
            for layer in self.keras_layers(one)
        ]
        with strategy.scope():
            self.model = self.model_class()([keras.Input(shape), *layers])
            self.model.compile(
                self.optimizer(),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile={"on": True, "off": False, "default": "auto"}[case["jit"]],
            )
        rng = np.random.default_rng(0)
        self.rows = rng.normal(size=(case["batch"], *shape)).astype("float32")
        self.labels = rng.integers(0, networks.CLASSES, case["batch"])
        self.prepare_training()
        self._count_traces()
        self.model.make_train_function()
        batch = (tf.constant(self.rows), tf.constant(self.labels))
        if case.get("devices", 1) > 1:
            # As `fit` does: the variables of the metrics cannot be made on replicas.
            with strategy.scope():
                self.model._symbolic_build(data_batch=batch)
        batches = tf.data.Dataset.from_tensors(batch).repeat()
        self.batches = iter(strategy.experimental_distribute_dataset(batches))

    def model_class(self) -> Any:
        if self.case.get("update") != "fast":
            return keras.Sequential
        from tfbnn.training.updates import apply_gradients

        class FastUpdate(keras.Sequential):
            def train_step(self, data: Any) -> dict[str, Any]:
                x, y = data
                with tf.GradientTape() as tape:
                    outputs = self(x, training=True)
                    loss = self.compute_loss(y=y, y_pred=outputs)
                gradients = tape.gradient(loss, self.trainable_weights)
                apply_gradients(self.optimizer, gradients, self.trainable_weights)
                self._loss_tracker.update_state(loss)
                return self.compute_metrics(x, y, outputs)

        return FastUpdate

    def optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(1e-3)

    def prepare_training(self) -> None:
        """Whatever must be set before the first step."""

    def keras_layers(self, layer: Any) -> list[Any]:
        if isinstance(layer, networks.Dense):
            flatten = [keras.layers.Flatten()] if layer.inputs == 7 * 7 * 64 else []
            activation = None if layer.last else "relu"
            return [*flatten, self.dense(layer.units, activation)]
        return [self.convolution(layer.filters, layer.kernel), keras.layers.MaxPooling2D()]

    def dense(self, units: int, activation: str | None) -> Any:
        return keras.layers.Dense(units, activation=activation)

    def convolution(self, filters: int, kernel: int) -> Any:
        return keras.layers.Conv2D(filters, kernel, padding="same", activation="relu")

    def step(self) -> None:
        float(self.model.train_function(self.batches)["loss"])

    def fit(self, steps: int) -> None:
        """`steps` steps by way of `fit`."""
        rows = np.concatenate([self.rows] * steps)
        labels = np.concatenate([self.labels] * steps)
        self.model.fit(rows, labels, batch_size=len(self.rows), epochs=1, verbose=0)

    def predict(self, rows: np.ndarray) -> None:
        """One pass over `rows`."""
        if not hasattr(self, "forward"):
            jit = self.case["jit"] == "on"
            self.forward = tf.function(
                lambda x: self.model(x, training=False), jit_compile=jit, autograph=False
            )
        size = self.case["batch"]
        for start in range(0, len(rows), size):
            self.forward(tf.constant(rows[start : start + size])).numpy()

    def describe(self) -> dict[str, Any]:
        return {
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
            "traces": self.traces,
        }

    def _count_traces(self) -> None:
        """TensorFlow runs the Python of a step once for each trace."""
        self.traces, step = 0, self.model.train_step

        def counted(data: Any) -> Any:
            self.traces += 1
            return step(data)

        self.model.train_step = counted
