"""ONNX files: the weights (initializers) of a suspect that was exported for deployment.

Only this much of the format is read, directly from its protocol-buffer wire form: the graph's initializers, which of them a
MatMul or Gemm reads in transposed form on the way to an output, and what other tensors there are. Nothing is executed, no
external data file is opened, and no message is built whose size the file's own size does not bound, as parsing into objects
would (a two-byte empty message becomes a hundred bytes): nodes, which are kept as objects, are few.
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
from ticketguard.storage.tensors import UNREAD, Shapes, TensorFile, in_memory

FILE_LIMIT = 8 << 30
ENTRY_LIMIT = 1 << 20
# Nodes, their inputs and outputs, in all; and graphs inside nodes of graphs inside nodes.
WIRE_LIMIT = 1 << 19
WIRE_NAME_LIMIT = 1 << 12
DEPTH_LIMIT = 16
DIMENSION_LIMIT = 8
NAME_LIMIT = 512
# Integers are one byte each in the file and some forty in a list; weights of any size are stored raw or as floats.
INTEGER_LIMIT = 1 << 24
# Fields of values in one tensor. Writers pack them in one; an array for every number would cost seventy times the file.
PIECE_LIMIT = 1 << 12

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTION, FUNCTION_NODE, FUNCTION_ATTRIBUTE = 7, 20, 25, 7, 11
TRAINING_GRAPHS = (1, 2)
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT, GRAPH_SPARSE = 1, 5, 12, 15
NODE_INPUT, NODE_OUTPUT, NODE_OPERATION, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_INTEGER, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (
    1,
    3,
    (5, 10),
    (6, 11),
    (22, 23),
)
SPARSE_VALUES, SPARSE_DIMS = 1, 3
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


# What a matrix that is read both ways is called the other way round.
TRANSPOSED = "transposed."


@dataclass(slots=True)
class Node:
    """What an operation reads: its inputs, and the outputs of the graphs `inside` it.

    `turned`: it is a matrix product that reads its second input as (inputs, outputs).
    """

    inputs: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    turned: bool = False


@dataclass(slots=True)
class Attribute:
    """What an attribute brings along: shapes of its tensors, and the outputs of the graphs `inside` it."""

    name: bytes = b""
    integer: int = 0
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)


@dataclass
class Wiring:
    """The nodes that make each value, in a graph and all graphs inside it; its outputs; tensors that are no initializers."""

    makers: dict[str, list[Node]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    others: Shapes = field(default_factory=list)
    wires: int = 0

    def count(self, wires: int) -> None:
        """Raise `ValueError` when there are too many wires: each takes many times its size in the file."""
        self.wires += wires
        if self.wires > WIRE_LIMIT:
            raise ValueError(f"more than {WIRE_LIMIT} nodes, inputs and outputs")

    def leave_out(self, name: str, shape: tuple[int, ...]) -> None:
        """Note a tensor that is not read, when it has rows and columns."""
        if len(shape) >= 2:
            self.others.append((name, shape))


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
    except (IndexError, ValueError, UnicodeDecodeError, OverflowError) as error:
        raise FormatError(
            f"{path}: not a well-formed ONNX model ({error}); export the weights as safetensors"
        ) from error


def _initializers(model: memoryview, where: str) -> tuple[dict[str, NDArray[Any]], Shapes]:
    """The tensors that are read, and the shapes of those that are not."""
    graphs = [value for number, wire, value in _fields(model) if number == MODEL_GRAPH and wire == BYTES]
    if len(graphs) != 1:
        raise FormatError(f"{where}: an ONNX model has one graph, found {len(graphs)}")
    stored: dict[str, NDArray[Any]] = {}
    wiring = Wiring()
    for count, (number, wire, value) in enumerate(_fields(graphs[0])):
        if count > ENTRY_LIMIT:
            raise FormatError(f"{where}: more than {ENTRY_LIMIT} nodes and initializers")
        if number == GRAPH_INITIALIZER and wire == BYTES:
            entry = _entry(value)
            if entry.name in stored or len(stored) >= TENSOR_LIMIT:
                raise FormatError(f"{where}: tensor {shown(entry.name)} appears twice, or there are too many")
            array = _array(entry, where)
            if array is not None:
                stored[entry.name] = array
            else:
                wiring.leave_out(entry.name, tuple(entry.dims))
        elif number == GRAPH_SPARSE and wire == BYTES:
            wiring.leave_out(*_sparse(value))
        elif number == GRAPH_NODE and wire == BYTES:
            _add_node(wiring, value, depth=0)
        elif number == GRAPH_OUTPUT and wire == BYTES:
            wiring.outputs.append(_name_in(value))
    ways = _ways(wiring)
    tensors: dict[str, NDArray[Any]] = {}
    for name, array in stored.items():
        read = ways.get(name, {False}) if array.ndim == 2 else {False}
        tensors[name] = np.ascontiguousarray(array.T) if read == {True} else array
        if len(read) == 2:
            twin = TRANSPOSED + name
            if twin in stored:
                raise FormatError(f"{where}: tensor {shown(twin)} appears twice: {shown(name)} is read both ways")
            tensors[twin] = np.ascontiguousarray(array.T)
    return tensors, wiring.others + _beside_the_graph(model)


def _beside_the_graph(model: memoryview) -> Shapes:
    """Tensors of local functions and of training graphs."""
    # Names mean something else in each of them, and these wires lead to no output of the model: nobody follows them.
    aside = Wiring()
    for number, wire, value in _fields(model):
        if wire != BYTES or number not in (MODEL_FUNCTION, MODEL_TRAINING):
            continue
        for part, kind, item in _fields(value):
            aside.count(1)
            if kind != BYTES:
                continue
            if number == MODEL_TRAINING:
                if part in TRAINING_GRAPHS:
                    _add_graph(aside, item, depth=0)
            elif part == FUNCTION_NODE:
                _add_node(aside, item, depth=0)
            elif part == FUNCTION_ATTRIBUTE:
                attribute = _attribute(aside, item, depth=0)
                for shape in attribute.shapes:
                    aside.leave_out(attribute.name.decode("utf-8", errors="replace"), shape)
    return aside.others


def _ways(wiring: Wiring) -> dict[str, set[bool]]:
    """How values are read on the way to an output: as stored (False), transposed by a matrix product (True), or both.

    Nodes that no output depends on change no answer, so an attacker can add what he likes: they do not count. When nothing
    makes an output (there may be none), all nodes do.
    """
    waiting = [name for name in wiring.outputs if name in wiring.makers] or list(wiring.makers)
    reached = set(waiting)
    ways: dict[str, set[bool]] = {}
    while waiting:
        for node in wiring.makers.get(waiting.pop(), ()):
            for place, name in enumerate(node.inputs):
                ways.setdefault(name, set()).add(node.turned and place == 1)
            new = {*node.inputs, *node.inside} - reached
            reached |= new
            waiting += new
    return ways


def _add_node(wiring: Wiring, message: memoryview, *, depth: int) -> None:
    """Note a node, the nodes of graphs inside it (whose names mean the same there), and the tensors it brings along."""
    node, outputs = Node(), []
    brought: list[tuple[int, ...]] = []
    operation, flipped = b"", False
    for number, wire, value in _fields(message):
        if wire != BYTES:
            continue
        if number == NODE_INPUT:
            node.inputs.append(_wire(value))
        elif number == NODE_OUTPUT:
            outputs.append(_wire(value))
        elif number == NODE_OPERATION:
            operation = bytes(value[:64])
        elif number == NODE_ATTRIBUTE:
            attribute = _attribute(wiring, value, depth=depth)
            node.inside += attribute.inside
            brought += attribute.shapes
            if attribute.name == b"transB":
                flipped = attribute.integer == 1
        wiring.count(number in (NODE_INPUT, NODE_OUTPUT, NODE_ATTRIBUTE))
    wiring.count(1)
    node.turned = operation == b"MatMul" or (operation == b"Gemm" and not flipped)
    for output in outputs:
        wiring.makers.setdefault(output, []).append(node)
    for shape in brought:
        wiring.leave_out(outputs[0] if outputs else "", shape)


def _attribute(wiring: Wiring, message: memoryview, *, depth: int) -> Attribute:
    """Read an attribute, and note the nodes and initializers of graphs inside it."""
    found = Attribute()
    for part, kind, item in _fields(message):
        if (part, kind) == (ATTRIBUTE_NAME, BYTES):
            found.name = bytes(item[:64])
        elif (part, kind) == (ATTRIBUTE_INTEGER, VARINT):
            found.integer = item
        elif part in ATTRIBUTE_GRAPHS and kind == BYTES:
            found.inside += _add_graph(wiring, item, depth=depth + 1)
        elif part in (*ATTRIBUTE_TENSORS, *ATTRIBUTE_SPARSE) and kind == BYTES:
            wiring.count(1)
            found.shapes.append(_shape_of(item) if part in ATTRIBUTE_TENSORS else _sparse(item)[1])
    return found


def _add_graph(wiring: Wiring, message: memoryview, *, depth: int) -> list[str]:
    """Note the nodes and initializers of a graph inside a node; the names of its outputs."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"graphs nested more than {DEPTH_LIMIT} deep")
    outputs = []
    for number, wire, value in _fields(message):
        if wire != BYTES:
            continue
        wiring.count(1)
        if number == GRAPH_NODE:
            _add_node(wiring, value, depth=depth)
        elif number == GRAPH_OUTPUT:
            outputs.append(_name_in(value))
        elif number == GRAPH_INITIALIZER:
            wiring.leave_out(_name_in(value, NAME), _shape_of(value))
        elif number == GRAPH_SPARSE:
            wiring.leave_out(*_sparse(value))
    return outputs


def _wire(value: memoryview) -> str:
    """A name that connects nodes: every byte counts, or two names could be mistaken for one."""
    if len(value) > WIRE_NAME_LIMIT:
        raise ValueError(f"a name of more than {WIRE_NAME_LIMIT} bytes")
    return bytes(value).decode("utf-8", errors="surrogateescape")


def _name_in(message: memoryview, field_number: int = 1) -> str:
    names = [value for number, wire, value in _fields(message) if (number, wire) == (field_number, BYTES)]
    return _wire(names[-1]) if names else ""


def _sparse(message: memoryview) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a sparse tensor: the name is that of its values."""
    values = [value for number, wire, value in _fields(message) if (number, wire) == (SPARSE_VALUES, BYTES)]
    return _name_in(values[-1], NAME) if values else "", _shape_of(message, SPARSE_DIMS)


def _shape_of(message: memoryview, field_number: int = DIMS) -> tuple[int, ...]:
    """Dimensions of a tensor whose values are not looked at."""
    dims: list[int] = []
    for number, wire, value in _fields(message):
        if number == field_number and len(dims) <= DIMENSION_LIMIT:
            dims += [value] if wire == VARINT else _varints(value, DIMENSION_LIMIT + 1)
    return tuple(dims)


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
