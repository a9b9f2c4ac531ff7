"""Find the symmetry groups of a PyTorch network from its traced graph: the part of alignment that needs torch."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn
from torch.fx import Node

from ticketguard.errors import UsageError
from ticketguard.graph.groups import Axes, Axis, Group, Segment, Symmetry
from ticketguard.models import evaluating
from ticketguard.tracing.atoms import FIXED, Atoms, Labels, Value, plain
from ticketguard.tracing.rules import rule_for

UNDONE_WITHOUT = (
    "alignment will not undo channel permutations, dummy channels or split channels; "
    "renaming, rescaling and folding are still read"
)


def symmetry_of(module: nn.Module, example: torch.Tensor | tuple[torch.Tensor, ...]) -> Symmetry:
    """The symmetry groups of `module`, from its graph on an `example` input (its values do not matter, its shape does).

    The graph is captured in evaluation mode with `torch.export`, whose operations are followed one by one: inputs and outputs
    of the network are fixed, channels that meet (residual adds, batch norm, biases, depthwise filters, ...) move together,
    what no rule knows is fixed and noted. The module is left as it was.
    Raises `UsageError`, saying what alignment cannot undo then, when the graph cannot be captured.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    try:
        with evaluating(module):
            program = torch.export.export(module, inputs, strict=False)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        AssertionError,
        NotImplementedError,
    ) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise UsageError(f"this network cannot be traced ({reason}): {UNDONE_WITHOUT}") from error
    atoms = Atoms()
    parameters = _walk(program, atoms)
    return _symmetry(atoms, parameters)


def _walk(program: torch.export.ExportedProgram, atoms: Atoms) -> dict[str, Value]:
    """Apply the rules along the graph; returns the parameters and buffers with their labels, in the module's order."""
    signature = program.graph_signature
    lifted = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    values: dict[Node, Value | Sequence[Value]] = {}
    parameters: dict[str, Value] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            value: Value | Sequence[Value] | None = _placeholder(node, lifted.get(node.name), atoms, parameters)
        elif node.op == "call_function":
            value = _call(node, values, atoms)
        elif node.op == "output":
            for source in node.all_input_nodes:
                for item in _listed(values.get(source)):
                    if item.parameter is None:
                        atoms.fix(*item.labels)
            continue
        else:
            continue
        if value is not None:
            values[node] = value
    return parameters


def _placeholder(node: Node, name: str | None, atoms: Atoms, parameters: dict[str, Value]) -> Value | None:
    if not isinstance(node.meta.get("val"), torch.Tensor):
        return None
    shape = tuple(int(size) for size in node.meta["val"].shape)
    value = plain(shape)
    if name is not None:
        # A parameter under two names is one set of atoms only if export lifts it once, which it does.
        labels = tuple(atoms.fresh(size) if size > 1 else None for size in shape)
        if not node.users:
            atoms.fix(*labels)
        value = Value(shape=shape, labels=labels, parameter=name)
        parameters[name] = value
    node.meta["ticketguard"] = value
    return value


def _call(node: Node, values: dict[Node, Value | Sequence[Value]], atoms: Atoms) -> Value | Sequence[Value] | None:
    result = node.meta.get("val")
    if node.target is operator.getitem:
        parts = values.get(node.args[0])  # type: ignore[arg-type]
        return parts[node.args[1]] if isinstance(parts, list) else None  # type: ignore[index]
    inputs = [item for source in _in_order(node) for item in _listed(values.get(source))]
    if isinstance(result, tuple | list):
        return _pieces(node, inputs, result, atoms)
    if not isinstance(result, torch.Tensor):
        return None
    if not inputs:
        return plain(tuple(int(size) for size in result.shape))
    return rule_for(node)(atoms, node, inputs)


def _pieces(node: Node, inputs: list[Value], result: Sequence[object], atoms: Atoms) -> list[Value]:
    """Operations with several results: chunk and split cut one dimension; anything else is fixed."""
    shapes = [tuple(int(s) for s in item.shape) if isinstance(item, torch.Tensor) else () for item in result]
    source = inputs[0] if len(inputs) == 1 else None
    name = str(getattr(node.target, "overloadpacket", "")).removeprefix("aten.")
    if source is None or name not in {"chunk", "split", "split_with_sizes"}:
        for value in inputs:
            atoms.fix(*value.labels)
        if inputs:
            atoms.notes[f"{node.name}: channels pass {name or node.target} and are taken as fixed"] = None
        return [plain(shape) for shape in shapes]
    dim = next((d for d in range(len(source.shape)) if shapes[0][d] != source.shape[d]), 0)
    pieces, start = [], 0
    for shape in shapes:
        labels = list(source.labels)
        current = labels[dim]
        labels[dim] = None if current is None else current[start : start + shape[dim]]
        start += shape[dim]
        pieces.append(Value(shape=shape, labels=tuple(labels), affine_of=source.affine_of))
    return pieces


