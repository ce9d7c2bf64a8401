"""Run a `.tflite` file written by `tfbnn.export.tflite`, with NumPy and ai-edge-litert alone.

On a device nothing else has to be installed. Either `pip install --no-deps tfbnn` and
`pip install numpy ai-edge-litert`, then `import tfbnn.lite`; or copy this one file beside the model
and `import lite`; for a file with decisions (`tfbnn.decide`) copy `lite_rules.py` too.
"""

import contextlib
import hashlib
import importlib
import json
import operator
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_OUTPUTS = {"prediction", "uncertainty"}
_ANSWERS = {*_OUTPUTS, "mutual_information", "epistemic", "expected_entropy"}
_INPUT_TYPES = ("float32", "uint8")
# Bytes. Names of a thousand classes take a thousandth of it.
_LARGEST_MANIFEST = 2**24


class Answer(tuple):
    """The pair `prediction, uncertainty`, with every output of the file by its name.

    Attributes:
        outputs: Arrays by name; beside the pair `"mutual_information"` (classes: the part of the
            uncertainty that is about the weights, in nats, `(rows,)`), or `"epistemic"` (real
            numbers: the standard deviation that is about the weights, `(rows, targets)`). The same
            under one name for both, and what is left, are `epistemic` and `aleatoric`. A file of a
            model with a temperature of the mean has `"expected_entropy"` too, the `aleatoric`: the
            parts are then of the draws before that, and do not add up to the uncertainty. After
            `tfbnn.decide` there are `"set"` or `"interval"`, and `"accepted"`, too; see there.
    """

    outputs: dict[str, np.ndarray]

    def __new__(cls, outputs: dict[str, np.ndarray]) -> "Answer":
        answer = super().__new__(cls, (outputs["prediction"], outputs["uncertainty"]))
        answer.outputs = outputs
        return answer

    @property
    def epistemic(self) -> np.ndarray:
        """The part of the uncertainty that is about the weights, as in `tfbnn.predict`."""
        return self.outputs.get("epistemic", self.outputs.get("mutual_information"))

    @property
    def aleatoric(self) -> np.ndarray:
        """The part that is about the labels: expected entropy, or a standard deviation."""
        if "epistemic" in self.outputs:
            return np.sqrt(np.maximum(np.square(self[1]) - np.square(self.epistemic), 0))
        if "expected_entropy" in self.outputs:
            return self.outputs["expected_entropy"]
        return np.maximum(self[1] - self.epistemic, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return Answer, (self.outputs,)

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["outputs"][name]
        except KeyError:
            names = sorted(vars(self).get("outputs", ()))
            raise AttributeError(
                f"The file has no output of this name, but {names}. Received: {name!r}"
            ) from None


class Model:
    """A `.tflite` file that answers with a prediction and an uncertainty.

    Opening a file allocates its memory and looks at what goes in and comes out; a file without a
    manifest is run once. That finds many damaged files, and not all: it is the manifest that
    protects. LiteRT for Python does not verify the structure of a file, and there are damaged ones
    with which it crashes, or never ends. So keep the manifest beside a file that has travelled, and
    open one of unknown origin in a process of its own, or not at all.

    Args:
        path: The file. If its manifest `<path>.json` is beside it, the file is checked against
            it, which finds any change; without it a change of the stored numbers is not seen.
        num_threads: Threads of the runtime.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no LiteRT model, is damaged, or was not written by tfbnn, or if
            its manifest is damaged or has no checksum.

    Example:

    `prediction, uncertainty = lite.Model("model.tflite").predict(x)`
    """

    def __init__(self, path: str | os.PathLike, num_threads: int = 1):
        num_threads = _checked_threads(num_threads)
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"`path` must be that of a file. Received: path={path!r}")
        self.path = pathlib.Path(path)
        self.manifest = _checked_manifest(self.path)
        self._rules = _rules_of(self.manifest)
        with self._blamed_on_the_file("read"):
            self._interpreter = Interpreter(str(self.path), num_threads=num_threads)
            signatures = self._interpreter.get_signature_list()
        names = signatures.get("serving_default", {"inputs": [], "outputs": []})
        self.output_names = _outputs_among(names["outputs"])
        if not self.output_names or not names["inputs"]:
            raise ValueError(
                f"{self.path} was not written by `tfbnn.export.tflite`: it must have an input and "
                f"the outputs {sorted(_OUTPUTS)}. Received: signatures={signatures}"
            )
        with self._blamed_on_the_file("read"):
            self._interpreter.allocate_tensors()
            self._runner = self._interpreter.get_signature_runner("serving_default")
            details = self._runner.get_input_details()
            inputs = {name: details[name] for name in names["inputs"]}
            self.input_shapes = {n: tuple(map(int, one["shape"])) for n, one in inputs.items()}
            types = {np.dtype(one["dtype"]) for one in inputs.values()}
            self.input_type = types.pop()
            shapes = self.input_shapes.values()
            sound = all(n > 0 for shape in shapes for n in shape or [0])
            sound = sound and len({shape[0] for shape in shapes}) == 1 and not types
            if not sound or self.input_type not in _INPUT_TYPES:
                raise ValueError(f"inputs of shapes {self.input_shapes}, {self.input_type}")
        self.batch_size = next(iter(shapes))[0]
        if not self.manifest:
            self._run({n: np.zeros(s, self.input_type) for n, s in self.input_shapes.items()})

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input of a file that has one; see `input_shapes`."""
        (shape,) = self.input_shapes.values()
        return shape

    def predict(self, x: Any) -> Any:
        """Prediction and uncertainty, however the file comes by them.

        Args:
            x: Inputs `(rows, ...)`, any number of rows; of a file with several inputs, a dict of
                them by name.

        Returns:
            An `Answer`, or a dict of them by the names of the outputs of a file that has several.
            Classes: mean probabilities `(rows, classes)` and predictive entropy in nats `(rows,)`.
            Numbers: mean and standard deviation, `(rows, targets)`. See `Answer` for more.

        Raises:
            ValueError: If `x` is empty, not finite, of the wrong shape, or cannot be what the file
                takes (pixels that are no whole numbers from 0 to 255).
        """
        found = self.outputs(x)
        if self.output_names == [""]:
            pair = found["prediction"], found["uncertainty"]
            return Answer({**found, **{rule.name: rule(*pair) for rule in self._rules}})
        return {
            output: Answer(
                {n.removeprefix(f"{output}_"): v for n, v in found.items() if _is_of(output, n)}
            )
            for output in self.output_names
        }

    def outputs(self, x: Any) -> dict[str, np.ndarray]:
        """All that the file itself says, by the names in it; `x` as in `predict`."""
        x, size = self._checked_inputs(x), self.batch_size
        answers = [
            self._run({name: one[start : start + size] for name, one in x.items()})
            for start in range(0, len(next(iter(x.values()))), size)
        ]
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}

    def _run(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(next(iter(rows.values())))
        if count < self.batch_size:
            filled = np.minimum(np.arange(self.batch_size), count - 1)
            rows = {name: one[filled] for name, one in rows.items()}
        with self._blamed_on_the_file("run"):
            outputs = self._runner(**rows)
            for name, value in outputs.items():
                if value.shape[:1] != (self.batch_size,) or value.dtype.kind != "f":
                    raise ValueError(f"{name!r} of shape {value.shape}, {value.dtype}")
        return {name: value[:count] for name, value in outputs.items()}

    @contextlib.contextmanager
    def _blamed_on_the_file(self, done: str) -> Iterator[None]:
        """Turns whatever the runtime says of a file into an error that names it."""
        try:
            yield
        except Exception as error:
            raise ValueError(
                f"{self.path} cannot be {done} by LiteRT; it is damaged or needs a newer runtime "
                f"({_first_line(error)})."
            ) from error

    def _checked_inputs(self, x: Any) -> dict[str, np.ndarray]:
        names = list(self.input_shapes)
        if len(names) == 1 and not isinstance(x, dict):
            return {names[0]: self._checked("x", x, self.input_shape)}
        if not isinstance(x, dict) or set(x) != set(names):
            raise ValueError(
                f"`x` must be a dict with an array for each of the inputs {sorted(names)}. "
                f"Received: x={sorted(x) if isinstance(x, dict) else type(x).__name__}"
            )
        shapes = self.input_shapes.items()
        checked = {name: self._checked(f"x[{name!r}]", x[name], shape) for name, shape in shapes}
        if len({len(one) for one in checked.values()}) > 1:
            raise ValueError(
                "All inputs must have the same number of rows. "
                f"Received: { ({name: len(one) for name, one in checked.items()}) }"
            )
        return checked

    def _checked(self, name: str, x: Any, shape: tuple[int, ...]) -> np.ndarray:
        given = _as_array(x)
        if given.shape[1:] != shape[1:] or not len(given):
            raise ValueError(
                f"`{name}` must have the shape (rows, {', '.join(map(str, shape[1:]))}): all "
                "sizes of a file were fixed when it was written. "
                f"Received: {name}.shape={given.shape}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.ascontiguousarray(given, self.input_type)
        # A number too large for a float is infinite in it.
        finite = np.isfinite(given) & np.isfinite(x)
        if not finite.all():
            raise ValueError(
                f"`{name}` has NaN or infinite elements. "
                f"Received: {int((~finite).sum())} of {x.size} elements"
            )
        if self.input_type == np.uint8 and not np.array_equal(x, given):
            raise ValueError(
                "The file takes whole numbers from 0 to 255 (uint8). "
                f"Received: x of type {given.dtype}, from {given.min()} to {given.max()}"
            )
        return x


def _outputs_among(names: list[str]) -> list[str]:
    """The outputs of a model that answers are about: `""` where there is one."""
    if set(names) >= _OUTPUTS:
        return [""]
    found = [name.removesuffix("_prediction") for name in names if name.endswith("_prediction")]
    return [name for name in found if f"{name}_uncertainty" in names]


def _is_of(output: str, name: str) -> bool:
    """Whether an answer is about an output of this name, which may begin another's."""
    return name.removeprefix(f"{output}_") in _ANSWERS


