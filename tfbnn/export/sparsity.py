"""Sparsity: where the kept elements of a constant are, as tables of a LiteRT file."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

BLOCK = 4
"""The only block that the runtime multiplies with directly, in float32."""

_VECTORS = (
    (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT, np.uint8),
    (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT, np.uint16),
    (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT, np.int32),
)


class Sparsity:
    """Makes the tables of one file, which has equal positions once."""

    def __init__(self) -> None:
        self._vectors: dict[Any, _Shared] = {}

    def of_rows(self, used: np.ndarray) -> Any:
        """Of elements that are kept: all axes dense but the last, which is compressed."""
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

    def of_blocks(self, used: np.ndarray) -> Any:
        """Of blocks `(units, blocks)` that are kept."""
        parameters = self.of_rows(used)
        parameters.traversalOrder = np.arange(3, dtype=np.int32)
        parameters.blockMap = np.array([1], np.int32)
        parameters.dimMetadata.append(_dense_axis(BLOCK))
        return parameters

    def _vector(self, values: np.ndarray) -> tuple[int, "_Shared"]:
        """Positions in the narrowest type."""
        largest = int(values.max(initial=0))
        kind, make, dtype = next(v for v in _VECTORS if largest <= np.iinfo(v[2]).max)
        key = kind, values.astype(dtype).tobytes()
        if key not in self._vectors:
            table = make()
            table.values = values.astype(dtype)
            self._vectors[key] = _Shared(table)
        return kind, self._vectors[key]


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
