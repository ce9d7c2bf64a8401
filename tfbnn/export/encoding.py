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
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfbnn.export.bits import steps
from tfbnn.export.litert_file import LiteRTFile
from tfbnn.export.sparsity import BLOCK, Sparsity

# A sparse element costs its value and a position; below, nothing is won.
_LEAST_ZEROS = 0.5
# From here on a product with the kept weights takes less time than one with all of them: an element
# that is kept costs some ten times as much as one of a dense kernel.
_FASTER_SPARSE = 0.9
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
    file = LiteRTFile(content)
    if widths:
        _round_kernels(file, {kernel.T.tobytes(): bits for kernel, bits in widths})
    if halved:
        _halve(file)
    if sparse:
        _leave_out_zeros(file)
    file.drop_names()
    file.share_constants()
    return file.packed()


def can_round(content: bytes, kernel: np.ndarray) -> bool:
    """Whether a LiteRT file has a kernel `(inputs, units)` that `smaller` can store in few bits.

    It may be too small to be worth it, or the converter may have put a factor into it.
    """
    return next(LiteRTFile(content).kernels({kernel.T.tobytes()}), None) is not None


def _halve(file: LiteRTFile) -> None:
    """Store large constants in float16."""
    for index, values in file.constants(lambda v: v.dtype == np.float32):
        stored = copy.copy(file.tensor(index))
        stored.type = schema.TensorType.FLOAT16
        stored.buffer = file.buffer(values.astype(np.float16))
        options = schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT()
        file.write_out(index, stored, schema.BuiltinOperator.DEQUANTIZE, 2, options)


def _round_kernels(file: LiteRTFile, bits_of: dict[bytes, int]) -> None:
    """Store kernels `(units, inputs)` of dense layers as integers, with a step for each unit."""
    for index, values in file.kernels(bits_of):
        tensor, bits = file.tensor(index), bits_of[values.tobytes()]
        step = steps(values.T, bits)
        integers = np.rint(values / step[:, np.newaxis]).astype(np.int8)
        tensor.type = {4: schema.TensorType.INT4, 8: schema.TensorType.INT8}[bits]
        tensor.buffer = file.buffer(_pairs(integers) if bits == 4 else integers)
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = step.astype(np.float32)
        tensor.quantization.zeroPoint = np.zeros(len(step), np.int64)
        tensor.quantization.quantizedDimension = 0
        for operator in file.read_by_version(index, _INTEGER_VERSION):
            # Activations are rounded to 8 bits with an offset, at each call.
            operator.builtinOptions.asymmetricQuantizeInputs = True


def _leave_out_zeros(file: LiteRTFile) -> None:
    """Store constants of mostly zeros sparse."""
    sparsity = Sparsity()
    for index, values in file.constants(lambda v: np.mean(v == 0) >= _LEAST_ZEROS):
        few = values.dtype == np.float32 and np.mean(values == 0) >= _FASTER_SPARSE
        if few and file.is_kernel(index):
            _store_kernel(file, index, values, sparsity)
        else:
            _store_rows(file, index, values, sparsity)


def _store_kernel(file: LiteRTFile, index: int, values: np.ndarray, sparsity: Sparsity) -> None:
    """Store a kernel as rows or blocks; the operations that read it know what to do."""
    tensor = file.tensor(index)
    if _comes_in_blocks(values):
        values = values.reshape(len(values), -1, BLOCK)
        used = (values != 0).any(axis=-1)
        tensor.sparsity = sparsity.of_blocks(used)
    else:
        used = values != 0
        tensor.sparsity = sparsity.of_rows(used)
    tensor.buffer = file.buffer(values[used])
    # With an older version runtimes would take what is kept for a dense kernel.
    file.read_by_version(index, _SPARSE_VERSION)


def _store_rows(file: LiteRTFile, index: int, values: np.ndarray, sparsity: Sparsity) -> None:
    """Store a constant as compressed rows, which are written out when the file is loaded."""
    rows = copy.copy(file.tensor(index))
    rows.sparsity = sparsity.of_rows(values != 0)
    rows.buffer = file.buffer(values[values != 0])
    options = schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT()
    file.write_out(index, rows, schema.BuiltinOperator.DENSIFY, 1, options)


def _comes_in_blocks(values: np.ndarray) -> bool:
    if values.shape[-1] % BLOCK:
        return False
    used = (values.reshape(-1, BLOCK) != 0).any(axis=1).sum() * BLOCK
    return np.count_nonzero(values) >= _FULL_BLOCKS * used


def _pairs(integers: np.ndarray) -> np.ndarray:
    """Two integers of 4 bits in a byte, the first one low."""
    flat = integers.reshape(-1).astype(np.uint8) & 0xF
    padded = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return padded[::2] | (padded[1::2] << 4)
