"""Encoding: a LiteRT file in fewer bytes.

The converter has options for this, whose results are larger or worse than they need be. Its sparse
format stores positions for each tensor although means and variances have the same ones, chooses
blocks that some types are computed wrongly with, and lets the runtime write all zeros out when it
loads the file, so that nothing gets faster. Its float16 takes in every constant, also the 1e-12
that keeps a division from failing. Here

| constant | is stored as | the runtime |
|---|---|---|
| float32 kernel of a dense layer, few weights left | rows, or blocks of 4 | multiplies with them |
| any other of mostly zeros | rows | writes them out when it loads the file (`DENSIFY`) |
| kernel of a dense layer, where bits are given | integers of 4 or 8 bits | multiplies with them |
| large, where float16 is asked for | float16 | widens it when it loads the file (`DEQUANTIZE`) |

Names of intermediate tensors, which no runtime reads, go as well, and equal constants are stored
once: a file of small layers and many operations is a tenth smaller for it.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfbnn.export.bits import steps
from tfbnn.export.flatbuffer import builtin

_TYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
_VECTORS = (
    (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT, np.uint8),
    (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT, np.uint16),
    (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT, np.int32),
)
# A sparse element costs its value and a position; below, nothing is won.
_LEAST_ZEROS = 0.5
# Below, an operation and a tensor more cost what is saved.
_LEAST_SIZE = 256
# From here on a product with the kept weights takes less time than one with all of them: an element
# that is kept costs some ten times as much as one of a dense kernel.
_FASTER_SPARSE = 0.9
# The only block that the runtime multiplies with directly, in float32.
_BLOCK = 4
# Versions of the dense operation: the one that reads sparse kernels, and integers by unit.
_SPARSE_VERSION = 8
_INTEGER_VERSION = 12
# Zeros inside of blocks are stored; more than this share of them and rows are smaller.
_FULL_BLOCKS = 0.75


def smaller(
    content: bytes,
    sparse: bool,
    halved: bool = False,
    widths: Sequence[tuple[np.ndarray, int]] = (),
) -> bytes:
    """The same LiteRT file without what it does not need.

    Args:
        content: A LiteRT file.
        sparse: Whether constants of mostly zeros are stored sparse.
        halved: Whether large float32 constants are stored in float16.
        widths: Kernels `(inputs, units)` of dense layers, and the bits to store each in, 4 or 8.

    Returns:
        A LiteRT file with the same answers, up to the rounding of `halved` and `widths`.
    """
    file = _File(schema.ModelT.InitFromPackedBuf(content, 0))
    if widths:
        file.round_kernels(widths)
    if halved:
        file.halve()
    if sparse:
        file.leave_out_zeros()
    file.drop_names()
    file.share_constants()
    return file.packed()


def can_round(content: bytes, kernel: np.ndarray) -> bool:
    """Whether a LiteRT file has a kernel `(inputs, units)` that `smaller` can store in few bits.

    It may be too small to be worth it, or the converter may have put a factor into it.
    """
    return _File(schema.ModelT.InitFromPackedBuf(content, 0)).has_kernel(kernel)


class _File:
    """A LiteRT file that is being rewritten; a loop in it has graphs of its own."""

    def __init__(self, model: Any):
        self._model = model
        self._graph = model.subgraphs[0]
        self._vectors: dict[Any, _Shared] = {}

    def halve(self) -> None:
        """Store large constants in float16."""
        for index, values in self._constants(lambda v: v.dtype == np.float32):
            stored = copy.copy(self._graph.tensors[index])
            stored.type = schema.TensorType.FLOAT16
            stored.buffer = self._add_buffer(values.astype(np.float16))
            options = schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT()
            self._write_out(index, stored, schema.BuiltinOperator.DEQUANTIZE, 2, options)

    def round_kernels(self, widths: Sequence[tuple[np.ndarray, int]]) -> None:
        """Store kernels of dense layers in few bits, with a step for each unit."""
        bits_of = {kernel.T.tobytes(): bits for kernel, bits in widths}
        for index, values in self._kernels(bits_of):
            self._round_kernel(index, values, bits_of[values.tobytes()])

    def has_kernel(self, kernel: np.ndarray) -> bool:
        """Whether a dense layer multiplies with this kernel, stored as it is."""
        return next(self._kernels({kernel.T.tobytes()}), None) is not None

    def leave_out_zeros(self) -> None:
        """Store constants of mostly zeros sparse."""
        for index, values in self._constants(_is_mostly_zero):
            if self._is_multiplied_sparse(index, values):
                self._store_kernel(index, values)
            else:
                self._store_rows(index, values)

    def drop_names(self) -> None:
        """Forget the names of all tensors but inputs and outputs."""
        for graph in self._model.subgraphs:
            kept = {*graph.inputs, *graph.outputs}
            for index, tensor in enumerate(graph.tensors):
                if index not in kept:
                    tensor.name = None

    def share_constants(self) -> None:
        """Let tensors of equal content have one buffer."""
        first: dict[bytes, int] = {}
        for tensor in self._tensors():
            data = self._model.buffers[tensor.buffer].data
            if data is not None:
                tensor.buffer = first.setdefault(bytes(data), tensor.buffer)

    def packed(self) -> bytes:
        """The bytes of the file."""
        used = {tensor.buffer for tensor in self._tensors()}
        used |= {entry.buffer for entry in self._model.metadata or []}
        for index, buffer in enumerate(self._model.buffers):
            if index not in used:
                buffer.data = None
            buffer.__class__ = _AlignedBuffer
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensors(self) -> Iterator[Any]:
        return (tensor for graph in self._model.subgraphs for tensor in graph.tensors)

    def _constants(self, chosen: Callable[[np.ndarray], bool]) -> Iterator[tuple[int, np.ndarray]]:
        """Index and values of the large dense constants of real numbers that are chosen.

        In all graphs; that of the constant is then the one that is rewritten.
        """
        for graph in self._model.subgraphs:
            self._graph = graph
            yield from list(self._constants_of_graph(chosen))

    def _constants_of_graph(
        self, chosen: Callable[[np.ndarray], bool]
    ) -> Iterator[tuple[int, np.ndarray]]:
        for index, tensor in enumerate(self._graph.tensors):
            data = self._model.buffers[tensor.buffer].data
            stored = data is not None and tensor.type in _TYPES and tensor.sparsity is None
            if stored and tensor.shape is not None and len(tensor.shape) >= 2:
                values = np.frombuffer(bytes(data), _TYPES[tensor.type]).reshape(tensor.shape)
                if values.size >= _LEAST_SIZE and chosen(values):
                    yield index, values

    def _kernels(self, contents: Any) -> Iterator[tuple[int, np.ndarray]]:
        chosen = self._constants(lambda values: values.tobytes() in contents)
        return ((index, values) for index, values in chosen if self._is_kernel(index))

    def _is_kernel(self, index: int) -> bool:
        """Whether a constant is the kernel of dense layers and nothing else."""
        users = [op for op in self._graph.operators if index in op.inputs]
        codes = {builtin(self._model.operatorCodes[op.opcodeIndex]) for op in users}
        return codes == {schema.BuiltinOperator.FULLY_CONNECTED} and all(
            op.inputs[1] == index for op in users
        )

    def _is_multiplied_sparse(self, index: int, values: np.ndarray) -> bool:
        """Whether the constant is a dense layer's kernel that is faster without its zeros."""
        few = values.dtype == np.float32 and np.mean(values == 0) >= _FASTER_SPARSE
        return few and self._is_kernel(index)

    def _round_kernel(self, index: int, values: np.ndarray, bits: int) -> None:
        """Store a kernel `(units, inputs)` as integers."""
        tensor = self._graph.tensors[index]
        step = steps(values.T, bits)
        integers = np.rint(values / step[:, np.newaxis]).astype(np.int8)
        tensor.type = {4: schema.TensorType.INT4, 8: schema.TensorType.INT8}[bits]
        tensor.buffer = self._add_buffer(_pairs(integers) if bits == 4 else integers)
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = step.astype(np.float32)
        tensor.quantization.zeroPoint = np.zeros(len(step), np.int64)
        tensor.quantization.quantizedDimension = 0
        for operator in self._graph.operators:
            if index in operator.inputs:
                kind = schema.BuiltinOperator.FULLY_CONNECTED
                operator.opcodeIndex = self._code(kind, _INTEGER_VERSION)
                # Activations are rounded to 8 bits with an offset, at each call.
                operator.builtinOptions.asymmetricQuantizeInputs = True

    def _store_kernel(self, index: int, values: np.ndarray) -> None:
        """Store a kernel as rows or blocks; the operations that read it know what to do."""
        tensor = self._graph.tensors[index]
        if _comes_in_blocks(values):
            values = values.reshape(len(values), -1, _BLOCK)
            used = (values != 0).any(axis=-1)
            tensor.sparsity = self._sparsity(used)
            tensor.sparsity.traversalOrder = np.arange(3, dtype=np.int32)
            tensor.sparsity.blockMap = np.array([1], np.int32)
            tensor.sparsity.dimMetadata.append(_dense_axis(_BLOCK))
        else:
            used = values != 0
            tensor.sparsity = self._sparsity(used)
        tensor.buffer = self._add_buffer(values[used])
        for operator in self._graph.operators:
            if index in operator.inputs:
                # Runtimes go by the version: with an older one they would take what is kept for a
                # dense kernel.
                kind = schema.BuiltinOperator.FULLY_CONNECTED
                operator.opcodeIndex = self._code(kind, _SPARSE_VERSION)

    def _store_rows(self, index: int, values: np.ndarray) -> None:
        """Store a constant as compressed rows, which are written out when the file is loaded."""
        rows = copy.copy(self._graph.tensors[index])
        rows.sparsity = self._sparsity(values != 0)
        rows.buffer = self._add_buffer(values[values != 0])
        options = schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT()
        self._write_out(index, rows, schema.BuiltinOperator.DENSIFY, 1, options)

    def _write_out(
        self, index: int, stored: Any, kind: int, version: int, options: tuple[int, Any]
    ) -> None:
        """Let an operation compute a constant from the tensor `stored`."""
        self._graph.tensors.append(stored)
        self._graph.tensors[index].buffer = 0
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(kind, version)
        operator.inputs = np.array([len(self._graph.tensors) - 1], np.int32)
        operator.outputs = np.array([index], np.int32)
        operator.builtinOptionsType, operator.builtinOptions = options
        # In front of all that there is: what reads the constant comes later.
        self._graph.operators.insert(0, operator)

    def _code(self, kind: int, version: int) -> int:
        """Index of an operation in the file's list."""
        for index, code in enumerate(self._model.operatorCodes):
            if (builtin(code), code.version) == (kind, version):
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = version
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1

    def _add_buffer(self, values: np.ndarray) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _sparsity(self, used: np.ndarray) -> Any:
        """All axes dense but the last, which is compressed."""
        parameters = schema.SparsityParametersT()
        parameters.traversalOrder = np.arange(used.ndim, dtype=np.int32)
        rows = used.reshape(-1, used.shape[-1])
        last = schema.DimensionMetadataT()
        last.format = schema.DimensionType.SPARSE_CSR
        segments = np.concatenate([[0], np.cumsum(rows.sum(axis=1))])
        last.arraySegmentsType, last.arraySegments = self._vector(segments)
        last.arrayIndicesType, last.arrayIndices = self._vector(np.nonzero(rows)[1])
        parameters.dimMetadata = [*(_dense_axis(int(n)) for n in used.shape[:-1]), last]
        return parameters

    def _vector(self, values: np.ndarray) -> tuple[int, "_Shared"]:
        """Positions in the narrowest type, once however many tensors have the same ones."""
        largest = int(values.max(initial=0))
        kind, make, dtype = next(v for v in _VECTORS if largest <= np.iinfo(v[2]).max)
        key = kind, values.astype(dtype).tobytes()
        if key not in self._vectors:
            table = make()
            table.values = values.astype(dtype)
            self._vectors[key] = _Shared(table)
        return kind, self._vectors[key]


def _is_mostly_zero(values: np.ndarray) -> bool:
    return np.mean(values == 0) >= _LEAST_ZEROS


def _comes_in_blocks(values: np.ndarray) -> bool:
    if values.shape[-1] % _BLOCK:
        return False
    used = (values.reshape(-1, _BLOCK) != 0).any(axis=1).sum() * _BLOCK
    return np.count_nonzero(values) >= _FULL_BLOCKS * used


def _pairs(integers: np.ndarray) -> np.ndarray:
    """Two integers of 4 bits in a byte, the first one low."""
    flat = integers.reshape(-1).astype(np.uint8) & 0xF
    padded = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return padded[::2] | (padded[1::2] << 4)


def _dense_axis(size: int) -> Any:
    axis = schema.DimensionMetadataT()
    axis.format = schema.DimensionType.DENSE
    axis.denseSize = size
    return axis


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
