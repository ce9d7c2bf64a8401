"""Options: what the caller of an exporter chooses beside the mode."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.export.variances import FORMS


@dataclasses.dataclass(frozen=True)
class Storage:
    """How the numbers of a file are stored. A name stands for that `precision`.

    Args:
        precision: Of the weights: `"float32"`, `"float16"`, `"int8"` (activations stay real
            numbers), `"posterior"` (4, 8 or 16 bits for each kernel, as many as its standard
            deviations ask for; see `tfbnn.export.bits`), or `"full_int8"` (activations too).
            Each target says which of them it has.
        sparse: Whether zeros are left out of the file. None: where it pays and the runtime takes
            it.
        standard_deviations: How they are stored, where a file has them: `"full"`, one for each
            weight; `"rank_one"`, variances as the product of one number for each input and one for
            each output; `"unit"`, one for each output. See `tfbnn.export.variances`.
        representative_data: Rows of inputs from which `"full_int8"` learns the range of each
            activation; `check_data` by default.
        tolerance: Largest accepted difference of a mean prediction to that of the posterior,
            relative to the largest prediction if that is above 1; ten times as much of an
            uncertainty. By default that of the target for `precision`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    precision: str = "float32"
    sparse: bool | None = None
    standard_deviations: str = "full"
    representative_data: Any = dataclasses.field(default=None, repr=False, compare=False)
    tolerance: float | None = None

    def __post_init__(self) -> None:
        arguments.one_of("precision", self.precision, PRECISIONS)
        arguments.one_of("standard_deviations", self.standard_deviations, ("full", *FORMS))
        checks = {"sparse": arguments.boolean, "tolerance": arguments.not_negative}
        given = {name: c for name, c in checks.items() if getattr(self, name) is not None}
        arguments.check_fields(self, **given)

    @property
    def reads_laws(self) -> bool:
        """Whether how a number is stored depends on its standard deviation."""
        return self.precision == "posterior"


PRECISIONS = ("float32", "float16", "int8", "posterior", "full_int8")


def storage_of(identifier: Any) -> Storage:
    """The storage that an object, or the name of a precision, stands for."""
    if isinstance(identifier, Storage):
        return identifier
    return Storage(arguments.one_of("storage", identifier, PRECISIONS))


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a file takes.

    Args:
        batch_size: Rows in one call, where a target has a number of them; readers of tfbnn take any
            number.
        type: `"float32"`, or `"uint8"` (pixels).
        preprocessing: What the inputs have gone through, in words, for the manifest; or a layer,
            such as `keras.layers.Rescaling(1 / 255)`, which the file then applies by itself.

    Raises:
        ValueError: If an argument is out of its range.
    """

    batch_size: int = 1
    type: str = "float32"
    preprocessing: str | Callable | None = None

    def __post_init__(self) -> None:
        arguments.check_fields(self, batch_size=arguments.count)
        arguments.one_of("type", self.type, ("float32", "uint8"))
        if self.preprocessing is not None and not callable(self.preprocessing):
            arguments.text("preprocessing", self.preprocessing)

    @property
    def is_prepared_inside(self) -> bool:
        """Whether the file prepares its inputs by itself."""
        return callable(self.preprocessing)

    @property
    def words(self) -> str | None:
        """What the inputs go through, for the manifest."""
        if not self.is_prepared_inside:
            return self.preprocessing
        settings = getattr(self.preprocessing, "get_config", dict)()
        named = {key: value for key, value in settings.items() if key in ("scale", "offset")}
        return f"inside the file: {type(self.preprocessing).__name__} {named or ''}".strip()

    def prepared(self, inputs: Sequence[Any]) -> list[tf.Tensor]:
        """What the model gets of the inputs of the file."""
        casted = [tf.cast(one, tf.float32) for one in inputs]
        return [self.preprocessing(one) for one in casted] if self.is_prepared_inside else casted

    def check(self, name: str, rows: Sequence[np.ndarray]) -> None:
        """Raise a `ValueError` if rows are no pixels where a file takes pixels."""
        for one in rows:
            whole = (one >= 0) & (one <= 255) & (one == one.round())
            if self.type == "uint8" and not whole.all():
                raise ValueError(
                    f"With `type='uint8'` all values of `{name}` must be whole numbers from 0 to "
                    "255. Put what scales them (`keras.layers.Rescaling`) into the model or the "
                    f"file. Received: {name} from {one.min()} to {one.max()}"
                )


def inputs_of(value: Any) -> Inputs:
    """The object, or what the file takes by default if it is None."""
    if value is None:
        return Inputs()
    return arguments.instance("inputs", value, Inputs, "a `tfbnn.export.Inputs`")
