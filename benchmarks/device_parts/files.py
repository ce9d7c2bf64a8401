"""Files: what is written for a device, and how it is run."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

import tfbnn
from benchmarks.device_parts.students import Students
from tfbnn.export.c_source import c_compiler
from tfbnn.export.files import num_gzip_bytes
from tfbnn.export.modes import MODES

_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class File:
    """One file.

    Attributes:
        student: Which network; see `students`.
        mode: Its uncertainty.
        precision: Of its weights.
        scale: How its variances are stored.
        num_samples: Networks in the file; None for the mode's own.
        language: `"LiteRT"` or `"C"`.
    """

    student: str
    mode: str
    precision: str = "float32"
    scale: str = "rank_one"
    num_samples: int | None = None
    language: str = "LiteRT"

    @property
    def name(self) -> str:
        """A name that is also that of the file."""
        parts = (self.student, self.mode, self.precision, self.scale, self.language)
        return "_".join(map(str, parts)).replace(".", "")

    def write(self, students: Students, rows: np.ndarray, folder: pathlib.Path) -> dict[str, Any]:
        """Write it and return its manifest, with `path` and `bytes` of what goes to the device."""
        model = students.get(self.student)
        storage = tfbnn.export.Storage(self.precision, standard_deviations=self.scale)
        options = {"storage": storage, "check_data": rows, "overwrite": True}
        if self.language == "C":
            # The name of the folder begins names in C.
            path = folder / self.name.replace("-", "_")
            manifest = tfbnn.export.c(model, path, self.mode, **options)
            return manifest | {"path": str(path), "bytes": manifest["weight_bytes"]}
        path = folder / f"{self.name}.tflite"
        mode = MODES[self.mode]
        mode = mode() if self.num_samples is None else mode(self.num_samples)
        manifest = tfbnn.export.tflite(model, path, mode, **options)
        return manifest | {"path": str(path), "gzip_bytes": num_gzip_bytes(path)}


BASELINE = File("unpruned", "none", scale="full")

FILES = {
    "mlp": [
        BASELINE,
        File("unpruned", "moments", "int8"),
        File("unpruned", "ensemble", "int8", num_samples=4),
        File("weight-95", "moments"),
        File("weight-98", "moments"),
        File("weight-98", "moments", scale="full"),
        File("weight-98", "moments", "float16"),
        File("weight-98", "monte_carlo", num_samples=16),
        File("weight-99", "moments"),
        File("weight-99", "none"),
        File("block-95", "moments"),
        File("units", "moments", scale="full"),
        File("units", "moments"),
        File("units", "moments", "float16"),
        File("units", "moments", "int8"),
        File("units", "moments", "posterior"),
        File("units", "moments", "int8", scale="unit"),
        File("units-80", "moments"),
        File("units", "monte_carlo", "int8", num_samples=16),
        File("units", "ensemble", "int8", num_samples=8),
        File("units", "none", "int8"),
        File("units", "none", "full_int8"),
        File("control", "none", "int8"),
        File("weight-99", "moments", "int8", language="C"),
        File("weight-99", "none", "int8", language="C"),
        File("units", "moments", "int8", language="C"),
        File("units-50", "moments", "int8", language="C"),
        File("units-80", "moments", "int8", language="C"),
        File("units-80", "moments", language="C"),
        File("control", "none", "int8", language="C"),
    ],
    "lenet": [
        BASELINE,
        File("unpruned", "moments", "int8"),
        File("units", "moments"),
        File("units", "moments", "int8"),
        File("units", "monte_carlo", "int8", num_samples=16),
        File("units", "ensemble", "int8", num_samples=8),
        File("units", "none", "int8"),
        File("control", "none", "int8"),
        File("units", "moments", "int8", language="C"),
        File("control", "none", "int8", language="C"),
    ],
}


class Runner:
    """Runs a written file on many rows."""

    def __init__(self, file: File, path: str, build: pathlib.Path):
        self._model: Any = None
        if file.language == "C":
            self._model = compiled(path, build)
        else:
            self._model = tfbnn.lite.Model(path)

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities, entropy and mutual information."""
        if isinstance(self._model, c_compiler.CompiledNetwork):
            return tuple(self._model.answers(rows))
        answer = self._model.predict(rows)
        return (*answer, answer.mutual_information)


def compiled(path: str, build: pathlib.Path) -> c_compiler.CompiledNetwork:
    """The program of a folder of C code."""
    folder = pathlib.Path(path)
    program = c_compiler.compile_network(folder, build, folder.name)
    return c_compiler.CompiledNetwork(program, "float32", [(_CLASSES,), (), ()])
