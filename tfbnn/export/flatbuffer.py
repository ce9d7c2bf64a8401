"""Flatbuffer: what a LiteRT file says about itself."""

import math
import pathlib
from collections.abc import Sequence

from ai_edge_litert import schema_py_generated as schema

_BYTES = {
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.FLOAT16: 2,
    schema.TensorType.INT32: 4,
    schema.TensorType.INT64: 8,
    schema.TensorType.FLOAT64: 8,
    schema.TensorType.INT16: 2,
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
    return sorted({_name(code) for code in _read(path).operatorCodes})


def minimum_runtime(path: pathlib.Path) -> str | None:
    """The oldest runtime that has every operation of the file.

    That is what the converter notes in it, or a newer one for what `encoding` put there.
    """
    model = _read(path)
    noted = [
        bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()
        for entry in model.metadata or []
        if entry.name == b"min_runtime_version"
    ]
    versions = {(builtin(code), code.version) for code in model.operatorCodes}
    added = [_RUNTIMES[version] for version in versions & _RUNTIMES.keys()]
    return max(noted + added, key=lambda v: [int(n) for n in v.split(".")], default=None)


def memory(path: pathlib.Path) -> dict[str, int]:
    """Bytes of the file's tensors while it runs, counted from the file.

    Returns:
        `weights`: constants as they are multiplied with, zeros that the file leaves out included
        where they are written out. `activations`: the most that one moment of the graph needs,
        operations in the order of the file. A runtime may add copies of its own.
    """
    model = _read(path)
    weights, activations = zip(*(_memory_of(model, one) for one in model.subgraphs), strict=True)
    # The graphs of a loop run while the values of the first one are kept.
    return {
        "weights": sum(weights),
        "activations": activations[0] + max(activations[1:], default=0),
    }


def _memory_of(model: schema.ModelT, graph: schema.SubGraphT) -> tuple[int, int]:
    """Bytes of the constants of one graph, and of its other tensors at most."""
    sizes = [_num_bytes(tensor) for tensor in graph.tensors]
    stored = [_stored_bytes(model, tensor) for tensor in graph.tensors]
    expanded = _written_out(model, graph, stored)
    last = {
        i: step for step, operator in enumerate(graph.operators) for i in _indices(operator.inputs)
    }
    last |= dict.fromkeys(_indices(graph.outputs), len(graph.operators))
    live = set(_indices(graph.inputs))
    peak = 0
    for step, operator in enumerate(graph.operators):
        live |= set(_indices(operator.outputs)) - expanded
        peak = max(peak, sum(sizes[i] for i in live))
        live = {i for i in live if last.get(i, 0) > step}
    return sum(stored) + sum(sizes[i] for i in expanded), peak


def builtin(code: schema.OperatorCodeT) -> int:
    """The number of an operation in the schema's list of builtin ones."""
    # Operations that are older than the 32-bit field are in the 8-bit one alone.
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _written_out(model: schema.ModelT, graph: schema.SubGraphT, stored: list[int]) -> set[int]:
    """Constants that are written out from a sparse or a narrow form once, when a file is loaded."""
    once = {schema.BuiltinOperator.DENSIFY, schema.BuiltinOperator.DEQUANTIZE}
    written: set[int] = set()
    for operator in graph.operators:
        if builtin(model.operatorCodes[operator.opcodeIndex]) in once:
            (source,), (target,) = operator.inputs, operator.outputs
            if stored[source] or source in written:
                written.add(target)
    return written


def _indices(vector: Sequence[int] | None) -> Sequence[int]:
    # The schema gives None for a vector that is missing.
    return () if vector is None else vector


def _stored_bytes(model: schema.ModelT, tensor: schema.TensorT) -> int:
    data = model.buffers[tensor.buffer].data
    return 0 if data is None else len(data)


def _num_bytes(tensor: schema.TensorT) -> int:
    # The shape of a scalar may be missing.
    shape = [] if tensor.shape is None else tensor.shape
    return int(math.prod(map(int, shape)) * _BYTES[tensor.type])


def _name(code: schema.OperatorCodeT) -> str:
    if builtin(code) == schema.BuiltinOperator.CUSTOM:
        return f"custom:{code.customCode.decode()}"
    return _NAMES[builtin(code)]


def _read(path: pathlib.Path) -> schema.ModelT:
    return schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
