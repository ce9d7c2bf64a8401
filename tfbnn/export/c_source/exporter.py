"""`tfbnn.export.c`: a network and its uncertainty as a C function."""

import os
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfbnn.export import agreement, modes
from tfbnn.export.c_source import decisions
from tfbnn.export.c_source.agreement import (
    MOMENTS_TOLERANCES,
    TOLERANCES,
    answers_as_stored,
    arithmetic_tolerance,
    expected_answers,
    limits,
    tight_limits,
)
from tfbnn.export.c_source.buffers import planned
from tfbnn.export.c_source.c_compiler import CompiledNetwork, compile_network, compiler, stack_bytes
from tfbnn.export.c_source.check_program import Expected, check_program
from tfbnn.export.c_source.layers import translate
from tfbnn.export.c_source.linear import Linear
from tfbnn.export.c_source.program import Program
from tfbnn.export.c_source.source import C_TYPES, Source
from tfbnn.export.c_source.text import in_comment
from tfbnn.export.c_source.translator import Settings, Translator
from tfbnn.export.options import Inputs, Storage
from tfbnn.export.shipping import AbstractTarget, Shipment, ship
from tfbnn.export.variances import FORMS
from tfbnn.layers.steps import steps_of
from tfbnn.lite_rules import Rule
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.whole_files import whole_file

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Of C11 and POSIX; a file `math.h` would be found in their place.
_HEADERS = frozenset(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal "
    "stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath "
    "threads time uchar wchar wctype features pthread sched strings unistd".split()
)
# Rows in the check program.
_NUM_CHECKED = 4


