"""What a file of each target says of rows: the tests of all files run over `READERS`."""

import dataclasses
import importlib.util
import shutil
import subprocess
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import tfbnn


@dataclasses.dataclass(frozen=True)
class Reader:
    """How files of a target are read, and which there are not.

    Attributes:
        read: Of the path of a file and its posterior, a function that gives answers by name for
            rows: an array, or arrays by the names of the inputs.
        modules: Python modules that writing and reading need.
        programs: Programs that they need.
        refusals: For a mode, what the target asks of a route beside what the mode does, as
            `Route.has` says it, and what is said to one that has it not.
    """

    read: Callable
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    refusals: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def missing(self):
        """What is not installed."""
        modules = [one for one in self.modules if importlib.util.find_spec(one) is None]
        return modules + [one for one in self.programs if shutil.which(one) is None]


def _saved_model(path, posterior):
    loaded = tf.saved_model.load(str(path))
    last = "predict_with_uncertainty"
    name = last if last in loaded.signatures else "serving_default"

    def run(x):
        # A function by its name lives as long as what was loaded.
        function = loaded.signatures[name]
        inputs = _by_name(x, function.structured_input_signature[1])
        answers = function(**{name: tf.constant(one) for name, one in inputs.items()})
        return {name: value.numpy() for name, value in answers.items()}

    return run


def _tflite(path, posterior):
    return tfbnn.lite.Model(path).outputs


def _onnx(path, posterior):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    inputs, outputs = (
        [one.name for one in of] for of in (session.get_inputs(), session.get_outputs())
    )
    return lambda x: dict(zip(outputs, session.run(outputs, _by_name(x, inputs)), strict=True))


def _c(path, posterior):
    _ran(["make", "-s", "test"], path)
    (likelihood,) = posterior.likelihoods

    def run(x):
        answer = likelihood.answer(posterior.network(posterior.mean(), x)[tf.newaxis])
        shapes = {name: answer[name].shape[1:] for name in likelihood.meanings}
        written = _ran([str(path / f"test_{path.name}"), "--stdin"], path, x.tobytes())
        table = np.frombuffer(written, np.float32).reshape(len(x), -1)
        parts = np.split(
            table, np.cumsum([np.prod(one, dtype=int) for one in shapes.values()])[:-1], axis=1
        )
        pairs = zip(shapes.items(), parts, strict=True)
        return {name: part.reshape(len(x), *shape) for (name, shape), part in pairs}

    return run


def _by_name(x, names):
    return x if isinstance(x, dict) else dict(zip(names, [x], strict=True))


def _ran(command, folder, given=None):
    ended = subprocess.run(command, cwd=folder, input=given, capture_output=True, timeout=120)
    assert not ended.returncode, f"{command}: {ended.stdout!r} {ended.stderr!r}"
    return ended.stdout


_NO_C = {"C": "Only a `tfbnn.Sequential` or `tfbnn.Model` can be|There is no C code for"}
READERS = {
    "saved_model": Reader(_saved_model),
    "tflite": Reader(
        _tflite,
        refusals={
            "monte_carlo": {"laws": "from laws that this posterior has not.*'ensemble'"},
        },
    ),
    "onnx": Reader(_onnx, modules=("tf2onnx", "onnxruntime")),
    "c": Reader(_c, programs=("cc", "make"), refusals={"moments": _NO_C, "none": _NO_C}),
}
