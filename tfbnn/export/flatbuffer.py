"""Flatbuffer: what a LiteRT file says about itself."""

import pathlib
from collections.abc import Iterator

from ai_edge_litert import schema_py_generated as schema

_NAMES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}


def operations(path: pathlib.Path) -> list[str]:
    """Names of the operations in the file, sorted; those not builtin as `custom:<name>`."""
    model = _read(path)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    return sorted({_name(code) for code in codes})


def minimum_runtime(path: pathlib.Path) -> str | None:
    """The oldest runtime that has every operation of the file, as the converter notes in it."""
    for name, value in _metadata(path):
        if name == b"min_runtime_version":
            return value.rstrip(b"\0").decode()
    return None


def _name(code: schema.OperatorCode) -> str:
    if code.BuiltinCode() == schema.BuiltinOperator.CUSTOM:
        return f"custom:{code.CustomCode().decode()}"
    # Operations that are older than the 32-bit field are in the 8-bit one alone.
    return _NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]


def _metadata(path: pathlib.Path) -> Iterator[tuple[bytes, bytes]]:
    model = _read(path)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        yield entry.Name(), model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()


def _read(path: pathlib.Path) -> schema.Model:
    return schema.Model.GetRootAs(path.read_bytes(), 0)
