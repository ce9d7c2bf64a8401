"""Recording: what goes into the linear parts of a network, and the gradient of what comes out.

Within a block the layers themselves say what they are called with, whatever calls them: nothing is
known of the model around. Its function must be traced with an unknown number of rows.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfbnn.layers.overriding import overridden
from tfbnn.posterior.laplace.linear_parts import AbstractLinearPart, EmbeddingPart
from tfbnn.posterior.laplace.operands import AbstractOperand, OneHot, Rows


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
        part: Its linear part.
        inputs: What it was called with.
        outputs: What comes out before the activation; a tape watches it.
    """

    part: AbstractLinearPart
    inputs: tf.Tensor
    outputs: tf.Tensor


class Recording:
    """What is recorded within a block, in the order of the calls.

    Attributes:
        calls: The calls.
        in_loops: Parts that were called inside a loop, of which nothing is seen.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.in_loops: list[AbstractLinearPart] = []
        self._graph = tf.compat.v1.get_default_graph()

    @property
    def outputs(self) -> list[tf.Tensor]:
        """What comes out of each call."""
        return [call.outputs for call in self.calls]

    def of(self, part: AbstractLinearPart) -> list[int]:
        """The numbers of the calls of a part."""
        return [number for number, call in enumerate(self.calls) if call.part is part]

    def add(self, part: AbstractLinearPart, inputs: tf.Tensor, outputs: tf.Tensor) -> None:
        """Note a call."""
        if tf.compat.v1.get_default_graph() is self._graph:
            self.calls.append(Call(part, inputs, outputs))
        else:
            self.in_loops.append(part)

    def operand(
        self, part: AbstractLinearPart, num_rows: tf.Tensor, most_places: int | None = None
    ) -> AbstractOperand:
        """What the weights of a part are multiplied with, in all its calls.

        Args:
            part: The part.
            num_rows: Number of rows.
            most_places: How many places are enough, which are those of the first rows; None: all.
        """
        calls = [self.calls[number] for number in self.of(part)]
        if isinstance(part, EmbeddingPart):
            flat = [tf.reshape(part.places(call.inputs), (num_rows, -1)) for call in calls]
            return OneHot(part.shape, tf.concat(flat, axis=1))
        if most_places is not None:
            numbers = tf.add_n([tf.size(call.outputs) for call in calls])
            places = numbers // (num_rows * part.shape[0] * part.shape[2])
            num_rows = tf.clip_by_value(most_places // places, 1, num_rows)
        found = [part.places(call.inputs[:num_rows]) for call in calls]
        tail = found[0].shape[-2:]
        flat = [tf.reshape(one, (num_rows, -1, *tail)) for one in found]
        return Rows(part.shape, tf.concat(flat, axis=1))

    def gradients(
        self, part: AbstractLinearPart, by_call: Sequence[tf.Tensor], num_rows: tf.Tensor
    ) -> tf.Tensor:
        """Gradients `(columns, ...)` of each call's outputs, as operands take them."""
        groups, _, size = part.shape
        found = []
        for number in self.of(part):
            given = by_call[number]
            columns = tf.shape(given)[0]
            merged = tf.reshape(given, tf.concat([[-1], tf.shape(given)[2:]], axis=0))
            merged = tf.ensure_shape(merged, [None, *given.shape[2:]])
            columns_of = part.columns(tf.cast(merged, tf.float32))
            found.append(tf.reshape(columns_of, (columns, num_rows, -1, groups, size)))
        return tf.concat(found, axis=2)


@contextlib.contextmanager
def recorded(
    parts: Sequence[AbstractLinearPart], tape: tf.GradientTape, num_rows: tf.Tensor
) -> Iterator[Recording]:
    """Within this block calls of the layers of `parts` are recorded.

    Args:
        parts: Linear parts of different layers.
        tape: Watches what comes out of them.
        num_rows: Number of rows of the batch.
    """
    recording = Recording()
    with contextlib.ExitStack() as stack:
        for part in parts:
            call = _recording_call(part, recording, tape, num_rows)
            stack.enter_context(overridden(part.layer, call=call))
        yield recording


def _recording_call(
    part: AbstractLinearPart, recording: Recording, tape: tf.GradientTape, num_rows: tf.Tensor
) -> Callable:
    def call(inputs: tf.Tensor, *args: Any, **kwargs: Any) -> tf.Tensor:
        inputs = _for_each_row(tf.convert_to_tensor(inputs), num_rows)
        # An operation of its own, so that the last one before an output can be told from others.
        outputs = tf.identity(part.before_activation(inputs, *args, **kwargs))
        tape.watch(outputs)
        recording.add(part, inputs, outputs)
        return part.activated(outputs)

    return call


def _for_each_row(inputs: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    """Inputs that are the same for all rows, such as positions, once for each row.

    The gradient of a row is then its own. They are those whose first axis has a size.
    """
    if inputs.shape.rank is None or (inputs.shape.rank and inputs.shape[0] is None):
        return inputs
    if not inputs.shape.rank or inputs.shape[0] != 1:
        inputs = inputs[tf.newaxis]
    return tf.repeat(inputs, num_rows, axis=0)
