"""Encoding: a LiteRT file in fewer bytes, with the same answers bit for bit.

The converter has an option for this, whose result is larger than it need be: it stores positions
for each tensor although means and variances have the same ones, and chooses blocks that some types
are computed wrongly with. Here every constant of mostly zeros becomes compressed sparse rows, which
an operation (`DENSIFY`) writes out once, when the file is loaded.

Names of intermediate tensors, which no runtime reads, go as well, and equal constants are stored
once: a file of small layers and many operations is a tenth smaller for it.

A kernel of blocks of 1 x 4 in the order of its memory stays as it is stored: the runtime multiplies
with the blocks directly, in less time.
"""

import copy
from collections.abc import Iterator
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
_VECTORS = (
    (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT, np.uint8),
    (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT, np.uint16),
    (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT, np.int32),
)
# A sparse element costs its value and a position; below, little is won and an operation is added.
_LEAST_ZEROS = 0.5
_LEAST_SIZE = 256
# The only block that the runtime multiplies with directly, in float32.
_BLOCK = 4
# Zeros inside of blocks are stored; more than this share of them and rows are smaller.
_FULL_BLOCKS = 0.75


def smaller(content: bytes, sparse: bool) -> bytes:
    """The same LiteRT file without what it does not need.

    Args:
        content: A LiteRT file.
        sparse: Whether constants of mostly zeros are stored sparse.

    Returns:
        A LiteRT file with the same answers, bit for bit.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if sparse:
        _leave_out_zeros(model)
    for graph in model.subgraphs:
        _drop_names(graph)
    _share_constants(model)
    return _packed(model)


def _drop_names(graph: Any) -> None:
    kept = {*graph.inputs, *graph.outputs}
    for index, tensor in enumerate(graph.tensors):
        if index not in kept:
            tensor.name = None


def _share_constants(model: Any) -> None:
    first: dict[bytes, int] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None:
                tensor.buffer = first.setdefault(bytes(data), tensor.buffer)


def _leave_out_zeros(model: Any) -> None:
    vectors: dict[Any, _Shared] = {}
    densify: list[int] = []
    for graph in model.subgraphs:
        for index, values in list(_mostly_zero(model, graph)):
            if _multiplied_in_blocks(model, graph, index, values):
                _store_blocks(model, graph.tensors[index], values, vectors)
            else:
                _store_rows(model, graph, index, values, vectors, densify)


def _mostly_zero(model: Any, graph: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Index and values of the constants that are worth storing sparse."""
    for index, tensor in enumerate(graph.tensors):
        data = model.buffers[tensor.buffer].data
        stored = data is not None and tensor.type in _TYPES and tensor.sparsity is None
        if not stored or tensor.shape is None or len(tensor.shape) < 2:
            continue
        values = np.frombuffer(bytes(data), _TYPES[tensor.type]).reshape(tensor.shape)
        if values.size >= _LEAST_SIZE and np.mean(values == 0) >= _LEAST_ZEROS:
            yield index, values


def _multiplied_in_blocks(model: Any, graph: Any, index: int, values: np.ndarray) -> bool:
    """Whether the constant is a dense layer's kernel, made of blocks."""
    users = [op for op in graph.operators if index in op.inputs]
    codes = {_code(model.operatorCodes[op.opcodeIndex]) for op in users}
    if codes != {schema.BuiltinOperator.FULLY_CONNECTED} or values.dtype != np.float32:
        return False
    if values.shape[-1] % _BLOCK or any(op.inputs[1] != index for op in users):
        return False
    used = (values.reshape(-1, _BLOCK) != 0).any(axis=1).sum() * _BLOCK
    return np.count_nonzero(values) >= _FULL_BLOCKS * used