def _checked_manifest(path: pathlib.Path) -> dict[str, Any] | None:
    """The manifest beside the file, which it describes, or None if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with open(path, "rb") as file:
        # Which every LiteRT file has at this place.
        if file.read(8)[4:] != b"TFL3":
            raise ValueError(f"{path} is not a LiteRT model: it lacks the identifier 'TFL3'.")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    beside = path.with_name(f"{path.name}.json")
    # An export that was killed after the file took its place has left the manifest here.
    whole = path.with_name(f".{path.name}.unfinished") / "whole"
    if (whole / beside.name).is_file() and not (whole / path.name).exists():
        beside = whole / beside.name
    if not os.path.lexists(beside):
        return None
    manifest = read_manifest(beside)
    expected = manifest.get("sha256")
    if not isinstance(expected, str):
        raise ValueError(
            f"The manifest {beside} has no checksum, so {path.name} cannot be checked; one that "
            f"`tfbnn.export.tflite` wrote has it. Received: sha256={expected!r}"
        )
    if expected != digest:
        received = f"{size} bytes, expected {manifest.get('bytes')}"
        if size == manifest.get("bytes"):
            received = f"{size} bytes as expected, with another checksum"
        raise ValueError(
            f"{path} is not the file that its manifest {beside.name} describes: it was truncated "
            f"or altered. Received: {received}"
        )
    return manifest


def _rules_of(manifest: dict[str, Any] | None) -> list[Any]:
    if "decisions" not in (manifest or {}):
        return []
    # It lies beside this file, in the package or where both were copied to.
    name = f"{__package__}.lite_rules" if __package__ else "lite_rules"
    return importlib.import_module(name).rules_of(manifest)


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """What a manifest says, or a `ValueError` if it is damaged."""
    try:
        # A pipe would keep the reader waiting.
        if not path.is_file():
            raise ValueError("it is no file")
        with open(path, "rb") as file:
            content = file.read(_LARGEST_MANIFEST + 1)
        if len(content) > _LARGEST_MANIFEST:
            raise ValueError(f"it has more than {_LARGEST_MANIFEST} bytes")
        manifest = json.loads(content.decode())
        if not isinstance(manifest, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"The manifest {path} is damaged or cannot be read ({_first_line(error)})."
        ) from error
    return manifest


def _as_array(x: Any) -> np.ndarray:
    try:
        array = np.asarray(x)
        problem = f"an array of type {array.dtype}" if array.dtype.kind not in "biufV" else ""
    except (TypeError, ValueError, NotImplementedError) as error:
        problem = f"{type(x).__name__} ({_first_line(error)})"
    if problem:
        raise ValueError(f"`x` must be an array of real numbers. Received: x={problem}")
    return array


def _checked_threads(number: Any) -> int:
    try:
        checked = 0 if isinstance(number, bool) else operator.index(number)
    except (AttributeError, TypeError, ValueError):
        checked = 0
    if not 1 <= checked < 2**31:
        raise ValueError(
            f"`num_threads` must be a whole number, at least 1. Received: num_threads={number!r}"
        )
    return checked


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