def c(
    model: Any,
    path: str | os.PathLike,
    uncertainty: Any = "moments",
    storage: Any = "float32",
    inputs: Inputs | None = None,
    check_data: Any = None,
    class_names: list[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a network as C99 that needs nothing but libm.

    The folder's name, `<name>`, is the beginning of all names. It holds `<name>.h`, which says how
    to call, `<name>.c`, a `Makefile`, a program `test_<name>.c` with some rows and the answers
    expected of them, and the manifest `<name>.json`. Weights are constants; the scratch memory is
    the caller's; nothing is allocated or kept from call to call.

    With moments each value is a mean and a variance, and one pass computes both: no random
    numbers, the same answer at each call. Values are taken to be independent, which makes it an
    approximation; the manifest says how far it is from networks drawn in Keras. Where there is a C
    compiler, `cc`, the code is compiled, run and compared with the same network in TensorFlow
    before it takes its place.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model` with one input and one output, not
            a subclass with a `call` of its own; or a Gaussian posterior.
        path: The folder to write, `.../<name>`, where `<name>` can begin names in C.
        uncertainty: `"moments"` or `tfbnn.export.Moments(64)`; or `"none"`: the network at the
            mean, whose uncertainty is that of this one prediction.
        storage: A `tfbnn.export.Storage` or the name of a precision: `"float32"`, or `"int8"` with
            a step for each unit. All arithmetic is in float32. With the forms `"rank_one"` and
            `"unit"` of standard deviations pruned weights have variances as well. The tolerance is
            to TensorFlow; by default 1e-4 for float32 (of moments 1e-3), 0.05 for int8.
        inputs: What the function takes, a `tfbnn.export.Inputs`: with `type="uint8"` bytes, as the
            numbers 0 to 255. Preprocessing in words is for the manifest and the header.
        check_data: Inputs to compare on, `(rows, ...)`; by default rows kept from `fit`.
        class_names: Names of the classes, for the manifest and the header.
        overwrite: Whether existing files may be replaced.

    Returns:
        The manifest. Beside what every manifest says: `weight_bytes` (flash), `scratch_bytes`
        (RAM), `stack_bytes` (at most, by gcc; None without it), `agreement` (None without a
        compiler: nothing was run) with `max_error` and, of moments, `draws_difference`.

    Raises:
        TypeError: If the posterior has no laws of weights.
        ValueError: If an argument is out of its range, there is no C for a layer, or moments cannot
            pass through it.
        RuntimeError: If the code does not compile, or disagrees with TensorFlow.
        FileExistsError: If a file exists.
        OSError: If the folder is full or cannot be written to. No file is left in it.

    Example:

    >>> import keras, numpy as np, os, tempfile, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> folder = os.path.join(tempfile.mkdtemp(), "classifier")
    >>> written = tfbnn.export.c(model, folder, check_data=np.eye(3))
    >>> sorted(os.listdir(folder))
    ['Makefile', 'classifier.c', 'classifier.h', 'classifier.json', 'test_classifier.c']
    >>> written["scratch_bytes"]
    24

    Reference:
        Frey and Hinton 1999, "Variational Learning in Nonlinear Gaussian Belief Networks" (moments
        of activations); Haussmann et al. 2020, "Sampling-Free Variational Inference of Bayesian
        Neural Networks by Variance Backpropagation", sec. 3.
    """
    return ship(C(), model, path, uncertainty, storage, inputs, check_data, class_names, overwrite)


class C(AbstractTarget):
    """A folder with a network in C."""

    name = "c"
    modes = (modes.Moments, modes.Mean)
    tolerances = TOLERANCES
    deviations = ("full", *FORMS)
    input_types = tuple(C_TYPES)
    instead = "Use `uncertainty='none'`, or a mode of `tfbnn.export.tflite` that draws networks."

    def places(self, path: pathlib.Path) -> list[pathlib.Path]:
        name = path.name
        if not _IDENTIFIER.fullmatch(name) or name.lower() in _HEADERS:
            raise ValueError(
                "The name of the folder begins all names in C: it must be letters, digits and `_`, "
                "a letter first, and not that of a header of the standard library, which it would "
                f"hide. Received: path={name!r}"
            )
        names = (f"{path.name}.c", f"{path.name}.h", "Makefile", f"test_{path.name}.c")
        return [path / name for name in (*names, f"{path.name}.json")]

    def check(self, shipment: Shipment) -> None:
        if len(shipment.signature.inputs) != 1 or len(shipment.signature.outputs) != 1:
            raise ValueError(
                "Only models with one input and one output are written in C; use "
                f"`tfbnn.export.tflite`. Received: inputs {shipment.signature.inputs}, "
                f"{len(shipment.signature.outputs)} outputs"
            )
        if shipment.inputs.is_prepared_inside:
            raise ValueError(
                "There is no C for a layer before the network: give `preprocessing` in words, or "
                f"put the layer into the model. Received: {shipment.inputs.words}"
            )
        _program(shipment.posterior, settings_of(shipment))

    def tolerance(self, posterior: AbstractPosterior, mode: Any, storage: Storage) -> float:
        # Moments are computed in float32, the mean in the precision of the model.
        if isinstance(mode, modes.Moments):
            return MOMENTS_TOLERANCES[storage.precision]
        return super().tolerance(posterior, mode, storage)

    def write(self, shipment: Shipment, paths: Sequence[pathlib.Path]) -> dict[str, Any]:
        network, header, makefile, check = paths
        name, settings = network.stem, settings_of(shipment)
        program = _program(shipment.posterior, settings)
        source = Source(name, program, settings.input_type, _remarks(shipment, settings))
        network.write_text(source.source())
        header.write_text(source.header())
        makefile.write_text(source.makefile())
        return {
            "storage": _storages(program),
            "weight_bytes": source.sizes["WEIGHT_BYTES"],
            "scratch_bytes": source.sizes["SCRATCH_BYTES"],
            **_checked(shipment, source, settings, check),
        }

    def answers(
        self, path: pathlib.Path, described: dict[str, Any], x: Any
    ) -> dict[str, np.ndarray]:
        return decisions.answers(path, described, x)

    def write_rules(
        self, path: pathlib.Path, described: dict[str, Any], rules: Sequence[Rule]
    ) -> None:
        with whole_file(path / f"{path.name}_decisions.h") as file:
            file.write(decisions.header(path, rules).encode())


def settings_of(shipment: Shipment) -> Settings:
    """What the translation asks."""
    mode, precision = shipment.mode, shipment.storage.precision
    points = mode.num_points if isinstance(mode, modes.Moments) else 2
    return Settings(mode.name, precision, shipment.deviations, points, shipment.inputs.type)


def _program(posterior: AbstractPosterior, settings: Settings) -> Program:
    steps = steps_of(posterior.as_model())
    translator = Translator(steps, posterior.likelihoods[0], settings)
    for step in steps:
        translate(translator, step)
    return planned(translator.start, [*translator.operations, translator.answer()])


def _checked(
    shipment: Shipment, source: Source, settings: Settings, check: pathlib.Path
) -> dict[str, Any]:
    """Write the check program, and run all where there is a compiler; what was found."""
    posterior, (rows,), tolerance = shipment.posterior, shipment.rows, shipment.tolerance
    answers = expected_answers(posterior, settings, rows)
    stored = answers_as_stored(posterior, settings, rows)
    # The check program has few rows and the limits of all.
    few = rows[:_NUM_CHECKED], tuple(part[:_NUM_CHECKED] for part in stored)
    loose = limits(stored, arithmetic_tolerance(settings, tolerance))
    check.write_text(check_program(source, Expected(*few, loose)))
    if compiler() is None:
        return {"agreement": None, "stack_bytes": None}
    shapes = [source.answer.prediction_shape] + 2 * [source.answer.uncertainty_shape]
    names = list(posterior.likelihoods[0].meanings)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        program = compile_network(check.parent, folder, source.name)
        network = CompiledNetwork(program, settings.input_type, shapes)
        found = network.answers(rows)
        by_name = [dict(zip(names, values, strict=True)) for values in (answers, found)]
        agreed = agreement.same_answers(*by_name, [names], tolerance)
        tight = tight_limits(stored, found, limits(stored, tolerance))
        check.write_text(check_program(source, Expected(*few, tight)))
        compile_network(check.parent, folder, source.name)
        network.check()
        described = {"rows": agreed.rows, "max_error": agreed.max_error}
        if settings.is_random:
            described["draws_difference"] = agreement.draws_difference(shipment, by_name[1])
        return {"agreement": described, "stack_bytes": stack_bytes(folder, source.name)}


def _remarks(shipment: Shipment, settings: Settings) -> tuple[str, ...]:
    """What the header says beside how to call."""
    options = [f"uncertainty={settings.uncertainty}", f"precision={settings.precision}"]
    options += [f"standard_deviations={settings.scale}"] * settings.is_random
    remarks = [f"Model: {shipment.posterior.model.name} ({', '.join(options)})"]
    if shipment.class_names:
        remarks.append(f"Classes: {', '.join(shipment.class_names)}")
    if shipment.inputs.words:
        remarks.append(f"Preprocessing: {shipment.inputs.words}")
    return tuple(map(in_comment, remarks))


def _storages(program: Program) -> dict[str, str]:
    """How the kernel of each layer is stored."""
    linear = [operation for operation in program.operations if isinstance(operation, Linear)]
    return {operation.layer: operation.weights.kernel.storage for operation in linear}
