"""The graph of an ONNX model, as far as it says how weights are read, and the tensors that lie elsewhere in the model.

Nodes are kept as objects, so they are counted: each takes many times its size in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ticketguard.storage import onnxproto as proto
from ticketguard.storage.documents import DIMENSION_LIMIT
from ticketguard.storage.protobuf import Wire, fields, varints
from ticketguard.storage.tensors import Shapes

# Nodes, their inputs and outputs, in all; and graphs inside nodes of graphs inside nodes.
WIRE_LIMIT = 1 << 19
WIRE_NAME_LIMIT = 1 << 12
DEPTH_LIMIT = 16
TENSOR_FIELDS = (proto.Attribute.TENSOR, proto.Attribute.TENSORS)
GRAPH_FIELDS = (proto.Attribute.GRAPH, proto.Attribute.GRAPHS)
SPARSE_FIELDS = (proto.Attribute.SPARSE, proto.Attribute.SPARSES)
TRAINING_FIELDS = (proto.Training.INITIALIZATION, proto.Training.ALGORITHM)


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


def readings(wiring: Wiring) -> dict[str, set[bool]]:
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


def beside_the_graph(model: memoryview) -> Shapes:
    """Tensors of local functions and of training graphs."""
    # Names mean something else in each of them, and these wires lead to no output of the model: nobody follows them.
    aside = Wiring()
    for number, wire, value in fields(model):
        if wire != Wire.BYTES or number not in (proto.Model.FUNCTION, proto.Model.TRAINING):
            continue
        for part, kind, item in fields(value):
            aside.count(1)
            if kind != Wire.BYTES:
                continue
            if number == proto.Model.TRAINING:
                if part in TRAINING_FIELDS:
                    _add_graph(aside, item, depth=0)
            elif part == proto.Function.NODE:
                add_node(aside, item, depth=0)
            elif part == proto.Function.ATTRIBUTE:
                attribute = _attribute(aside, item, depth=0)
                for shape in attribute.shapes:
                    aside.leave_out(attribute.name.decode("utf-8", errors="replace"), shape)
    return aside.others


def add_node(wiring: Wiring, message: memoryview, *, depth: int) -> None:
    """Note a node, the nodes of graphs inside it (whose names mean the same there), and the tensors it brings along."""
    node, outputs = Node(), []
    brought: list[tuple[int, ...]] = []
    operation, flipped = b"", False
    for number, wire, value in fields(message):
        if wire != Wire.BYTES:
            continue
        if number == proto.Node.INPUT:
            node.inputs.append(_wire(value))
        elif number == proto.Node.OUTPUT:
            outputs.append(_wire(value))
        elif number == proto.Node.OPERATION:
            operation = bytes(value[:64])
        elif number == proto.Node.ATTRIBUTE:
            attribute = _attribute(wiring, value, depth=depth)
            node.inside += attribute.inside
            brought += attribute.shapes
            if attribute.name == b"transB":
                flipped = attribute.integer == 1
        wiring.count(number in (proto.Node.INPUT, proto.Node.OUTPUT, proto.Node.ATTRIBUTE))
    wiring.count(1)
    node.turned = operation == b"MatMul" or (operation == b"Gemm" and not flipped)
    for output in outputs:
        wiring.makers.setdefault(output, []).append(node)
    for shape in brought:
        wiring.leave_out(outputs[0] if outputs else "", shape)


def _attribute(wiring: Wiring, message: memoryview, *, depth: int) -> Attribute:
    """Read an attribute, and note the nodes and initializers of graphs inside it."""
    found = Attribute()
    for part, kind, item in fields(message):
        if (part, kind) == (proto.Attribute.NAME, Wire.BYTES):
            found.name = bytes(item[:64])
        elif (part, kind) == (proto.Attribute.INTEGER, Wire.VARINT):
            found.integer = item
        elif part in GRAPH_FIELDS and kind == Wire.BYTES:
            found.inside += _add_graph(wiring, item, depth=depth + 1)
        elif part in (*TENSOR_FIELDS, *SPARSE_FIELDS) and kind == Wire.BYTES:
            wiring.count(1)
            found.shapes.append(_shape_of(item) if part in TENSOR_FIELDS else sparse_tensor(item)[1])
    return found


def _add_graph(wiring: Wiring, message: memoryview, *, depth: int) -> list[str]:
    """Note the nodes and initializers of a graph inside a node; the names of its outputs."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"graphs nested more than {DEPTH_LIMIT} deep")
    outputs = []
    for number, wire, value in fields(message):
        if wire != Wire.BYTES:
            continue
        wiring.count(1)
        if number == proto.Graph.NODE:
            add_node(wiring, value, depth=depth)
        elif number == proto.Graph.OUTPUT:
            outputs.append(name_in(value))
        elif number == proto.Graph.INITIALIZER:
            wiring.leave_out(name_in(value, proto.Tensor.NAME), _shape_of(value))
        elif number == proto.Graph.SPARSE:
            wiring.leave_out(*sparse_tensor(value))
    return outputs


def _wire(value: memoryview) -> str:
    """A name that connects nodes: every byte counts, or two names could be mistaken for one."""
    if len(value) > WIRE_NAME_LIMIT:
        raise ValueError(f"a name of more than {WIRE_NAME_LIMIT} bytes")
    return bytes(value).decode("utf-8", errors="surrogateescape")


def name_in(message: memoryview, field_number: int = proto.Value.NAME) -> str:
    """The name that a message holds, empty without one; the last of several counts."""
    names = [value for number, wire, value in fields(message) if (number, wire) == (field_number, Wire.BYTES)]
    return _wire(names[-1]) if names else ""


def sparse_tensor(message: memoryview) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a sparse tensor: the name is that of its values."""
    values = [value for number, wire, value in fields(message) if (number, wire) == (proto.Sparse.VALUES, Wire.BYTES)]
    return name_in(values[-1], proto.Tensor.NAME) if values else "", _shape_of(message, proto.Sparse.DIMS)


def _shape_of(message: memoryview, field_number: int = proto.Tensor.DIMS) -> tuple[int, ...]:
    """Dimensions of a tensor whose values are not looked at."""
    dims: list[int] = []
    for number, wire, value in fields(message):
        if number == field_number and len(dims) <= DIMENSION_LIMIT:
            dims += [value] if wire == Wire.VARINT else varints(value, DIMENSION_LIMIT + 1)
    return tuple(dims)
