"""ONNX files: the weights (initializers) of a suspect that was exported for deployment.

Only this much of the format is read, directly from its protocol-buffer wire form: the graph's initializers, and which of them
a MatMul or Gemm reads in transposed form. Nothing is executed, no external data file is opened, and no message is built whose
size the file's own size does not bound, as parsing into objects would (a two-byte empty message becomes a hundred bytes).
Source: onnx.proto3 of ONNX 1.x.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.atomic import open_regular, reason
from ticketguard.storage.header import TENSOR_LIMIT, shown
from ticketguard.storage.tensors import TensorFile, in_memory

FILE_LIMIT = 8 << 30
ENTRY_LIMIT = 1 << 20
DIMENSION_LIMIT = 8
NAME_LIMIT = 512
# Integers are one byte each in the file and some forty in a list; weights of any size are stored raw or as floats.
INTEGER_LIMIT = 1 << 24
# Fields of values in one tensor. Writers pack them in one; an array for every number would cost seventy times the file.
PIECE_LIMIT = 1 << 12

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER = 7, 1, 5
NODE_INPUT, NODE_OPERATION, NODE_ATTRIBUTE = 1, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_INTEGER = 1, 3
DIMS, DATA_TYPE, FLOATS, INT32S, INT64S, NAME, RAW, DOUBLES, EXTERNAL, LOCATION = 1, 2, 4, 5, 7, 8, 9, 10, 13, 14
# TensorProto.DataType -> numpy type of raw data; bfloat16 is widened.
BFLOAT16 = 16
FLOATING = (1, 11)
TYPES: dict[int, str] = {
    1: "<f4",
    2: "u1",
    3: "i1",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "u1",
    10: "<f2",
    11: "<f8",
    BFLOAT16: "<u2",
}


@dataclass
class Entry:
    """An initializer while it is read: everything the message says of it."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    kind: int = 0
    raw: memoryview | None = None
    values: list[NDArray[Any]] = field(default_factory=list)
    external: bool = False


