"""Rows: the inputs and outputs of a model by their names, and rows to compare a file on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import input_specs, outputs_structure
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.training.data import check_arrays

_MAX_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a file takes and gives.

    Attributes:
        structure: The inputs in the structure that the model takes.
        inputs: Name of each, `"inputs"` if there is one.
        shapes: Shape of each, `(None, ...)`.
        outputs: Likelihood of each output by its name, `""` if there is one.
    """

    structure: Any
    inputs: list[str]
    shapes: list[tuple[int | None, ...]]
    outputs: dict[str, AbstractLikelihood]

    @classmethod
    def of(cls, posterior: AbstractPosterior) -> "Signature":
        """That of a posterior's model."""
        model = posterior.model
        structure = input_specs(model)
        flat = tf.nest.flatten(structure)
        names = ["inputs"] if len(flat) == 1 else _names(structure, [one.name for one in flat])
        likelihoods = posterior.likelihoods
        of_outputs = [""]
        if len(likelihoods) > 1:
            found = outputs_structure(model) or model.loss
            of_outputs = _names(found, getattr(model, "output_names", None))
        return cls(
            structure,
            names,
            [tuple(one.shape) for one in flat],
            dict(zip(of_outputs, likelihoods, strict=True)),
        )

    def packed(self, inputs: Sequence[Any]) -> Any:
        """Inputs in the structure that the model takes."""
        return tf.nest.pack_sequence_as(self.structure, inputs)

    def with_sizes_of(self, rows: Sequence[np.ndarray]) -> "Signature":
        """The same with the sizes of rows where those of the model may vary."""
        return dataclasses.replace(self, shapes=[(None, *one.shape[1:]) for one in rows])

    @property
    def answers(self) -> list[list[str]]:
        """Names of the answers of a file, for each output: the prediction first."""
        return [
            [_of(output, name) for name in likelihood.answer_names]
            for output, likelihood in self.outputs.items()
        ]

    def answer(self, outputs: Any) -> dict[str, tf.Tensor]:
        """What a file says, by name, of the outputs of networks `(networks, rows, ...)`."""
        pairs = zip(self.outputs.items(), tf.nest.flatten(outputs), strict=True)
        return {
            _of(output, name): value
            for (output, likelihood), one in pairs
            for name, value in likelihood.answer(tf.cast(one, tf.float32)).items()
        }

    def meanings(self) -> dict[str, str]:
        """What each answer is, for a manifest."""
        return {
            _of(output, name): words
            for output, likelihood in self.outputs.items()
            for name, words in likelihood.meanings.items()
        }

    def rows(self, name: str, value: Any) -> list[np.ndarray]:
        """`value` as float32 rows of each input, finite; a `ValueError` if it is none."""
        arrays = [value]
        if len(self.inputs) > 1:
            try:
                tf.nest.assert_same_structure(self.structure, value, check_types=False)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`{name}` must have the structure of the model's inputs, with arrays for "
                    f"{self.inputs}. Received: {name} of type {type(value).__name__}"
                ) from error
            arrays = tf.nest.flatten(value)
        pairs = zip(arrays, self.shapes, strict=True)
        return [_checked(name, one, shape[1:]) for one, shape in pairs]

    def rows_to_compare(
        self, posterior: AbstractPosterior, check_data: Any, raw: bool
    ) -> list[np.ndarray]:
        """The caller's rows, or those the model kept from `fit`.

        Args:
            posterior: What is exported.
            check_data: The caller's rows, or None.
            raw: Whether the file prepares its inputs by itself; those kept from `fit` are prepared.

        Raises:
            ValueError: If there are none, or they have the wrong shape or are not finite.
        """
        rows = posterior.example_rows if check_data is None else check_data
        if check_data is None and raw:
            raise ValueError(
                "A file with the preprocessing inside is checked on inputs as they are before it: "
                "pass `check_data=` with some of them. Received: check_data=None"
            )
        if rows is None:
            raise ValueError(
                "The written file is compared with the posterior on real rows, and this model has "
                "kept none: pass `check_data=` with some rows of inputs. Received: check_data=None"
            )
        return [one[:_MAX_ROWS] for one in self.rows("check_data", rows)]


def of_networks(each: Sequence[Any]) -> Any:
    """Outputs of networks, one by one, as outputs `(networks, rows, ...)`."""
    return tf.nest.map_structure(lambda *outputs: tf.stack(outputs), *each)


def _names(structure: Any, otherwise: list[str] | None) -> list[str]:
    """Names of the leaves of a structure: the keys of a dict, in the order of `tf.nest`."""
    if isinstance(structure, dict) or not otherwise:
        return sorted(structure)
    return list(otherwise)


def _of(output: str, name: str) -> str:
    return f"{output}_{name}" if output else name


def _checked(name: str, value: Any, expected: tuple[int | None, ...]) -> np.ndarray:
    array = arguments.real_array(name, value)
    with np.errstate(over="ignore"):
        rows = array.astype(np.float32)
    fits = rows.ndim == len(expected) + 1 and all(
        size in (None, given) for size, given in zip(expected, rows.shape[1:], strict=True)
    )
    if not fits or not len(rows):
        raise ValueError(
            f"`{name}` must have the shape (rows, {', '.join(map(str, expected))}). "
            f"Received: {name} of shape {rows.shape}"
        )
    check_arrays(name, rows)
    return rows
