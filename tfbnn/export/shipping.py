"""Shipping: what every target does around writing a file, once.

check -> write to a temporary place -> run -> compare with the posterior -> manifest -> in place
"""

import abc
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.export import manifest, modes
from tfbnn.export.agreement import Agreement, Answers
from tfbnn.export.files import written_whole
from tfbnn.export.laws import as_stored
from tfbnn.export.options import Inputs, Storage, inputs_of, storage_of
from tfbnn.export.rows import Signature
from tfbnn.layers.keras_internals import all_layers, variables_as
from tfbnn.layers.precision import in_float32
from tfbnn.layers.steps import steps_of
from tfbnn.lite_rules import Rule
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.gaussian import gaussian
from tfbnn.posterior.routes import posterior_of
from tfbnn.prediction.sampling import outputs_of
from tfbnn.training.data import check_arrays
from tfbnn.weights.tracing import traced

# Epsilon of the type a mixed-precision model computes in, five times: a file is in float32.
_KERAS_TOLERANCES = {"float16": 5e-3, "bfloat16": 4e-2}


@dataclasses.dataclass(frozen=True)
class Shipment:
    """What a file is to compute, and what is known of it.

    Attributes:
        given: What was handed over.
        posterior: The law over networks: what was given, or the laws of its weights.
        mode: How the file is uncertain.
        storage: How its numbers are stored.
        inputs: What it takes.
        signature: Its inputs and outputs by name.
        rows: Rows of each input to compare on, as the file takes them.
        tolerance: Largest accepted difference of a prediction.
        class_names: Names of the classes, or None.
    """

    given: AbstractPosterior
    posterior: AbstractPosterior
    mode: modes.AbstractMode
    storage: Storage
    inputs: Inputs
    signature: Signature
    rows: list[np.ndarray]
    tolerance: float
    class_names: list[str] | None

    @functools.cached_property
    def prepared(self) -> Any:
        """What the model gets of `rows`, in the structure that it takes."""
        rows = [one.astype(self.inputs.type) for one in self.rows]
        return self.signature.packed([one.numpy() for one in self.inputs.prepared(rows)])

    @functools.cached_property
    def draws(self) -> Any:
        """The networks that an `Ensemble` stores, drawn once."""
        return self.mode.draws(self.posterior)

    @property
    def one_row(self) -> Any:
        """A row of zeros, in the structure that the model takes."""
        return tf.nest.map_structure(lambda x: np.zeros_like(x[:1]), self.prepared)

    @property
    def deviations(self) -> str:
        """How standard deviations are stored; `"full"` where a file has none."""
        return self.storage.standard_deviations if self.mode.has_deviations else "full"

    @functools.cached_property
    def as_stored(self) -> AbstractPosterior:
        """The law over networks that the file has."""
        return as_stored(self.posterior, self.deviations)

    @property
    def is_chain(self) -> bool:
        """Whether every layer reads the one before it alone."""
        try:
            return all(len(step.inputs) == 1 for step in steps_of(self.posterior.model))
        except ValueError:
            return False

    def answer(self, outputs: Any) -> Answers:
        """What a file should say, by name, of outputs `(networks, rows, ...)`."""
        return {name: value.numpy() for name, value in self.signature.answer(outputs).items()}

    def specs(self, rows: int | None) -> list[tf.TensorSpec]:
        """The inputs of a graph that takes a number of rows, any number if it is None."""
        pairs = zip(self.signature.inputs, self.signature.shapes, strict=True)
        return [tf.TensorSpec((rows, *s[1:]), self.inputs.type, name=name) for name, s in pairs]

    def module(self, specs: Sequence[tf.TensorSpec]) -> tf.Module:
        """A module whose `serve` gives the answers, all numbers constant."""
        module = tf.Module()
        # Read here, as a traced function cannot.
        models = self.posterior.models
        values = [(v, v.numpy()) for model in models for v in model.variables]
        compute = self.mode.computation(self, lambda array: array)

        def serve(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            # The converters drop the names of outputs if a graph reads variables.
            constants = [(variable, tf.constant(value)) for variable, value in values]
            with variables_as(constants), in_float32(*models):
                return self.signature.answer(
                    compute(self.signature.packed(self.inputs.prepared(inputs)))
                )

        module.serve = traced(serve, input_signature=specs)
        return module

    def compare(
        self,
        run: Callable[[dict[str, np.ndarray]], Answers],
        mode: modes.AbstractMode | None = None,
    ) -> Agreement:
        """Compare a file with the posterior, or raise a `RuntimeError`.

        Args:
            run: Gives its answers by name for inputs by name.
            mode: How it is uncertain; as the shipment says by default.
        """

        def on_rows(rows: Sequence[np.ndarray]) -> Answers:
            typed = (one.astype(self.inputs.type) for one in rows)
            return run(dict(zip(self.signature.inputs, typed, strict=True)))

        return (mode or self.mode).compare(self, on_rows)


class AbstractTarget(abc.ABC):
    """A kind of file.

    Attributes:
        name: Its name, as in `model.export(path, format=name)`.
        modes: The modes that it has.
        tolerances: Largest accepted difference of a prediction, by the precisions that it has.
        deviations: The forms of standard deviations that it has.
        input_types: The types of inputs that it has.
        fixes_sizes: Whether all sizes of inputs but the number of rows are fixed in a file.
        instead: What to do about a mode that it has not, a sentence.
    """

    name: ClassVar[str]
    modes: ClassVar[tuple[type[modes.AbstractMode], ...]]
    tolerances: ClassVar[dict[str, float]]
    deviations: ClassVar[tuple[str, ...]] = ("full",)
    input_types: ClassVar[tuple[str, ...]] = ("float32",)
    fixes_sizes: ClassVar[bool] = True
    instead: ClassVar[str] = ""

    def places(self, path: pathlib.Path) -> list[pathlib.Path]:
        """The files or folders to write, the manifest last; a `ValueError` if none can be there."""
        return [path, path.with_name(f"{path.name}.json")]

    def check(self, shipment: Shipment) -> None:  # noqa: B027 (most have nothing to refuse)
        """Raise an error if this target cannot have it, before anything is written."""

    @abc.abstractmethod
    def write(self, shipment: Shipment, paths: Sequence[pathlib.Path]) -> dict[str, Any]:
        """Write the files, run and compare them; what the manifest says of them.

        Args:
            shipment: What to write.
            paths: Where to, without the manifest.
        """

    def answers(self, path: pathlib.Path, described: dict[str, Any], x: Any) -> Answers:
        """The answers of a file that was written, by name, for inputs as it takes them.

        `described` is its manifest. Raises a `ValueError` if it no longer describes the file.
        """
        raise ValueError(
            "Thresholds are kept for `.tflite` files and for C, whose readers are tfbnn's; apply "
            "those of `tfbnn.conformal` or `tfbnn.selective` to the answers of others by hand. "
            f"Received: path={str(path)!r}, of format {self.name!r}"
        )

    def write_rules(  # noqa: B027 (most have them in the manifest alone)
        self, path: pathlib.Path, described: dict[str, Any], rules: Sequence[Rule]
    ) -> None:
        """Write what a file needs beside its manifest to decide by rules."""

    def tolerance(self, posterior: AbstractPosterior, mode: Any, storage: Storage) -> float:
        """The largest accepted difference where the caller gives none."""
        del mode
        layers = (layer for model in posterior.models for layer in all_layers(model))
        # How far the models themselves may be from float32, if they compute in less.
        of_keras = (_KERAS_TOLERANCES.get(layer.compute_dtype, 0.0) for layer in layers)
        return max(self.tolerances[storage.precision], *of_keras)


def ship(
    target: AbstractTarget,
    model: Any,
    path: Any,
    uncertainty: Any,
    storage: Any,
    inputs: Any,
    check_data: Any,
    class_names: Any,
    overwrite: Any,
) -> dict[str, Any]:
    """Write a file of a target; the arguments are those of every exporter."""
    given = posterior_of(model)
    mode, storage, inputs = modes.get(uncertainty), storage_of(storage), inputs_of(inputs)
    overwrite, path = arguments.boolean("overwrite", overwrite), arguments.path("path", path)
    places = target.places(path)
    _check_choices(target, mode, storage, inputs)
    # Draws are compared with laws here, once.
    what = f"`storage={storage.precision!r}`"
    posterior = gaussian(given, what) if storage.reads_laws else mode.checked(given)
    for one in posterior.models:
        check_arrays("the weights of the model", one.get_weights())
    signature = of_model = Signature.of(posterior)
    rows = signature.rows_to_compare(given, check_data, inputs.is_prepared_inside)
    inputs.check("check_data", rows)
    if target.fixes_sizes or mode.needs_sizes:
        signature = signature.with_sizes_of(rows)
    tolerance = storage.tolerance
    if tolerance is None:
        tolerance = target.tolerance(posterior, mode, storage)
    names = _checked_names(posterior, class_names)
    shipment = Shipment(given, posterior, mode, storage, inputs, signature, rows, tolerance, names)
    # A target knows its own layers, and says of others more than a mode does.
    target.check(shipment)
    mode.check_layers(posterior.model, target.instead)
    outputs_of(posterior, posterior.representative(), shipment.prepared, "check_data")
    if signature.shapes != of_model.shapes:
        print(
            f"The sizes of the file are those of `check_data`: inputs of shape {signature.shapes}."
        )
    with written_whole(places, overwrite) as (*temporary, description):
        facts = target.write(shipment, temporary)
        described = manifest.describe(target, shipment, temporary[0], facts)
        manifest.write(described, description)
    return described


def _check_choices(target: AbstractTarget, mode: Any, storage: Storage, inputs: Inputs) -> None:
    for name, value, allowed, instead in (
        ("uncertainty", mode.name, tuple(one.name for one in target.modes), target.instead),
        ("storage", storage.precision, tuple(target.tolerances), ""),
        ("standard_deviations", storage.standard_deviations, target.deviations, ""),
        ("type", inputs.type, target.input_types, ""),
    ):
        if value not in allowed:
            raise ValueError(
                f"Of a file of format {target.name!r} `{name}` must be one of {allowed}. "
                f"{instead}{' ' * bool(instead)}Received: {name}={value!r}"
            )


def _checked_names(posterior: AbstractPosterior, names: Any) -> list[str] | None:
    """The names of the classes, as many as there are; None if none are given."""
    if names is None:
        return None
    checked = arguments.listed("class_names", names, arguments.text)
    shape = getattr(posterior.model, "output_shape", None)
    single = len(posterior.likelihoods) == 1 and shape
    classes = posterior.likelihoods[0].num_classes(shape) if single else None
    if classes not in (None, len(checked)):
        raise ValueError(
            f"`class_names` must be the names of all {classes} classes. "
            f"Received: class_names={checked}"
        )
    return checked
