"""Weights stored as whole numbers: which code stands for zero, told from the codes alone."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Types in which quantized weights are stored, by their names in safetensors files.
QUANTIZED = frozenset({"U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})


def zero_points(codes: NDArray[Any]) -> NDArray[Any]:
    """The code that stands for zero in each row of a quantized weight (O, ...): (O,), of the codes' own type.

    In a sparse weight most of a row has the code of zero, so what fills more than half of a row is its zero point (asymmetric
    quantization, by tensor or by row). Other rows have that of the whole weight: what fills more than half of it, else 0, for
    unsigned codes the most frequent one. A weight of two values is a mask, whose zero is 0.
    """
    rows = codes.reshape(codes.shape[0] if codes.ndim else 1, prod(codes.shape[1:]))
    if codes.size == 0 or _is_mask(codes):
        return np.zeros(len(rows), dtype=codes.dtype)
    middle, common = _majority(rows)
    (whole,), (found,) = _majority(rows.reshape(1, -1))
    if not found:
        values, counts = np.unique(rows, return_counts=True)
        whole = values[counts.argmax()] if codes.dtype.kind == "u" else 0
    return np.where(common, middle, codes.dtype.type(whole))


def less(codes: NDArray[Any], zeros: NDArray[Any]) -> NDArray[Any]:
    """Codes less those of zero, of the same type, 0 only where both are equal: int32, float64 for more than 16 bits."""
    if codes.dtype.itemsize <= 2:
        return np.asarray(np.subtract(codes, zeros, dtype=np.int32))
    # Modulo 2^64, so that no difference is lost to rounding before it is taken.
    difference = codes.astype(np.uint64) - zeros.astype(np.uint64)
    return np.asarray(difference.view(np.int64).astype(np.float64))


def _is_mask(codes: NDArray[Any]) -> bool:
    return bool(((codes == codes.min()) | (codes == codes.max())).all())


def _majority(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The middle value of each row, and whether more than half of the row has it: no other value can."""
    middle = np.partition(rows, rows.shape[1] // 2, axis=1)[:, rows.shape[1] // 2]
    return middle, 2 * np.count_nonzero(rows == middle[:, None], axis=1) > rows.shape[1]
