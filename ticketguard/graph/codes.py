"""Weights stored as whole numbers: which code stands for zero, told from the codes alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Types in which quantized weights are stored, by their names in safetensors files; wider ones count, or index.
QUANTIZED = frozenset({"U8", "I8", "U16", "I16"})


def centred(codes: NDArray[Any]) -> NDArray[np.int32]:
    """Codes (O, ...) of a quantized weight less those that stand for zero: int32 of the same shape.

    In a sparse weight most of a row has the code of zero, so what fills more than half of a row is its zero point (asymmetric
    quantization, by tensor or by row). Other rows have that of the whole weight: what fills more than half of it, else 0, for
    unsigned codes the most frequent one. A weight of two values is a mask, and stays as it is.
    """
    if codes.size == 0 or _is_mask(codes):
        return codes.astype(np.int32)
    rows = codes.reshape(codes.shape[0] if codes.ndim else 1, -1)
    middle, common = _majority(rows)
    (whole,), (found,) = _majority(rows.reshape(1, -1))
    if not found:
        values, counts = np.unique(rows, return_counts=True)
        whole = values[counts.argmax()] if codes.dtype.kind == "u" else 0
    zero = np.where(common, middle.astype(np.int32), np.int32(whole))
    return np.asarray((rows.astype(np.int32) - zero[:, None]).reshape(codes.shape))


def _is_mask(codes: NDArray[Any]) -> bool:
    return bool(((codes == codes.min()) | (codes == codes.max())).all())


def _majority(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The middle value of each row, and whether more than half of the row has it: no other value can."""
    middle = np.partition(rows, rows.shape[1] // 2, axis=1)[:, rows.shape[1] // 2]
    return middle, 2 * np.count_nonzero(rows == middle[:, None], axis=1) > rows.shape[1]
