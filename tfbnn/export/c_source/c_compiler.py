"""Compilation: run what was written, where there is a C compiler."""

import pathlib
import shutil
import subprocess
from collections.abc import Sequence

import numpy as np

from tfbnn.export.c_source.source import FLAGS

# A network of a million weights is compiled in seconds; nothing that fits a device takes this long.
_SECONDS = 1800


class CompiledNetwork:
    """A compiled check program, which answers to a pipe with three arrays for each input."""

    def __init__(self, program: pathlib.Path, input_type: str, shapes: Sequence[tuple[int, ...]]):
        self.program = program
        self._input_type = input_type
        self._shapes = list(shapes)

    def answers(self, rows: np.ndarray) -> list[np.ndarray]:
        """The three answers for each row, `(rows, ...)` each; a `RuntimeError` if it fails."""
        written = rows.astype(self._input_type).tobytes()
        output = _run([self.program, "--stdin"], written)
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        table = np.frombuffer(output, np.float32).reshape(len(rows), sum(sizes))
        parts = np.split(table, np.cumsum(sizes)[:-1], axis=1)
        return [
            part.reshape(len(rows), *shape) for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def check(self) -> str:
        """What the program prints about its own rows; a `RuntimeError` if they do not pass."""
        return _run([self.program], b"").decode()

    def benchmark(self, measurements: int) -> float:
        """Median microseconds of a call."""
        return float(_run([self.program, "--benchmark", str(measurements)], b""))


def compiler() -> str | None:
    """Path of the C compiler `cc`, or None."""
    return shutil.which("cc")


def compile_network(
    sources: pathlib.Path, folder: pathlib.Path, name: str, flags: Sequence[str] = FLAGS
) -> pathlib.Path:
    """Compile the network and its check program in a folder; the path of the program.

    A network that is there, and no older than its source, is not compiled again. Raises a
    `RuntimeError` if the compiler fails.
    """
    network, check, program = (folder / n for n in (f"{name}.o", f"test_{name}.o", f"test_{name}"))
    start, source = [compiler(), *flags], sources / f"{name}.c"
    if not network.exists() or network.stat().st_mtime < source.stat().st_mtime:
        stack = ["-fstack-usage"] if _has_stack_usage() else []
        _run([*start, *stack, "-c", "-o", network, source], b"")
    _run([*start, "-c", "-o", check, sources / f"test_{name}.c"], b"")
    _run([*start, "-o", program, check, network, "-lm"], b"")
    return program


def stack_bytes(folder: pathlib.Path, name: str) -> int | None:
    """Stack of the network, at most: that of all its functions together, libm's not counted.

    None where the compiler does not say (`gcc -fstack-usage` does).
    """
    usage = folder / f"{name}.su"
    if not usage.exists():
        return None
    return sum(int(line.split("\t")[1]) for line in usage.read_text().splitlines())


def _has_stack_usage() -> bool:
    # Clang takes the option since version 11 and gcc has always had it; others are left alone.
    version = _run([compiler(), "--version"], b"").decode().lower()
    return "gcc" in version or "free software foundation" in version


def _run(command: Sequence[str | pathlib.Path | None], given: bytes) -> bytes:
    ended = subprocess.run(
        list(map(str, command)), input=given, capture_output=True, timeout=_SECONDS
    )
    if ended.returncode:
        message = (ended.stderr or ended.stdout).decode(errors="replace")[-2000:]
        raise RuntimeError(
            f"{pathlib.Path(str(command[0])).name} failed on the written C code, which was "
            f"removed: {message}"
        )
    return ended.stdout
