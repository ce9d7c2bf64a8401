"""The waist between what was learnt and what is done with it.

| class | what it adds | who asks for it |
|---|---|---|
| `AbstractPosterior` | draws of networks, and their outputs | scores, files that hold draws |
| `AbstractRandomNetwork` | one Keras model, of which some numbers are random | files that draw |
| `AbstractRandomVariables` | these numbers are variables of it | routes |
| `AbstractFiniteNetworks` | all draws that there are | routes |
| `gaussian.AbstractGaussianPosterior` | the law of each weight | moments, pruning, C |
"""

import abc
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.activity import recorded
from tfbnn.layers.keras_internals import mask_of, put_mask, variables_as
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior import files
from tfbnn.training.plain_models import check_built
from tfbnn.weights import noise
from tfbnn.weights.tracing import traced


class AbstractPosterior(abc.ABC):
    """A law over networks that have the same inputs and outputs.

    A draw is one network, which serves every batch. Layers that are not random run as in inference
    (Dropout off, BatchNormalization with its moving statistics).

    Args:
        model: A built Keras model, which stands for all networks: its inputs, outputs and names are
            theirs.
        likelihoods: One for each output of the model.

    Raises:
        ValueError: If the model is not built, or has no likelihood.

    Attributes:
        route: The name of the kind of posterior, in manifests and files.
        num_draws: Number of networks of a law that has finitely many, all as likely; None of one
            that has not. Where there are `num_draws`, no more are drawn, and these are all.
    """

    route: str
    num_draws: int | None = None

    def __init__(self, model: keras.Model, likelihoods: list[AbstractLikelihood]):
        check_built(model)
        if not likelihoods:
            raise ValueError(
                "The model has no likelihood: call `compile(loss=...)` first. "
                f"Received: model={model.name!r}"
            )
        self.model = model
        self.likelihoods = likelihoods

    @abc.abstractmethod
    def draws(self, seed: tf.Tensor, first: int, count: int) -> Any:
        """Draws number `first` to `first + count - 1` of the series that starts at `seed`.

        Args:
            seed: An integer tensor of shape `(2,)`.
            first: Number of the first draw.
            count: Number of draws.

        Returns:
            What `outputs` and `networks` take. A draw depends on its number and the seed alone, not
            on how the series is cut.
        """

    @abc.abstractmethod
    def outputs(self, draws: Any, inputs: Any) -> Any:
        """The outputs of several networks for one batch.

        Args:
            draws: What `draws` gave.
            inputs: A batch, in the structure that the model takes.

        Returns:
            The model's outputs with a leading axis: `(count, batch, ...)`. As those of `network`
            they carry their Keras masks, which have the same leading axis.
        """

    @abc.abstractmethod
    def networks(self, draws: Any) -> list[Any]:
        """The networks of some draws, one by one, each as `network` takes it."""

    @abc.abstractmethod
    def network(self, values: Any, inputs: Any) -> Any:
        """The outputs `(batch, ...)` of one network, with Keras' masks."""

    def activations(self, values: Any, inputs: Any, layers: Sequence[str]) -> list[tf.Tensor]:
        """What the layers of these names give in one network, `(batch, ...)` each."""
        with recorded(self.model, layers) as found:
            self.network(values, inputs)
        return found.outputs

    @abc.abstractmethod
    def mean(self) -> Any | None:
        """The network at the mean of what is random, or None where there is none such."""

    def as_model(self) -> keras.Model:
        """A Keras model that computes the network at the mean, where there is one."""
        return self.model

    def with_laws(self) -> Any | None:
        """The same law of networks as independent normal weights of a model of tfbnn, or None.

        An `AbstractGaussianPosterior` is its own. A route whose weights belong to a plain Keras
        model gives here a copy of it, whose layers hold them: then it is pruned and shipped.
        """
        return None

    def representative(self) -> Any:
        """A network of the law, for what all have in common: shapes and sizes."""
        mean = self.mean()
        return self.networks(self.draws(noise.as_seed(0), 0, 1))[0] if mean is None else mean

    @property
    @abc.abstractmethod
    def draw_bytes(self) -> int:
        """Size of one draw in bytes."""

    @property
    def example_rows(self) -> np.ndarray | None:
        """Some rows of what was learnt from, or None if none are known."""
        return getattr(self.model, "example_rows", None)

    def describe(self) -> dict[str, Any]:
        """What a manifest says of the posterior, plain values by name."""
        return {"model": self.model.name, "posterior": self.route}

    @property
    def temperatures(self) -> list[tuple[float, float]]:
        """Of the draws and of the mean, for each likelihood that predictions are made by."""
        return [(one.temperature, one.mean_temperature) for one in self.likelihoods]

    @property
    def models(self) -> list[keras.Model]:
        """The Keras models that compute its networks."""
        return [self.model]

    @property
    def parts(self) -> list[Any]:
        """The Keras models, or the posteriors, that a file of the posterior is made of."""
        return [self.model]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a file of the posterior holds beside its parts, NumPy arrays by name."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """What `from_parts` needs beside the parts: plain values, and objects that Keras saves."""
        return {}

    @classmethod
    def from_parts(
        cls, parts: list[Any], config: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> Self:
        """The posterior that has given `parts`, `get_config()` and `arrays`.

        They are arguments of the class, the latter two by name, unless a route says otherwise.
        """
        return cls(*parts, **config, **arrays)

    def save(self, path: Any) -> None:
        """Write the posterior to a file, which `tfbnn.load_posterior` reads.

        Args:
            path: Where to write; a file that is there is replaced.

        Raises:
            OSError: If the file cannot be written; what was there is as it was.

        Example:

        >>> import keras, os, tempfile, tfbnn
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> path = os.path.join(tempfile.mkdtemp(), "map.posterior")
        >>> tfbnn.posteriors.MAP(model).save(path)
        >>> type(tfbnn.load_posterior(path)).__name__
        'MAP'
        """
        files.write(path, self)

    def largest_tensor(self, inputs: Any) -> int:
        """Size in bytes of the largest tensor that one network computes for a batch."""
        function = self._cached("network", self.network)
        graph = function.get_concrete_function(self.representative(), inputs).graph
        tensors = [tensor for op in graph.get_operations() for tensor in op.outputs]
        return max(
            tensor.shape.num_elements() * tensor.dtype.size
            for tensor in tensors
            if tensor.shape.is_fully_defined()
        )

    def _cached(self, name: str, function: Any) -> Any:
        """One traced function for each posterior object and shape of the inputs."""
        functions = self.__dict__.setdefault("_functions", {})
        if name not in functions:
            functions[name] = traced(function, reduce_retracing=True)
        return functions[name]


class AbstractRandomNetwork(AbstractPosterior):
    """One Keras model, of which some numbers are random: a draw is their values.

    Every network of the law is the same computation, so many of them are computed at once.
    """

    @property
    @abc.abstractmethod
    def random(self) -> list[tf.TensorSpec]:
        """Shape and type of each tensor that a draw gives a value."""

    @abc.abstractmethod
    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        """One value for each of `random`: one network. The same seed gives the same network.

        Args:
            seed: An integer tensor of shape `(2,)`.
        """

    @property
    def draw_bytes(self) -> int:
        return sum(spec.shape.num_elements() * spec.dtype.size for spec in self.random)

    def draws(self, seed: tf.Tensor, first: int, count: int) -> list[tf.Tensor]:
        """A tensor `(count, ...)` for each of `random`."""
        return self._cached("draws", self._map_draw)(seed, tf.range(first, first + count))

    def outputs(self, draws: list[tf.Tensor], inputs: Any) -> Any:
        # TensorFlow's map takes one network alone for a constant, and adds biases to wrong axes.
        mapped = self._one_network if len(draws[0]) == 1 else self._map_network
        outputs, masks = self._cached(mapped.__name__, mapped)(draws, inputs)
        for output, mask in zip(tf.nest.flatten(outputs), masks, strict=True):
            put_mask(output, mask)
        return outputs

    def networks(self, draws: list[tf.Tensor]) -> list[list[tf.Tensor]]:
        return [list(values) for values in zip(*map(tf.unstack, draws), strict=True)]

    def _map_draw(self, seed: tf.Tensor, numbers: tf.Tensor) -> list[tf.Tensor]:
        return tf.map_fn(
            lambda number: self.draw(noise.fold_in(seed, number)),
            numbers,
            fn_output_signature=self.random,
        )

    def _one_network(self, draws: list[tf.Tensor], inputs: Any) -> tuple[Any, list[Any]]:
        outputs = self.network([one[0] for one in draws], inputs)
        masks = [mask_of(output) for output in tf.nest.flatten(outputs)]
        outputs = tf.nest.map_structure(lambda output: output[tf.newaxis], outputs)
        return outputs, [None if mask is None else mask[tf.newaxis] for mask in masks]

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


class AbstractRandomVariables(AbstractRandomNetwork):
    """One Keras model, of which some variables are random."""

    @property
    @abc.abstractmethod
    def variables(self) -> list[keras.Variable]:
        """The variables that a draw gives values to."""

    @property
    def random(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec(variable.shape, variable.dtype) for variable in self.variables]

    def network(self, values: list[tf.Tensor], inputs: Any) -> Any:
        mapping = list(zip(self.variables, values, strict=True))
        with variables_as(mapping):
            return self.model(inputs, training=False)


class AbstractFiniteNetworks(AbstractRandomNetwork):
    """One Keras model that is finitely many networks, all as likely.

    Which numbers of the model a draw gives is said as ever: where they are variables, a route is
    an `AbstractRandomVariables` as well.
    """

    @property
    @abc.abstractmethod
    def all_draws(self) -> list[tf.Tensor]:
        """A tensor `(num_draws, ...)` for each of `random`: every network that there is."""

    @property
    def num_draws(self) -> int:
        return len(self.all_draws[0])

    @property
    def random(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec(values.shape[1:], values.dtype) for values in self.all_draws]

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        number = tf.math.floormod(noise.fold_in(seed, 0)[0], self.num_draws)
        return [values[number] for values in self.all_draws]

    def draws(self, seed: tf.Tensor, first: int, count: int) -> list[tf.Tensor]:
        del seed
        # In a mixture with endless laws it is gone through again and again.
        numbers = tf.range(first, first + count) % self.num_draws
        return [tf.gather(values, numbers) for values in self.all_draws]

    def mean(self) -> list[tf.Tensor] | None:
        return None