def _store_rows(
    model: Any,
    graph: Any,
    index: int,
    values: np.ndarray,
    vectors: dict[Any, "_Shared"],
    densify: list[int],
) -> None:
    """Replace a constant by its compressed rows and an operation that writes them out."""
    if not densify:
        densify.append(_add_densify(model))
    tensor = graph.tensors[index]
    rows = copy.copy(tensor)
    rows.sparsity = _sparsity(values != 0, vectors)
    rows.buffer = _add_buffer(model, values[values != 0])
    graph.tensors.append(rows)
    tensor.buffer = 0
    operator = schema.OperatorT()
    operator.opcodeIndex = densify[0]
    operator.inputs = np.array([len(graph.tensors) - 1], np.int32)
    operator.outputs = np.array([index], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
    operator.builtinOptions = schema.DensifyOptionsT()
    graph.operators.insert(0, operator)


def _store_blocks(
    model: Any, tensor: Any, values: np.ndarray, vectors: dict[Any, "_Shared"]
) -> None:
    """Store a kernel as its blocks; the operation that reads it knows what to do."""
    blocks = values.reshape(len(values), -1, _BLOCK)
    used = (blocks != 0).any(axis=-1)
    sparsity = _sparsity(used, vectors)
    sparsity.traversalOrder = np.arange(3, dtype=np.int32)
    sparsity.blockMap = np.array([1], np.int32)
    sparsity.dimMetadata.append(_dense_axis(_BLOCK))
    tensor.sparsity = sparsity
    tensor.buffer = _add_buffer(model, blocks[used])


def _sparsity(used: np.ndarray, vectors: dict[Any, "_Shared"]) -> Any:
    """All axes dense but the last, which is compressed."""
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder = np.arange(used.ndim, dtype=np.int32)
    rows = used.reshape(-1, used.shape[-1])
    last = schema.DimensionMetadataT()
    last.format = schema.DimensionType.SPARSE_CSR
    segments = np.concatenate([[0], np.cumsum(rows.sum(axis=1))])
    last.arraySegmentsType, last.arraySegments = _vector(segments, vectors)
    last.arrayIndicesType, last.arrayIndices = _vector(np.nonzero(rows)[1], vectors)
    parameters.dimMetadata = [*(_dense_axis(int(n)) for n in used.shape[:-1]), last]
    return parameters


def _dense_axis(size: int) -> Any:
    axis = schema.DimensionMetadataT()
    axis.format = schema.DimensionType.DENSE
    axis.denseSize = size
    return axis


def _vector(values: np.ndarray, vectors: dict[Any, "_Shared"]) -> tuple[int, "_Shared"]:
    """Positions in the narrowest type, stored once however many tensors have the same ones."""
    largest = int(values.max(initial=0))
    kind, make, dtype = next(v for v in _VECTORS if largest <= np.iinfo(v[2]).max)
    key = kind, values.astype(dtype).tobytes()
    if key not in vectors:
        table = make()
        table.values = values.astype(dtype)
        vectors[key] = _Shared(table)
    return kind, vectors[key]


class _Shared:
    """A table that is packed once; a flatbuffer may point to it from many places."""

    def __init__(self, table: Any):
        self._table = table
        self._offset: int | None = None

    def Pack(self, builder: Any) -> int:  # noqa: N802 (the schema's name)
        if self._offset is None:
            self._offset = self._table.Pack(builder)
        return self._offset


class _AlignedBuffer(schema.BufferT):
    """Data start at a multiple of 16, as the schema asks and its generated writer forgets."""

    def Pack(self, builder: Any) -> int:  # noqa: N802 (the schema's name)
        if self.data is None:
            return super().Pack(builder)
        content = bytes(self.data)
        builder.StartVector(1, len(content), 16)
        builder.head -= len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _code(code: Any) -> int:
    # Operations that are older than the 32-bit field are in the 8-bit one alone.
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _add_densify(model: Any) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DENSIFY
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _add_buffer(model: Any, values: np.ndarray) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _packed(model: Any) -> bytes:
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
        buffer.__class__ = _AlignedBuffer
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
