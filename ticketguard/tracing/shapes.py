"""How operations that move, merge, cut or reduce dimensions carry channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch.fx import Node

from ticketguard.tracing.atoms import (
    FIXED,
    Atoms,
    Labels,
    Value,
    argument,
    broadcast,
    fixed,
    opname,
    plain,
    shape_of,
    where,
)


def spatial(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Pooling and resizing: batch and channel dimensions stay, the others never move."""
    source, shape = inputs[0], shape_of(node)
    kept = 1 if len(shape) != len(source.shape) or shape[:2] != source.shape[:2] else 2
    atoms.fix(*source.labels[kept:])
    affine = source.affine_of if "avg" in opname(node) else frozenset[str]()
    return replace(plain(shape), labels=(*source.labels[:kept], *(None,) * (len(shape) - kept)), affine_of=affine)


def reduction(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """mean, sum, amax, ... over dimensions: the result does not depend on the order along them."""
    source, shape = inputs[0], shape_of(node)
    dims = argument(node, 1, "dim")
    listed = range(len(source.shape)) if dims is None else [dims] if isinstance(dims, int) else list(dims)  # type: ignore[call-overload]
    gone = {int(dim) % len(source.shape) for dim in listed}
    keep = len(shape) == len(source.shape)
    atoms.stiff.extend(labels for dim in gone if (labels := source.labels[dim]) is not None)
    left = tuple(
        None if dim in gone else source.labels[dim] for dim in range(len(source.shape)) if keep or dim not in gone
    )
    affine = source.affine_of if opname(node) in {"mean", "sum"} else frozenset[str]()
    return Value(shape=shape, labels=left, affine_of=affine)


def reshape(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """view, flatten, squeeze, ...: merged dimensions repeat their channels; splitting a channel dimension fixes it."""
    source, shape = inputs[0], shape_of(node)
    labels: list[Labels | None] = [None] * len(shape)
    for taken, made in _blocks(source.shape, shape):
        carrying = [dim for dim in taken if source.labels[dim] is not None]
        if not carrying:
            continue
        if len(carrying) == 1 and len(made) == 1:
            labels[made[0]] = _merged(source, taken, carrying[0])
        else:
            atoms.fix(*(source.labels[dim] for dim in carrying))
            atoms.notes[f"{where(node)}: channels are split into groups or heads and taken as fixed"] = None
    return Value(shape=shape, labels=tuple(labels), affine_of=source.affine_of)


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions (ones left out) whose sizes multiply to the same number on both sides."""
    left = [dim for dim, size in enumerate(before) if size != 1]
    right = [dim for dim, size in enumerate(after) if size != 1]
    result = []
    while left and right:
        taken, made = [left.pop(0)], [right.pop(0)]
        a, b = before[taken[0]], after[made[0]]
        while a != b:
            if a < b:
                taken.append(left.pop(0))
                a *= before[taken[-1]]
            else:
                made.append(right.pop(0))
                b *= after[made[-1]]
        result.append((taken, made))
    return result


def _merged(source: Value, dims: list[int], carrying: int) -> Labels:
    labels = source.labels[carrying]
    sizes = [source.shape[dim] for dim in dims]
    view = [source.shape[dim] if dim == carrying else 1 for dim in dims]
    return np.ascontiguousarray(np.broadcast_to(np.reshape(labels, view), sizes)).ravel()  # type: ignore[arg-type]


def permute(_atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """permute, transpose, t: dimensions change places."""
    source = inputs[0]
    rank = len(source.shape)
    order = list(range(rank))
    if opname(node) == "permute":
        order = [int(dim) % rank for dim in argument(node, 1, "dims")]  # type: ignore[attr-defined]
    elif opname(node) in {"transpose", "swapaxes"}:
        one, two = int(str(node.args[1])) % rank, int(str(node.args[2])) % rank
        order[one], order[two] = two, one
    else:
        order.reverse()
    return Value(shape=shape_of(node), labels=tuple(source.labels[dim] for dim in order), affine_of=source.affine_of)


def concatenation(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """cat: labels side by side on one dimension, equal on the others."""
    shape = shape_of(node)
    dim = int(str(argument(node, 1, "dim", 0))) % len(shape)
    parts = [value.labels[dim] for value in inputs]
    labels = list(broadcast(atoms, shape, [replace(v, shape=_without(v.shape, dim)) for v in inputs]))
    if any(part is not None for part in parts):
        labels[dim] = np.concatenate(
            [
                np.full(v.shape[dim], FIXED, dtype=np.int64) if p is None else p
                for v, p in zip(inputs, parts, strict=True)
            ]
        )
    return Value(shape=shape, labels=tuple(labels), affine_of=frozenset[str]().union(*(v.affine_of for v in inputs)))


def _without(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], -1, *shape[dim + 1 :])


def cut(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Slice and select along one dimension."""
    source, shape = inputs[0], shape_of(node)
    dim = int(str(argument(node, 1, "dim", 0))) % len(source.shape)
    labels = list(source.labels)
    if opname(node) == "select":
        atoms.fix(labels.pop(dim))
    elif labels[dim] is not None:
        start, end, step = (argument(node, i, n) for i, n in ((2, "start"), (3, "end"), (4, "step")))
        labels[dim] = labels[dim][slice(start, end, step)]  # type: ignore[index]
    return Value(shape=shape, labels=tuple(labels), affine_of=source.affine_of)


def pad(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Constant padding: padded channels are new ones, free among themselves."""
    source, shape = inputs[0], shape_of(node)
    amounts = [int(amount) for amount in argument(node, 1, "pad")]  # type: ignore[attr-defined]
    labels = list(source.labels)
    if str(argument(node, 2, "mode", "constant")) not in {"constant", "0", "0.0"} and opname(node) == "pad":
        return fixed(atoms, node, inputs)
    for index in range(len(amounts) // 2):
        dim, (before, after) = len(shape) - 1 - index, amounts[2 * index : 2 * index + 2]
        current = labels[dim]
        if current is not None and (before or after):
            if min(before, after) < 0:
                return fixed(atoms, node, inputs)
            labels[dim] = np.concatenate([atoms.fresh(before), current, atoms.fresh(after)])
    return Value(shape=shape, labels=tuple(labels))


def expand(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Broadcast to a shape."""
    return Value(shape=shape_of(node), labels=broadcast(atoms, shape_of(node), inputs))
