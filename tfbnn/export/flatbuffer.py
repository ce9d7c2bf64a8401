"""Flatbuffer: what a LiteRT file says about itself."""

import math
import pathlib
from collections.abc import Iterator

from ai_edge_litert import schema_py_generated as schema

_BYTES = {
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.FLOAT16: 2,
    schema.TensorType.INT32: 4,
    schema.TensorType.INT64: 8,
    schema.TensorType.INT8: 1,
    schema.TensorType.UINT8: 1,
    schema.TensorType.BOOL: 1,
    schema.TensorType.INT4: 0.5,
}
# First runtime with an operation in a version, as the converter notes it where it writes them.
_RUNTIMES = {
    (schema.BuiltinOperator.DENSIFY, 1): "2.2.0",
    (schema.BuiltinOperator.FULLY_CONNECTED, 8): "2.3.0",
    (schema.BuiltinOperator.FULLY_CONNECTED, 12): "2.17.0",
}
_NAMES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}


def operations(path: pathlib.Path) -> list[str]:
    """Names of the operations in the file, sorted; those not builtin as `custom:<name>`."""
    model = _read(path)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    return sorted({_name(code) for code in codes})


def minimum_runtime(path: pathlib.Path) -> str | None:
    """The oldest runtime that has every operation of the file.

    That is what the converter notes in it, or a newer one for what `encoding` put there.
    """
    model = _read(path)
    noted = [v.rstrip(b"\0").decode() for n, v in _metadata(path) if n == b"min_runtime_version"]
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    added = [
        _RUNTIMES[key] for key in ((_builtin(c), c.Version()) for c in codes) if key in _RUNTIMES
    ]
    return max(noted + added, key=lambda v: [int(n) for n in v.split(".")], default=None)


def memory(path: pathlib.Path) -> dict[str, int]:
    """Bytes of the file's tensors while it runs, counted from the file.

    Returns:
        `weights`: constants as they are multiplied with, zeros that the file leaves out included
        where they are written out. `activations`: the most that one moment of the graph needs,
        operations in the order of the file. A runtime may add copies of its own.
    """
    model = _read(path)
    graph = model.Subgraphs(0)
    sizes = [_num_bytes(graph.Tensors(i)) for i in range(graph.TensorsLength())]
    stored = {i: model.Buffers(graph.Tensors(i).Buffer()).DataLength() for i in range(len(sizes))}
    expanded = _written_out(model, graph)
    last = {i: step for step in range(graph.OperatorsLength()) for i in _inputs(graph, step)}
    last |= {int(i): graph.OperatorsLength() for i in graph.OutputsAsNumpy()}
    live = {int(i) for i in graph.InputsAsNumpy()}
    peak = 0
    for step in range(graph.OperatorsLength()):
        live |= {int(i) for i in graph.Operators(step).OutputsAsNumpy()} - expanded
        peak = max(peak, sum(sizes[i] for i in live))
        live = {i for i in live if last.get(i, 0) > step}
    return {
        "weights": sum(stored.values()) + sum(sizes[i] for i in expanded),
        "activations": peak,
    }


def _written_out(model: schema.Model, graph: schema.SubGraph) -> set[int]:
    """Constants that are written out from a sparse or a narrow form once, when a file is loaded."""
    once = {schema.BuiltinOperator.DENSIFY, schema.BuiltinOperator.DEQUANTIZE}
    constants = {
        index
        for index in range(graph.TensorsLength())
        if model.Buffers(graph.Tensors(index).Buffer()).DataLength()
    }
    written: set[int] = set()
    for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        if _builtin(code) in once and int(operator.Inputs(0)) in constants | written:
            written.add(int(operator.Outputs(0)))
    return written


def _inputs(graph: schema.SubGraph, step: int) -> list[int]:
    return [int(i) for i in graph.Operators(step).InputsAsNumpy()]


def _num_bytes(tensor: schema.Tensor) -> int:
    count = math.prod(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))
    return int(count * _BYTES[tensor.Type()])


def _name(code: schema.OperatorCode) -> str:
    if code.BuiltinCode() == schema.BuiltinOperator.CUSTOM:
        return f"custom:{code.CustomCode().decode()}"
    return _NAMES[_builtin(code)]


def _builtin(code: schema.OperatorCode) -> int:
    # Operations that are older than the 32-bit field are in the 8-bit one alone.
    return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())


def _metadata(path: pathlib.Path) -> Iterator[tuple[bytes, bytes]]:
    model = _read(path)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        yield entry.Name(), model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()


def _read(path: pathlib.Path) -> schema.Model:
    return schema.Model.GetRootAs(path.read_bytes(), 0)
