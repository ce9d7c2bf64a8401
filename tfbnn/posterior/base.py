"""The waist between what was learnt and what is done with it."""

import abc
from typing import Any

import keras
import tensorflow as tf

from tfbnn.training.likelihoods import AbstractLikelihood
from tfbnn.weights import noise
from tfbnn.weights.tracing import traced


def mask_of(output: tf.Tensor) -> tf.Tensor | None:
    """The Keras mask of an output: True where a step counts; None if all do."""
    return getattr(output, "_keras_mask", None)


class AbstractPosterior(abc.ABC):
    """A law over networks: one Keras model, some of whose variables are random.

    A draw is the values of `variables`: one network, which serves every batch. Other layers run
    as in inference (Dropout off, BatchNormalization with its moving statistics).

    Args:
        model: A built Keras model.
        likelihoods: One for each output of the model.
    """

    def __init__(self, model: keras.Model, likelihoods: list[AbstractLikelihood]):
        self.model = model
        self.likelihoods = likelihoods

    @property
    @abc.abstractmethod
    def variables(self) -> list[keras.Variable]:
        """The variables that a draw gives values to."""

    @abc.abstractmethod
    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        """One value for each of `variables`: one network. The same seed gives the same network.

        Args:
            seed: An integer tensor of shape `(2,)`.
        """

    @abc.abstractmethod
    def mean(self) -> list[tf.Tensor]:
        """The mean of each of `variables`."""

    def stddev(self) -> list[tf.Tensor] | None:
        """The standard deviation of each element, where the law is Gaussian and independent."""
        return None

    def draws(self, seed: tf.Tensor, first: int, count: int) -> list[tf.Tensor]:
        """Draws number `first` to `first + count - 1` of the series that starts at `seed`.

        Returns:
            For each of `variables` a tensor `(count, *variable.shape)`. A draw depends on its
            number and the seed alone, not on how the series is cut.
        """
        return self._draws(seed, tf.range(first, first + count))

    def outputs(self, draws: list[tf.Tensor], inputs: Any) -> Any:
        """The outputs of several networks for one batch.

        Args:
            draws: What `draws` gave.
            inputs: A batch, in the structure that the model takes.

        Returns:
            The model's outputs with a leading axis: `(count, batch, ...)`. As those of `network`
            they carry their Keras masks, which have the same leading axis.
        """
        outputs, masks = self._outputs(draws, inputs)
        for output, mask in zip(tf.nest.flatten(outputs), masks, strict=True):
            if mask is not None:
                output._keras_mask = mask
        return outputs

    def network(self, values: list[tf.Tensor], inputs: Any) -> Any:
        """The outputs `(batch, ...)` of the network that `values` stand for, with Keras' masks."""
        mapping = list(zip(self.variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return self.model(inputs, training=False)

    def largest_tensor(self, inputs: Any) -> int:
        """Size in bytes of the largest tensor that one network computes for a batch."""
        function = self._cached("network", self.network)
        graph = function.get_concrete_function(self.mean(), inputs).graph
        tensors = [tensor for op in graph.get_operations() for tensor in op.outputs]
        return max(
            tensor.shape.num_elements() * tensor.dtype.size
            for tensor in tensors
            if tensor.shape.is_fully_defined()
        )

    # One traced function for each posterior object and shape of the inputs.

    @property
    def _draws(self) -> Any:
        return self._cached("draws", self._map_draw)

    @property
    def _outputs(self) -> Any:
        return self._cached("outputs", self._map_network)

    def _map_draw(self, seed: tf.Tensor, numbers: tf.Tensor) -> list[tf.Tensor]:
        signature = [tf.TensorSpec(v.shape, v.dtype) for v in self.variables]
        return tf.map_fn(
            lambda number: self.draw(noise.fold_in(seed, number)),
            numbers,
            fn_output_signature=signature,
        )

    def _map_network(self, draws: list[tf.Tensor], inputs: Any) -> tuple[Any, list[Any]]:
        """The outputs, and the mask of each or None: the map would drop what hangs on a tensor."""
        masks: list[Any] = []

        def network(values: list[tf.Tensor]) -> tuple[Any, list[tf.Tensor]]:
            outputs = self.network(values, inputs)
            masks[:] = [mask_of(output) for output in tf.nest.flatten(outputs)]
            return outputs, [mask for mask in masks if mask is not None]

        # Operations that cannot be vectorised (Conv3D) are looped over, without a warning for each.
        outputs, mapped = tf.vectorized_map(network, draws, warn=False)
        rest = iter(mapped)
        return outputs, [None if mask is None else next(rest) for mask in masks]

    def _cached(self, name: str, function: Any) -> Any:
        functions = self.__dict__.setdefault("_functions", {})
        if name not in functions:
            functions[name] = traced(function, reduce_retracing=True)
        return functions[name]
