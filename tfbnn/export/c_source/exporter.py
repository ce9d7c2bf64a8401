"""`tfbnn.export.c`: a network and its uncertainty as a C function."""

import os
import pathlib
import re
import tempfile
from typing import Any

import numpy as np

from tfbnn import arguments
from tfbnn.export import manifest, verification
from tfbnn.export.c_source.agreement import (
    answers_as_stored,
    arithmetic_tolerance,
    default_tolerance,
    expected_answers,
    limits,
    tight_limits,
)
from tfbnn.export.c_source.buffers import planned
from tfbnn.export.c_source.c_compiler import (
    CompiledNetwork,
    compile_network,
    compiler,
    stack_bytes,
)
from tfbnn.export.c_source.check_program import Expected, check_program
from tfbnn.export.c_source.layers import translate
from tfbnn.export.c_source.linear import Linear
from tfbnn.export.c_source.program import Program
from tfbnn.export.c_source.source import C_TYPES, Source
from tfbnn.export.c_source.text import in_comment
from tfbnn.export.c_source.translator import SCALES, Settings, Translator
from tfbnn.export.files import written_whole
from tfbnn.export.options import checked_class_names, checked_tolerance, checked_words
from tfbnn.layers.steps import steps_of
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.mean_field import mean_field
from tfbnn.prediction import moments

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Of C11 and POSIX; a file `math.h` would be found in their place.
_HEADERS = frozenset(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal "
    "stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath "
    "threads time uchar wchar wctype features pthread sched strings unistd".split()
)
# Rows in the check program.
_NUM_CHECKED = 4
_INSTEAD = "Use `uncertainty='none'`, or a mode of `tfbnn.export.tflite` that draws networks."


