"""Element types of safetensors files, and the exact widening of those that numpy does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError

Stored = NDArray[Any]

# How the bytes of each type are mapped. BF16 and 8-bit floats have no numpy type and are widened on reading. BOOL is
# mapped as bytes: a byte other than 0 and 1 in a numpy boolean is undefined behaviour, and files are hostile.
CODES = {
    "BOOL": "|u1",
    "U8": "|u1",
    "I8": "|i1",
    "F8_E4M3": "|u1",
    "F8_E5M2": "|u1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "BF16": "<u2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
STORED: dict[str, np.dtype[Any]] = {name: np.dtype(code) for name, code in CODES.items()}
NAMES: dict[np.dtype[Any], str] = {np.dtype(np.bool_): "BOOL"} | {
    dtype: name for name, dtype in STORED.items() if name not in ("BOOL", "BF16", "F8_E4M3", "F8_E5M2")
}


def name_of(dtype: np.dtype[Any]) -> str:
    """The safetensors name of a numpy type, e.g. F32; raises `UsageError` for a type the format cannot hold."""
    try:
        return NAMES[dtype.newbyteorder("<")]
    except KeyError:
        raise UsageError(f"numbers of type {dtype} cannot be stored in a safetensors file") from None


def widen(stored: Stored, name: str) -> Stored:
    """Values of a mapped array of type `name`: booleans for BOOL, float32 for BF16 and 8-bit floats, else itself."""
    if name == "BOOL":
        return np.not_equal(stored, 0)
    if name == "BF16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if name in _TABLES:
        return _TABLES[name][stored]
    return stored


def to_float(values: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Values as floats: float64 stays, other floats become float32 exactly, integers and booleans become float64."""
    # Signalling NaNs, which a hostile file may hold, are invalid numbers before they are NaNs.
    with np.errstate(invalid="ignore"):
        if values.dtype.kind == "f":
            return values.astype(np.float64 if values.dtype.itemsize == 8 else np.float32, copy=False)
        return values.astype(np.float64)


def to_bf16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Bit patterns of the values rounded to bfloat16, ties to even; every NaN becomes the quiet one."""
    single = np.ascontiguousarray(values, dtype=np.float32)
    bits = single.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(single), np.uint32(0x7FC0), rounded).astype(np.uint16).reshape(np.shape(values))


def _table_e4m3() -> NDArray[np.float32]:
    """The 256 values of the 4-bit exponent type of OCP FP8: bias 7, no infinity, one NaN per sign."""
    codes = np.arange(256)
    exponent, fraction = (codes >> 3) & 15, codes & 7
    size = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * np.exp2(exponent - 7.0))
    size[(codes & 127) == 127] = np.nan
    return np.where(codes >= 128, -size, size).astype(np.float32)


# The 5-bit exponent type is the upper byte of a half-precision number.
_TABLES = {
    "F8_E4M3": _table_e4m3(),
    "F8_E5M2": (np.arange(256, dtype=np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32),
}
