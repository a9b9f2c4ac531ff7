"""What tracing knows of a tensor and of its channels (atoms), and the rule for operations it does not know.

Every position of a channel dimension has an *atom* (an int64 label). A rule says which atoms must be the same channel, which
can never move, and which labels the result carries. Whatever no rule knows is fixed and noted: never wrong, only less free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from ticketguard.graph.groups import Norm

Labels = NDArray[np.int64]
FIXED = 0


@dataclass(frozen=True, kw_only=True)
class Value:
    """What is known of a tensor: its shape, the atoms of each dimension (None: positions that never move), the layers of which
    it is an affine function, the layer whose unmodified output it is, and its name when it is a parameter.
    """

    shape: tuple[int, ...]
    labels: tuple[Labels | None, ...]
    affine_of: frozenset[str] = frozenset()
    output_of: str | None = None
    parameter: str | None = None


@dataclass
class Atoms:
    """Atoms and what was learnt about them: equal pairs, stiff ones (no free rescaling), notes, norms, layers to leave out."""

    count: int = 1
    pairs: list[Labels] = field(default_factory=list)
    stiff: list[Labels] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    norms: dict[str, Norm] = field(default_factory=dict)
    biases: dict[str, str] = field(default_factory=dict)
    leave_out: dict[str, None] = field(default_factory=dict)

    def fresh(self, size: int) -> Labels:
        """`size` new atoms."""
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def same(self, first: Labels | None, second: Labels | None) -> None:
        """Declare two label arrays equal position by position; against None both never move."""
        if first is None or second is None:
            self.fix(first, second)
        else:
            self.pairs.append(np.stack([first, second]))

    def fix(self, *arrays: Labels | None) -> None:
        """Declare that these positions never move."""
        for labels in arrays:
            if labels is not None:
                self.pairs.append(np.stack([labels, np.full_like(labels, FIXED)]))

    def stiffen(self, value: Value) -> None:
        """Declare that the channels of `value` pass a step that is not positively homogeneous."""
        self.stiff.extend(labels for labels in value.labels if labels is not None)

    def linear_step(self, source: Value, layer: str | None) -> None:
        """A layer reads `source`: if that is an affine function of other layers, any invertible map fits in between."""
        if source.affine_of and layer is not None:
            self.leave_out.update(dict.fromkeys([*sorted(source.affine_of), layer]))


Rule = Callable[[Atoms, Node, Sequence[Value]], Value]


def where(node: Node) -> str:
    """The module path of a node, for notes."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path]
    return paths[-1] if paths else node.name


def shape_of(node: Node) -> tuple[int, ...]:
    """Static shape of a node's tensor."""
    return tuple(int(size) for size in node.meta["val"].shape)


def plain(shape: tuple[int, ...]) -> Value:
    """A tensor that carries no movable channel."""
    return Value(shape=shape, labels=(None,) * len(shape))


def plain_like(source: Value) -> Value:
    """Same labels, no longer a layer's own output nor affine."""
    return Value(shape=source.shape, labels=source.labels)


def argument(node: Node, index: int, name: str, default: object = None) -> object:
    """Argument of a call, positional or by keyword."""
    return node.args[index] if index < len(node.args) else node.kwargs.get(name, default)


def opname(node: Node) -> str:
    """Short name of the operation a node calls."""
    return str(getattr(node.target, "overloadpacket", node.target)).removeprefix("aten.")


def fixed(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """An operation that mixes channels in an unknown way: nothing that enters it may move."""
    if any(labels is not None for value in inputs for labels in value.labels):
        atoms.notes[f"{where(node)}: channels pass {opname(node)} and are taken as fixed"] = None
    for value in inputs:
        atoms.fix(*value.labels)
    return plain(shape_of(node))


def broadcast(atoms: Atoms, shape: tuple[int, ...], inputs: Sequence[Value]) -> tuple[Labels | None, ...]:
    """Labels of an elementwise result: inputs that span a dimension must agree on it."""
    result: list[Labels | None] = []
    for dim, size in enumerate(shape):
        spans = []
        for value in inputs:
            index = dim - len(shape) + len(value.shape)
            if index >= 0 and value.shape[index] == size and size > 1:
                spans.append(value.labels[index])
        for labels in spans[1:]:
            atoms.same(spans[0], labels)
        result.append(spans[0] if spans and all(labels is not None for labels in spans) else None)
    return tuple(result)