def c(
    model: Any,
    folder: str | os.PathLike,
    uncertainty: str = "moments",
    precision: str = "float32",
    scale: str = "full",
    num_points: int = 64,
    check_data: Any = None,
    tolerance: float | None = None,
    class_names: list[str] | None = None,
    preprocessing: str | None = None,
    input_type: str = "float32",
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
            a subclass with a `call` of its own.
        folder: Where to write, `.../<name>`, where `<name>` can begin names in C.
        uncertainty: `"moments"`, or `"none"`: the network at the posterior mean, whose uncertainty
            is that of this one prediction.
        precision: Of the stored weights: `"float32"`, or `"int8"` with a step for each unit. All
            arithmetic is in float32.
        scale: How variances of weights are stored: `"full"`, one by one; `"rank_one"` and `"unit"`
            as in `tfbnn.export.variances`, with which pruned weights have variances as well.
        num_points: Number of outputs over which a likelihood is averaged, even.
        check_data: Inputs to compare on, `(rows, ...)`; by default rows kept from `fit`.
        tolerance: Largest difference to TensorFlow that is accepted, of a probability or of real
            numbers relative to the largest; ten times as much of an uncertainty. By default 1e-4
            for float32 (of moments 1e-3), 0.05 for int8.
        class_names: Names of the classes, for the manifest and the header.
        preprocessing: What the caller does to an input first, for the manifest and the header.
        input_type: `"float32"`, or `"uint8"`: the function takes bytes, as the numbers 0 to 255.
        overwrite: Whether existing files may be replaced.

    Returns:
        The manifest. Beside what every manifest says: `weight_bytes` (flash), `scratch_bytes`
        (RAM), `stack_bytes` (at most, by gcc; None without it), `agreement` (None without a
        compiler: nothing was run) with `max_error` and, of moments, `draws_difference`.

    Raises:
        TypeError: If `model` is another posterior than the mean-field one.
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
    posterior = mean_field(model)
    folder, overwrite = arguments.path("folder", folder), arguments.boolean("overwrite", overwrite)
    num_points = arguments.count("num_points", num_points, minimum=2)
    settings = Settings(uncertainty, precision, scale, num_points, input_type)
    _check_arguments(folder.name, settings)
    class_names = checked_class_names(posterior, class_names)
    preprocessing = checked_words(preprocessing)
    verification.check_model(posterior)
    rows = verification.check_rows(posterior, check_data)
    verification.check_type("check_data", rows, input_type)
    source = Source(
        folder.name,
        _program(posterior, settings),
        input_type,
        _remarks(posterior, settings, class_names, preprocessing),
    )
    tolerance = checked_tolerance(tolerance, lambda: default_tolerance(posterior, settings))
    names = (f"{source.name}.c", f"{source.name}.h", "Makefile", f"test_{source.name}.c")
    targets = [folder / name for name in (*names, f"{source.name}.json")]
    with written_whole(targets, overwrite) as temporary:
        network, header, makefile, check, description = temporary
        network.write_text(source.source())
        header.write_text(source.header())
        makefile.write_text(source.makefile())
        facts = _checked(posterior, source, rows, settings, tolerance, check)
        described = manifest.describe(
            posterior,
            network,
            source.program.input.shape,
            format="c",
            mode=uncertainty,
            precision=precision,
            scale=scale if settings.is_random else None,
            num_points=num_points if settings.is_random else None,
            input_type=input_type,
            storage=_storages(source.program),
            weight_bytes=source.sizes["WEIGHT_BYTES"],
            scratch_bytes=source.sizes["SCRATCH_BYTES"],
            tolerance=tolerance,
            class_names=class_names,
            preprocessing=preprocessing,
            **facts,
        )
        manifest.write(described, description)
    return described


def _program(posterior: AbstractPosterior, settings: Settings) -> Program:
    steps = steps_of(posterior.model)
    translator = Translator(steps, posterior.likelihoods[0], settings)
    for step in steps:
        translate(translator, step)
    if settings.is_random:
        moments.check(steps, instead=_INSTEAD)
    return planned(translator.start, [*translator.operations, translator.answer()])


def _checked(
    posterior: AbstractPosterior,
    source: Source,
    rows: np.ndarray,
    settings: Settings,
    tolerance: float,
    check: pathlib.Path,
) -> dict[str, Any]:
    """Write the check program, and run all where there is a compiler; what was found."""
    answers = expected_answers(posterior, settings, rows)
    stored = answers_as_stored(posterior, settings, rows)
    # The check program has few rows and the limits of all.
    few = rows[:_NUM_CHECKED], tuple(part[:_NUM_CHECKED] for part in stored)
    loose = limits(stored, arithmetic_tolerance(settings, tolerance))
    check.write_text(check_program(source, Expected(*few, loose)))
    if compiler() is None:
        return {"agreement": None, "stack_bytes": None}
    shapes = [source.answer.prediction_shape] + 2 * [source.answer.uncertainty_shape]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        program = compile_network(check.parent, folder, source.name)
        network = CompiledNetwork(program, settings.input_type, shapes)
        found = network.answers(rows)
        agreed = verification.same_answers(answers, found, tolerance)
        tight = tight_limits(stored, found, limits(stored, tolerance))
        check.write_text(check_program(source, Expected(*few, tight)))
        compile_network(check.parent, folder, source.name)
        network.check()
        agreement = {"rows": agreed.rows, "max_error": agreed.max_error}
        if settings.is_random:
            difference = verification.draws_difference(posterior, found[0], rows)
            agreement["draws_difference"] = difference
        return {"agreement": agreement, "stack_bytes": stack_bytes(folder, source.name)}


def _check_arguments(name: str, settings: Settings) -> None:
    choices = {
        "uncertainty": ("moments", "none"),
        "precision": ("float32", "int8"),
        "scale": SCALES,
        "input_type": tuple(C_TYPES),
    }
    for argument, allowed in choices.items():
        arguments.one_of(argument, getattr(settings, argument), allowed)
    if settings.num_points % 2:
        raise ValueError(
            f"`num_points` must be even and at least 2. Received: num_points={settings.num_points}"
        )
    if not _IDENTIFIER.fullmatch(name) or name.lower() in _HEADERS:
        raise ValueError(
            "The name of the folder begins all names in C: it must be letters, digits and `_`, a "
            "letter first, and not that of a header of the standard library, which it would hide. "
            f"Received: folder={name!r}"
        )


def _remarks(
    posterior: AbstractPosterior,
    settings: Settings,
    class_names: list[str] | None,
    preprocessing: str | None,
) -> tuple[str, ...]:
    """What the header says beside how to call."""
    options = [f"uncertainty={settings.uncertainty}", f"precision={settings.precision}"]
    options += [f"scale={settings.scale}"] * settings.is_random
    remarks = [f"Model: {posterior.model.name} ({', '.join(options)})"]
    if class_names:
        remarks.append(f"Classes: {', '.join(class_names)}")
    if preprocessing:
        remarks.append(f"Preprocessing: {preprocessing}")
    return tuple(map(in_comment, remarks))


def _storages(program: Program) -> dict[str, str]:
    """How the kernel of each layer is stored."""
    linear = [operation for operation in program.operations if isinstance(operation, Linear)]
    return {operation.layer: operation.weights.kernel.storage for operation in linear}
