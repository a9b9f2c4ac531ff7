"""ONNX files: the weights (initializers) of a suspect that was exported for deployment.

Only this much of the format is read, directly from its protocol-buffer wire form: the graph's initializers, which of them a
MatMul or Gemm reads in transposed form on the way to an output, and what other tensors there are. Nothing is executed, no
external data file is opened, and no message is built whose size the file's own size does not bound, as parsing into objects
would (a two-byte empty message becomes a hundred bytes): nodes, which are kept as objects, are few.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.atomic import open_regular, reason
from ticketguard.storage.documents import DIMENSION_LIMIT
from ticketguard.storage.dtypes import widen
from ticketguard.storage.header import NAME_LIMIT, TENSOR_LIMIT, shown
from ticketguard.storage.onnxgraph import Wiring, add_node, beside_the_graph, name_in, readings, sparse_tensor
from ticketguard.storage.onnxproto import DataType, Graph, Model, Tensor
from ticketguard.storage.protobuf import Wire, fields, signed, varints
from ticketguard.storage.tensors import UNREAD, Shapes, TensorFile, in_memory
from ticketguard.storage.wrappers import TRANSPOSED

FILE_LIMIT = 8 << 30
ENTRY_LIMIT = 1 << 20
# Integers are one byte each in the file and some forty in a list; weights of any size are stored raw or as floats.
INTEGER_LIMIT = 1 << 24
# Fields of values in one tensor. Writers pack them in one; an array for every number would cost seventy times the file.
PIECE_LIMIT = 1 << 12
# The numpy type of raw data; bfloat16 is widened.
TYPES: dict[int, str] = {
    DataType.FLOAT: "<f4",
    DataType.UINT8: "u1",
    DataType.INT8: "i1",
    DataType.INT16: "<i2",
    DataType.INT32: "<i4",
    DataType.INT64: "<i8",
    DataType.BOOL: "u1",
    DataType.FLOAT16: "<f2",
    DataType.DOUBLE: "<f8",
    DataType.BFLOAT16: "<u2",
}
FLOATING = (DataType.FLOAT, DataType.DOUBLE)


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

    A matrix that is read both ways is there twice, the second time under `TRANSPOSED`. Tensors that are left out (text and
    other exotic types, sparse ones, constants inside nodes, functions and training) stand in the metadata `UNREAD`. Raises
    `FormatError` when the file is malformed, keeps weights in external files, repeats a name or exceeds the limits;
    `StorageError` when it cannot be read.
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
        tensors, others = _initializers(data, str(path))
        file = in_memory(tensors, path=path)
        if others:
            file.metadata[UNREAD] = others
        return file
    except (IndexError, ValueError, OverflowError) as error:
        raise FormatError(
            f"{path}: not a well-formed ONNX model ({error}); export the weights as safetensors"
        ) from error


def _initializers(model: memoryview, where: str) -> tuple[dict[str, NDArray[Any]], Shapes]:
    """The tensors that are read, and the shapes of those that are not."""
    graphs = [value for number, wire, value in fields(model) if number == Model.GRAPH and wire == Wire.BYTES]
    if len(graphs) != 1:
        raise FormatError(f"{where}: an ONNX model has one graph, found {len(graphs)}")
    stored: dict[str, NDArray[Any]] = {}
    wiring = Wiring()
    for count, (number, wire, value) in enumerate(fields(graphs[0])):
        if count > ENTRY_LIMIT:
            raise FormatError(f"{where}: more than {ENTRY_LIMIT} nodes and initializers")
        if number == Graph.INITIALIZER and wire == Wire.BYTES:
            entry = _entry(value)
            if entry.name in stored or len(stored) >= TENSOR_LIMIT:
                raise FormatError(f"{where}: tensor {shown(entry.name)} appears twice, or there are too many")
            array = _array(entry, where)
            if array is not None:
                stored[entry.name] = array
            else:
                wiring.leave_out(entry.name, tuple(entry.dims))
        elif number == Graph.SPARSE and wire == Wire.BYTES:
            wiring.leave_out(*sparse_tensor(value))
        elif number == Graph.NODE and wire == Wire.BYTES:
            add_node(wiring, value, depth=0)
        elif number == Graph.OUTPUT and wire == Wire.BYTES:
            wiring.outputs.append(name_in(value))
    ways = readings(wiring)
    tensors: dict[str, NDArray[Any]] = {}
    for name, array in stored.items():
        read = ways.get(name, {False}) if array.ndim == 2 else {False}
        tensors[name] = np.ascontiguousarray(array.T) if read == {True} else array
        if len(read) == 2:
            twin = f"{TRANSPOSED}.{name}"
            if twin in stored:
                raise FormatError(f"{where}: tensor {shown(twin)} appears twice: {shown(name)} is read both ways")
            tensors[twin] = np.ascontiguousarray(array.T)
    return tensors, wiring.others + beside_the_graph(model)


def _entry(message: memoryview) -> Entry:
    entry = Entry()
    for number, wire, value in fields(message):
        match number, wire:
            case (Tensor.DIMS, Wire.VARINT):
                entry.dims.append(value)
            case (Tensor.DIMS, Wire.BYTES):
                entry.dims += varints(value, DIMENSION_LIMIT + 1)
            case (Tensor.DATA_TYPE, Wire.VARINT):
                entry.kind = value
            case (Tensor.NAME, Wire.BYTES):
                entry.name = bytes(value[: NAME_LIMIT + 1]).decode("utf-8")
            case (Tensor.RAW, Wire.BYTES):
                entry.raw = value
            case (Tensor.FLOATS, Wire.BYTES | Wire.FIXED32):
                entry.values.append(np.frombuffer(value, dtype="<f4"))
            case (Tensor.DOUBLES, Wire.BYTES):
                entry.values.append(np.frombuffer(value, dtype="<f8"))
            case (Tensor.INT32S | Tensor.INT64S, Wire.BYTES):
                entry.values.append(signed(varints(value, INTEGER_LIMIT)))
            case (Tensor.EXTERNAL, Wire.BYTES):
                entry.external = True
            case (Tensor.LOCATION, Wire.VARINT):
                entry.external |= value != 0
            case _:
                pass
        if len(entry.values) > PIECE_LIMIT:
            raise ValueError("a tensor whose values lie in too many pieces")
    return entry


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
        bits = entry.kind in (DataType.FLOAT16, DataType.BFLOAT16)
        flat = joined.astype("<u2").view(dtype) if bits else joined.astype(dtype)
    if flat.size != prod(entry.dims):
        raise FormatError(f"{where}: tensor {entry.name} has {flat.size} values, its shape says {prod(entry.dims)}")
    if entry.kind == DataType.BFLOAT16:
        flat = widen(flat, "BF16")
    return flat.reshape(entry.dims)
