"""Translator: collects the operations of a network while its layers are gone through."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tfbnn.export.c_source.abstract_answer import AbstractAnswer
from tfbnn.export.c_source.answer_text import answer_of
from tfbnn.export.c_source.arrangement import Load
from tfbnn.export.c_source.geometry import Window
from tfbnn.export.c_source.linear import Linear, Weights
from tfbnn.export.c_source.program import AbstractOperation, Storage, Value
from tfbnn.export.c_source.weights import encoded
from tfbnn.export.variances import factorise
from tfbnn.layers import records
from tfbnn.layers.activation_order import delayed_activations
from tfbnn.layers.steps import Step, Steps
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.weights.families import Weight


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the caller of the exporter chose; see `tfbnn.export.c`."""

    uncertainty: str = "moments"
    precision: str = "float32"
    scale: str = "full"
    num_points: int = 64
    input_type: str = "float32"

    @property
    def is_random(self) -> bool:
        """Whether the weights have variances."""
        return self.uncertainty == "moments"


class Translator:
    """The operations so far, and the value of each part of the network."""

    def __init__(self, steps: Steps, likelihood: AbstractLikelihood, settings: Settings):
        shape = steps.input.shape[1:]
        if None in shape:
            raise ValueError(
                "C code needs to know all sizes: give `keras.Input` a shape without None. "
                f"Received: an input of shape {shape}"
            )
        self.start = Value(shape, Storage(int(np.prod(shape)), is_callers=True))
        self.operations: list[AbstractOperation] = []
        self._steps = steps
        self._likelihood = likelihood
        self._answer = answer_of(likelihood)
        self._settings = settings
        self._values = {steps.input: self.start}
        self._weights: dict[Any, Weights] = {}
        self._names: dict[Any, str] = {}
        self._ending: str | None = None
        self._delayed = delayed_activations(steps)
        self._waiting: dict[Step, Callable[[Value, Value], AbstractOperation]] = {}
        if settings.input_type == "uint8":
            loaded = Value.new(shape, is_random=False)
            self.operations.append(Load(self.start, loaded))
            self._values[steps.input] = loaded

    def inputs(self, step: Step) -> list[Value]:
        """The values that a step reads."""
        return [self._values[value] for value in step.inputs]

    def only_input(self, step: Step) -> Value:
        """The one value that a step reads."""
        return self._values[step.inputs[0]]

    def append(self, step: Step, operation: AbstractOperation) -> None:
        """Append an operation; its output is what the step has computed so far."""
        self.operations.append(operation)
        self._values[step.output] = operation.output

    def same(self, step: Step) -> None:
        """Let a step start with its (first) input, in its own shape."""
        value = self.only_input(step)
        self._values[step.output] = Value(step.output.shape[1:], value.storage)

    def elementwise(self, step: Step, make: Callable[[Value, Value], AbstractOperation]) -> None:
        """Append `make(value, output)` to what the step has computed so far."""
        if step in self._delayed:
            self._waiting[self._delayed[step]] = make
            return
        value = self._values[step.output]
        self.append(step, make(value, Value.new(value.shape, value.is_random)))

    def pool(self, step: Step, pooling: AbstractOperation) -> None:
        """Append a pooling, and the activation that waits for it."""
        self.append(step, pooling)
        if step in self._waiting:
            self.elementwise(step, self._waiting.pop(step))

    def linear(self, record: records.Linear, window: Window | None) -> None:
        """Append the linear part of a layer."""
        step, value = record.step, self.only_input(record.step)
        is_random = value.is_random or (self._settings.is_random and record.is_variational)
        output = Value.new(step.output.shape[1:], is_random)
        # A layer may be called twice, with inputs of two shapes.
        name = f"linear_{len(self.operations)}"
        shapes = " -> ".join("x".join(map(str, v.shape)) for v in (value, output))
        title = f"{step.name}: {shapes}"
        weights = self._weights_of(record)
        self.append(step, Linear(value, output, name, step.layer.name, title, weights, window))

    def ends_in(self, step: Step, activation: str) -> bool:
        """Whether a step is the last and its activation one that the answer applies."""
        return step.output is self._steps.output and activation in self._answer.endings

    def end_with(self, activation: str) -> None:
        """Leave the last activation to the answer, which applies it at each point."""
        self._ending = activation

    def answer(self) -> AbstractAnswer:
        """The last operation.

        Raises:
            ValueError: If random outputs are to be probabilities and no activation makes them so.
        """
        value = self._values[self._steps.output]
        likelihood = self._likelihood
        bounded = getattr(likelihood, "from_logits", True) or self._ending is not None
        if value.is_random and not bounded:
            raise ValueError(
                "With `uncertainty='moments'` a network of classes must end in a softmax or "
                "sigmoid, or be trained with `from_logits=True`. Received: a loss with "
                f"from_logits=False and a last layer {self._steps.steps[-1].name}"
            )
        return self._answer(value, likelihood, self._ending, self._settings.num_points)

    def name_of(self, layer: Any) -> str:
        """Beginning of the names of a layer's arrays."""
        return self._names.setdefault(layer, f"layer_{len(self._names)}")

    def _weights_of(self, record: records.Linear) -> Weights:
        layer, settings = record.layer, self._settings
        if layer in self._weights:
            return self._weights[layer]
        (loc, scale), (bias, bias_scale) = _law(layer.kernel), _law(layer.bias)
        if not settings.is_random:
            scale = bias_scale = None
        loc, factorised = loc.reshape(-1, record.units), None
        scale = None if scale is None else scale.reshape(loc.shape)
        if scale is not None and settings.scale != "full":
            scale, factorised = None, factorise(scale, settings.scale)
        self._weights[layer] = Weights(
            self.name_of(layer),
            encoded(loc, scale, settings.precision, record.groups),
            settings.precision,
            factorised,
            None if bias is None else bias.astype(np.float32),
            None if bias_scale is None else np.square(bias_scale, dtype=np.float32),
        )
        return self._weights[layer]


def _law(weight: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Mean and standard deviation of a kernel or a bias, each None if there is none."""
    if isinstance(weight, Weight):
        return weight.loc.numpy(), weight.scale.numpy() if weight.is_random else None
    return None if weight is None else np.asarray(weight, np.float32), None
