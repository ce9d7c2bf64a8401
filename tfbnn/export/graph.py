"""Graph: what a LiteRT file computes, for each way of being uncertain.

| mode | networks | noise |
|---|---|---|
| `moments` | all, by their mean and variance | none: one pass, and the same answer each time |
| `monte_carlo` | some, drawn at each call | in the file |
| `ensemble` | some, drawn when the file is written | none |
| `none` | the one at the posterior mean | none |

All modes have the same outputs by name.
"""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.export import bits
from tfbnn.export.freeze import (
    EnsembleRule,
    FrozenModel,
    MeanRule,
    MomentsRule,
    MonteCarloRule,
    count_calls,
    freeze,
)
from tfbnn.layers.precision import in_float32
from tfbnn.layers.random_maps import RandomMap
from tfbnn.layers.scopes import forward_rule
from tfbnn.layers.steps import steps_of
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.prediction.answers import answer
from tfbnn.prediction.moments import outputs_at_points
from tfbnn.weights.tracing import traced

MODES = ("moments", "monte_carlo", "ensemble", "none")


@dataclasses.dataclass(frozen=True)
class Graph:
    """What a file is to compute.

    Attributes:
        posterior: The law over networks.
        mode: One of `MODES`.
        shape: Shape of the inputs, the rows of one call first.
        num_samples: Networks of `monte_carlo` and `ensemble`; points of `moments`.
        scale: How variances are stored; see `tfbnn.export.variances`.
        seed: Of the networks of an `ensemble`.
        input_type: `"float32"` or `"uint8"`.
        preprocessing: What the file does to its inputs before the model, or None.
    """

    posterior: AbstractPosterior
    mode: str
    shape: tuple[int, ...]
    num_samples: int
    scale: str = "full"
    seed: int = 0
    input_type: str = "float32"
    preprocessing: Callable[[tf.Tensor], tf.Tensor] | None = None

    def module(self) -> tf.Module:
        """A module whose `serve` is the graph, all weights constant."""
        module = tf.Module()
        signature = [tf.TensorSpec(self.shape, self.input_type, name="inputs")]
        # Read here, as a traced function cannot.
        frozen = freeze(self.posterior, self.scale)
        one_row = np.zeros((1, *self.shape[1:]), np.float32)
        calls = count_calls(self.posterior, one_row) if self.mode == "monte_carlo" else Counter()
        values = [(v, v.numpy()) for v in self.posterior.model.weights]

        def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            with _constant(self.posterior.model, values):
                outputs = self._outputs(self.prepared(inputs), frozen, calls)
                return answer(self.posterior.likelihoods[0], outputs)

        module.serve = traced(serve, input_signature=signature)
        return module

    def with_rows(self, count: int) -> "Graph":
        """The same for another number of rows in a call."""
        return dataclasses.replace(self, shape=(count, *self.shape[1:]))

    def prepared(self, inputs: tf.Tensor) -> tf.Tensor:
        """What the model gets of the inputs of the file."""
        inputs = tf.cast(inputs, tf.float32)
        return inputs if self.preprocessing is None else self.preprocessing(inputs)

    def needed_bits(self, rows: np.ndarray) -> dict[RandomMap, int]:
        """Bits that each kernel needs; see `tfbnn.export.bits`."""
        prepared = self.prepared(tf.constant(rows.astype(self.input_type)))
        return bits.needed(self.posterior, freeze(self.posterior, self.scale), prepared)

    def _outputs(self, inputs: tf.Tensor, frozen: FrozenModel, calls: Counter) -> tf.Tensor:
        """Outputs of the networks, `(networks, rows, ...)`."""
        if self.mode == "moments":
            steps = steps_of(self.posterior.model)
            return outputs_at_points(steps, inputs, MomentsRule(frozen), self.num_samples)
        count = 1 if self.mode == "none" else self.num_samples
        if count > 1 and not _is_chain(self.posterior.model):
            # Where paths meet, one may have passed a random layer and the other not.
            inputs = tf.tile(inputs, [count] + [1] * (len(self.shape) - 1))
        with forward_rule(self._rule(frozen, calls)):
            outputs = self.posterior.model(inputs, training=False)
        return tf.reshape(outputs, (count, self.shape[0], *outputs.shape[1:]))

    def _rule(self, frozen: FrozenModel, calls: Counter) -> Any:
        # A rule holds the draws of one graph, so each trace has its own.
        if self.mode == "none":
            return MeanRule(frozen)
        if self.mode == "ensemble":
            return EnsembleRule(frozen, self.num_samples, self.shape[0], self.seed)
        return MonteCarloRule(frozen, self.num_samples, self.shape[0], calls)


@contextlib.contextmanager
def _constant(
    model: keras.Model, values: list[tuple[keras.Variable, np.ndarray]]
) -> Iterator[None]:
    """All variables of the model as constants, all layers in float32."""
    # The converter drops the names of the outputs if the graph reads variables.
    constants = [(variable, tf.constant(value)) for variable, value in values]
    with keras.StatelessScope(state_mapping=constants), in_float32(model):
        yield


def _is_chain(model: keras.Model) -> bool:
    """Whether every layer reads the one before it alone."""
    try:
        return all(len(step.inputs) == 1 for step in steps_of(model))
    except ValueError:
        return False