def read_onnx(path: Path) -> TensorFile:
    """The initializers of an ONNX model by name, linear layers as (outputs, inputs).

    Text and other exotic types are left out. Raises `FormatError` when the file is malformed, keeps weights in external
    files, repeats a name or exceeds the limits; `StorageError` when it cannot be read.
    """
    path = Path(path)
    try:
        with open_regular(path) as handle:
            size = handle.seek(0, 2)
            if not 0 < size <= FILE_LIMIT:
                raise FormatError(f"{path}: an ONNX model has 1 byte to {FILE_LIMIT >> 30} GiB, found {size} bytes")
            data = memoryview(mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {reason(error)}") from error
    try:
        return in_memory(_initializers(data, str(path)), path=path)
    except (IndexError, ValueError, UnicodeDecodeError, OverflowError) as error:
        raise FormatError(
            f"{path}: not a well-formed ONNX model ({error}); export the weights as safetensors"
        ) from error


def _initializers(model: memoryview, where: str) -> dict[str, NDArray[Any]]:
    graphs = [value for number, wire, value in _fields(model) if number == MODEL_GRAPH and wire == BYTES]
    if len(graphs) != 1:
        raise FormatError(f"{where}: an ONNX model has one graph, found {len(graphs)}")
    tensors: dict[str, NDArray[Any]] = {}
    transposed: set[str] = set()
    for count, (number, wire, value) in enumerate(_fields(graphs[0])):
        if count > ENTRY_LIMIT:
            raise FormatError(f"{where}: more than {ENTRY_LIMIT} nodes and initializers")
        if number == GRAPH_INITIALIZER and wire == BYTES:
            entry = _entry(value)
            if entry.name in tensors or len(tensors) >= TENSOR_LIMIT:
                raise FormatError(f"{where}: tensor {shown(entry.name)} appears twice, or there are too many")
            array = _array(entry, where)
            if array is not None:
                tensors[entry.name] = array
        elif number == GRAPH_NODE and wire == BYTES:
            transposed.update(_reads_transposed(value))
    turned = {name for name in transposed if name in tensors and tensors[name].ndim == 2}
    return {name: np.ascontiguousarray(array.T) if name in turned else array for name, array in tensors.items()}


def _fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Fields of a message in order: number, wire type, and an int or the bytes of the value."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _varint(message, position)
            yield number, wire, value
            continue
        if wire == BYTES:
            length, position = _varint(message, position)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > end:
            raise ValueError("truncated")
        yield number, wire, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
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


def _entry(message: memoryview) -> Entry:
    entry = Entry()
    for number, wire, value in _fields(message):
        match number, wire:
            case (1, 0):
                entry.dims.append(value)
            case (1, 2):
                entry.dims += _varints(value, DIMENSION_LIMIT + 1)
            case (2, 0):
                entry.kind = value
            case (8, 2):
                entry.name = bytes(value[: NAME_LIMIT + 1]).decode("utf-8")
            case (9, 2):
                entry.raw = value
            case (4, 2):
                entry.values.append(np.frombuffer(value, dtype="<f4"))
            case (10, 2):
                entry.values.append(np.frombuffer(value, dtype="<f8"))
            case (5, 2) | (7, 2):
                entry.values.append(_signed(_varints(value, INTEGER_LIMIT)))
            case (4, 5):
                entry.values.append(np.frombuffer(value, dtype="<f4"))
            case (13, 2):
                entry.external = True
            case (14, 0):
                entry.external |= value != 0
            case _:
                pass
        if len(entry.values) > PIECE_LIMIT:
            raise ValueError("a tensor whose values lie in too many pieces")
    return entry


def _varints(packed: memoryview, most: int) -> list[int]:
    values, position = [], 0
    while position < len(packed):
        value, position = _varint(packed, position)
        values.append(value)
        if len(values) > most:
            raise ValueError("too many numbers")
    return values


def _signed(values: list[int]) -> NDArray[np.int64]:
    """Two's complement of 64-bit words."""
    return np.array([value & (2**64 - 1) for value in values], dtype=np.uint64).view(np.int64)


def _array(entry: Entry, where: str) -> NDArray[Any] | None:
    """The tensor, or None when its type holds no weights."""
    if not 0 < len(entry.name) <= NAME_LIMIT or not entry.name.isprintable():
        raise FormatError(f"{where}: tensor name {shown(entry.name)} is empty, too long or not printable")
    if entry.external:
        raise FormatError(f"{where}: tensor {entry.name} lies in an external file; export the model as one file")
    if entry.kind not in TYPES:
        return None
    if len(entry.dims) > DIMENSION_LIMIT:
        raise FormatError(
            f"{where}: tensor {entry.name} has {len(entry.dims)} dimensions, at most {DIMENSION_LIMIT} are read"
        )
    dtype = np.dtype(TYPES[entry.kind])
    if entry.raw is not None:
        flat = np.frombuffer(entry.raw, dtype=dtype)
    else:
        joined = np.concatenate(entry.values) if entry.values else np.empty(0, dtype=dtype)
        # Only the types that have a field of their own hold floats; all others stand in integers.
        if entry.values and (joined.dtype != dtype if entry.kind in FLOATING else joined.dtype.kind != "i"):
            raise ValueError("values of another type than the tensor's")
        bits = entry.kind in (10, BFLOAT16)
        flat = joined.astype("<u2").view(dtype) if bits else joined.astype(dtype)
    if flat.size != prod(entry.dims):
        raise FormatError(f"{where}: tensor {entry.name} has {flat.size} values, its shape says {prod(entry.dims)}")
    if entry.kind == BFLOAT16:
        flat = (flat.astype("<u4") << np.uint32(16)).view("<f4")
    return flat.reshape(entry.dims)


def _reads_transposed(node: memoryview) -> list[str]:
    """The name of the matrix that a MatMul or Gemm reads as (inputs, outputs), if the node is one."""
    inputs: list[str] = []
    operation, turned = "", False
    for number, wire, value in _fields(node):
        if wire != BYTES:
            continue
        if number == NODE_INPUT and len(inputs) < 2:
            inputs.append(bytes(value[: NAME_LIMIT + 1]).decode("utf-8", errors="replace"))
        elif number == NODE_OPERATION:
            operation = bytes(value[:64]).decode("utf-8", errors="replace")
        elif number == NODE_ATTRIBUTE and len(value) < 64:
            said = {field_number: item for field_number, _, item in _fields(value)}
            name = said.get(ATTRIBUTE_NAME)
            if isinstance(name, memoryview) and bytes(name) == b"transB":
                turned = said.get(ATTRIBUTE_INTEGER) == 1
    reads = operation == "MatMul" or (operation == "Gemm" and not turned)
    return inputs[1:2] if reads else []