def _in_order(node: Node) -> list[Node]:
    """Tensor arguments in the order they are written, repeated ones repeated (cat of one tensor with itself)."""
    found: list[Node] = []
    torch.fx.node.map_arg((node.args, node.kwargs), found.append)
    return found


def _listed(value: Value | Sequence[Value] | None) -> Sequence[Value]:
    return [] if value is None else [value] if isinstance(value, Value) else value


def _symmetry(atoms: Atoms, parameters: dict[str, Value]) -> Symmetry:
    """Turn atoms into groups: channels are interchangeable when they occur equally often on the same axes."""
    classes, stiff = _classes(atoms)
    never = classes[FIXED]
    axes = [
        (name, dim, classes[labels])
        for name, value in parameters.items()
        for dim, labels in enumerate(value.labels)
        if labels is not None
    ]
    occurrences: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, (_, _, channels) in enumerate(axes):
        for channel, times in zip(*np.unique(channels[channels != never], return_counts=True), strict=True):
            occurrences[int(channel)].append((number, int(times)))
    first: dict[int, None] = {}
    for _, _, channels in axes:
        first.update(dict.fromkeys(channels[channels != never].tolist()))
    signatures: dict[tuple[tuple[int, int], ...], int] = {}
    group_of, index_of = np.full(len(stiff), -1, dtype=np.int64), np.zeros(len(stiff), dtype=np.int64)
    members: list[list[int]] = []
    for channel in first:
        group = signatures.setdefault(tuple(occurrences[channel]), len(members))
        if group == len(members):
            members.append([])
        group_of[channel], index_of[channel] = group, len(members[group])
        members[group].append(channel)
    # A group of one channel has nothing to permute; it stays a group because dummy channels may join it.
    table: dict[str, list[Axis | None]] = {name: [None] * len(parameters[name].labels) for name, _, _ in axes}
    for name, dim, channels in axes:
        table[name][dim] = _segments(group_of[channels], index_of[channels])
    return Symmetry(
        groups=tuple(Group(size=len(group), scalable=not stiff[group].any()) for group in members),
        axes={name: _trim(found) for name, found in table.items()},
        norms=atoms.norms,
        biases=atoms.biases,
        leave_out=tuple(name for name in parameters if name in atoms.leave_out),
        notes=_notes(atoms),
    )


def _classes(atoms: Atoms) -> tuple[Labels, NDArray[np.bool_]]:
    """Class of every atom after all unions, and which classes must not be rescaled."""
    pairs = np.concatenate(atoms.pairs, axis=1) if atoms.pairs else np.zeros((2, 0), dtype=np.int64)
    links = coo_array((np.ones(pairs.shape[1], dtype=np.int8), (pairs[0], pairs[1])), shape=(atoms.count, atoms.count))
    total, classes = connected_components(links, directed=False)
    stiff = np.zeros(total, dtype=np.bool_)
    if atoms.stiff:
        stiff[classes[np.concatenate(atoms.stiff)]] = True
    return classes.astype(np.int64), stiff


def _segments(groups: Labels, channels: Labels) -> Axis:
    """Run-length form of an axis: fixed runs, and runs of consecutive channels with equal repeats."""
    change = np.flatnonzero((np.diff(groups) != 0) | ((np.diff(channels) != 0) & (groups[1:] >= 0))) + 1
    starts = np.concatenate([[0], change])
    lengths = np.diff(np.concatenate([starts, [len(groups)]]))
    segments: list[Segment] = []
    for start, repeat in zip(starts.tolist(), lengths.tolist(), strict=True):
        group, channel = int(groups[start]), int(channels[start])
        last = segments[-1] if segments else None
        if group < 0:
            segments.append(Segment(group=None, count=repeat))
        elif last and last.group == group and last.repeat == repeat and last.start + last.count == channel:
            segments[-1] = Segment(group=group, start=last.start, count=last.count + 1, repeat=repeat)
        else:
            segments.append(Segment(group=group, start=channel, count=1, repeat=repeat))
    return tuple(segments)


def _trim(axes: list[Axis | None]) -> Axes:
    """Drop trailing dimensions that never move (kernels); there are two at least."""
    kept = list(axes)
    while len(kept) > 2 and all(segment.group is None for segment in kept[-1] or ()):
        kept.pop()
    return (*kept, *(None,) * (2 - len(kept)))


def _notes(atoms: Atoms) -> tuple[str, ...]:
    notes = list(atoms.notes)
    if atoms.leave_out:
        names = list(atoms.leave_out)
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        notes.append(f"linear maps without a nonlinearity in between erase topology for free, leave them out: {shown}")
    return tuple(note[:500] for note in notes[:200])


__all__ = ["symmetry_of"]
