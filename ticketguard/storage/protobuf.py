"""The wire form of protocol buffers: the fields of a message one after the other, and no object for a message.

Source: "Encoding", protobuf.dev. Lengths and numbers come from a hostile file, so whatever reaches past the end of its message
raises `ValueError` or `IndexError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Wire:
    """Wire types: how the value of a field is laid out."""

    VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Fields of a message in order: number, wire type, and an int or the bytes of the value."""
    position, end = 0, len(message)
    while position < end:
        key, position = varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == Wire.VARINT:
            value, position = varint(message, position)
            yield number, wire, value
            continue
        if wire == Wire.BYTES:
            length, position = varint(message, position)
        elif wire in (Wire.FIXED32, Wire.FIXED64):
            length = 4 if wire == Wire.FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > end:
            raise ValueError("truncated")
        yield number, wire, message[position : position + length]
        position += length


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number that begins at `position`, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def varints(packed: memoryview, most: int) -> list[int]:
    """The numbers of a packed field, of which there may be `most`."""
    values, position = [], 0
    while position < len(packed):
        value, position = varint(packed, position)
        values.append(value)
        if len(values) > most:
            raise ValueError("too many numbers")
    return values


def signed(values: list[int]) -> NDArray[np.int64]:
    """Two's complement of 64-bit words."""
    return np.array([value & (2**64 - 1) for value in values], dtype=np.uint64).view(np.int64)
