"""Which tensor of a suspect is which registered parameter: by name, then by shape and order, then by degrees."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.cells import Layer
from ticketguard.graph.groups import Symmetry

# What wrappers put in front of every parameter name: DataParallel, torch.compile, Lightning and Hugging Face modules.
PREFIX = re.compile(r"^(?:(?:module|_orig_mod|model|net|network|_forward_module|state_dict)\.)+")
# Unclaimed tensors that are looked at: a hostile file may hold 65,536 of them.
MOST_UNNAMED = 4096

Shape = tuple[int, ...]
Counts = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Registered parameter name -> suspect tensor name, for those that were found; `renamed`: layers found otherwise."""

    names: Mapping[str, str]
    renamed: tuple[str, ...] = ()


def match(layers: Sequence[Layer], symmetry: Symmetry, shapes: Mapping[str, Shape]) -> Matched:
    """Match registered layers and the other parameters of `symmetry` to a suspect's tensors of these `shapes`.

    Layers: by name without wrapper prefixes, then the missing ones to unclaimed tensors of equal shape in order, then to
    unclaimed tensors that are at least as large, in order. Other parameters (norms, biases): by name only, and only when no
    layer had to be matched otherwise, since a name says nothing in a renamed file.
    """
    clean = {PREFIX.sub("", name): name for name in reversed(list(shapes))}
    found: dict[str, str] = {}
    for layer in layers:
        name = clean.get(PREFIX.sub("", layer.name))
        if name is not None and fits(layer.shape, shapes[name]):
            found[layer.name] = name
    renamed: list[str] = []
    for find in (_by_shape, _by_size):
        missing = [layer for layer in layers if layer.name not in found]
        taken = set(found.values())
        free = [name for name, shape in shapes.items() if name not in taken and len(shape) >= 2]
        chosen = find(missing, free[:MOST_UNNAMED], shapes)
        found |= chosen
        renamed += chosen
    others = {}
    if not renamed:
        taken = set(found.values())
        for name in symmetry.axes:
            key = clean.get(PREFIX.sub("", name))
            if name not in found and key is not None and key not in taken:
                others[name] = key
    return Matched(names={**found, **others}, renamed=tuple(layer.name for layer in layers if layer.name in renamed))


def _by_shape(missing: Sequence[Layer], free: Sequence[str], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The missing layers of one shape go to the unclaimed tensors of that shape, in order."""
    queues: dict[Shape, deque[str]] = {}
    for name in free:
        queues.setdefault(trimmed(shapes[name]), deque()).append(name)
    return {layer.name: queue.popleft() for layer in missing if (queue := queues.get(trimmed(layer.shape)))}


def _by_size(missing: Sequence[Layer], free: Sequence[str], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Each missing layer goes to the next unclaimed tensor that fits, neither list going back."""
    result, start = {}, 0
    for layer in missing:
        for index in range(start, len(free)):
            if fits(layer.shape, shapes[free[index]]):
                result[layer.name], start = free[index], index + 1
                break
    return result


def rematch(matched: Matched, layers: Sequence[Layer], reference: Counts, suspect: Counts) -> Matched | None:
    """Reassign layers of equal shape by their sorted degrees; None when that says nothing new.

    `suspect` holds counts by registered name under `matched`. Sorted row and column sums do not depend on the order of
    channels, so a file whose layers were renamed, reordered and permuted is matched as well. Layers that were found under
    their own names change them only when the degrees then differ less than half as much: names can be swapped to mislead.
    """
    # Imported here because the verifier loads it for nothing else.
    from scipy.optimize import linear_sum_assignment

    names = {layer.name: matched.names[layer.name] for layer in layers if layer.name in matched.names}
    classes: dict[Shape, list[str]] = {}
    for layer in layers:
        if layer.name in names and suspect[layer.name].shape == reference[layer.name].shape:
            classes.setdefault(layer.shape, []).append(layer.name)
    moved: list[str] = []
    for members in classes.values():
        wanted = np.stack([_degrees(reference[name]) for name in members])
        given = np.stack([_degrees(suspect[name]) for name in members])
        cost = np.abs(wanted[:, None, :] - given[None, :, :]).sum(axis=2)
        rows, columns = linear_sum_assignment(cost)
        if set(members) <= set(matched.renamed) or 2 * cost[rows, columns].sum() < np.trace(cost):
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                names[members[row]] = matched.names[members[column]]
                moved += [members[row]] if row != column else []
    if not moved:
        return None
    return Matched(names=names, renamed=tuple(name for name in names if name in {*matched.renamed, *moved}))


def _degrees(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.sort(counts.sum(axis=1)), np.sort(counts.sum(axis=0))])


def trimmed(shape: Shape) -> Shape:
    """A shape without trailing ones beyond two dimensions: 1 x 1 convolutions are stored either way."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def same(shape: Shape, other: Shape) -> bool:
    """Equal shapes, 1 x 1 kernels aside."""
    return trimmed(shape) == trimmed(other)


def fits(shape: Shape, other: Shape) -> bool:
    """`other` is `shape` with other channel numbers: equal rank and kernel, sizes from a quarter to four times."""
    one, two = trimmed(shape), trimmed(other)
    if len(one) != len(two) or one[2:] != two[2:]:
        return False
    return all(4 * b >= a and b <= 4 * a for a, b in zip(one[:2], two[:2], strict=True))
