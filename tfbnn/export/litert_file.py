"""A LiteRT file that is being rewritten: its constants, and the operations that read them."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfbnn.export.flatbuffer import builtin

_TYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
# Below, an operation and a tensor more cost what is saved.
_LEAST_SIZE = 256


class LiteRTFile:
    """A parsed file, whose constants can be stored in other ways.

    A loop in it has graphs of its own; a constant is named by its number in the graph that
    `constants` has come to.
    """

    def __init__(self, content: bytes):
        self._model = schema.ModelT.InitFromPackedBuf(content, 0)
        self._graph = self._model.subgraphs[0]

    def constants(self, chosen: Callable[[np.ndarray], bool]) -> Iterator[tuple[int, np.ndarray]]:
        """Number and values of the large dense constants of real numbers that are chosen."""
        for graph in self._model.subgraphs:
            self._graph = graph
            for index, tensor in enumerate(list(graph.tensors)):
                data = self._model.buffers[tensor.buffer].data
                stored = data is not None and tensor.type in _TYPES and tensor.sparsity is None
                if stored and tensor.shape is not None and len(tensor.shape) >= 2:
                    values = np.frombuffer(bytes(data), _TYPES[tensor.type]).reshape(tensor.shape)
                    if values.size >= _LEAST_SIZE and chosen(values):
                        yield index, values

    def kernels(self, contents: Collection[bytes]) -> Iterator[tuple[int, np.ndarray]]:
        """Number and values `(units, inputs)` of the kernels of dense layers with these bytes."""
        chosen = self.constants(lambda values: values.tobytes() in contents)
        return ((index, values) for index, values in chosen if self.is_kernel(index))

    def is_kernel(self, index: int) -> bool:
        """Whether a constant is the kernel of dense layers and nothing else."""
        readers = self._readers(index)
        codes = {builtin(self._model.operatorCodes[op.opcodeIndex]) for op in readers}
        return codes == {schema.BuiltinOperator.FULLY_CONNECTED} and all(
            op.inputs[1] == index for op in readers
        )

    def tensor(self, index: int) -> Any:
        """The table of a constant."""
        return self._graph.tensors[index]

    def buffer(self, values: np.ndarray) -> int:
        """The number of a new buffer that holds an array."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def read_by_version(self, index: int, version: int) -> list[Any]:
        """Let dense layers read a kernel by a version of their operation; the operators."""
        code = self._code(schema.BuiltinOperator.FULLY_CONNECTED, version)
        for operator in self._readers(index):
            operator.opcodeIndex = code
        return self._readers(index)

    def write_out(
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

    def _readers(self, index: int) -> list[Any]:
        return [operator for operator in self._graph.operators if index in operator.inputs]

    def _code(self, kind: int, version: int) -> int:
        """Number of an operation in the file's list."""
        for index, code in enumerate(self._model.operatorCodes):
            if (builtin(code), code.version) == (kind, version):
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = version
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1


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
