"""Which tensor of a suspect is which registered parameter: by name, then by shape and order, then by degrees."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.cells import Counts, Layer
from ticketguard.graph.groups import Symmetry
from ticketguard.storage.wrappers import PREFIXES

PREFIX = re.compile(rf"^(?:(?:{'|'.join(PREFIXES)})\.)+")
# Unclaimed tensors that are looked at: a hostile file may hold 65,536 of them.
MOST_UNNAMED = 4096
# Times as many channels, or as few, that a layer may have and still be taken for the registered one.
WIDEST = 4

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Registered parameter name -> suspect tensor name, for those that were found.

    `renamed`: layers found otherwise than by name; `guessed`: those of them that have another shape, and stand where their
    order in the file puts them.
    """

    names: Mapping[str, str]
    renamed: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()


def match(
    layers: Sequence[Layer], symmetry: Symmetry, shapes: Mapping[str, Shape], *, shape_first: bool = False
) -> Matched:
    """Match registered layers and the other parameters of `symmetry` to a suspect's tensors of these `shapes`.

    Layers: by name without wrapper prefixes (of several such names the first of equal shape), then the missing ones to
    unclaimed tensors of equal shape in order, then to unclaimed tensors that are at least as large, in order. Other parameters
    (norms, biases): by name only, and only when no layer had to be matched otherwise, since a name says nothing in a renamed
    file. With `shape_first` a name counts only where it has the layer's shape, or where no tensor has: names can be swapped to
    mislead.
    """
    there = {trimmed(shape) for shape in shapes.values()} if shape_first else set()
    clean: dict[str, list[str]] = {}
    for name in shapes:
        clean.setdefault(PREFIX.sub("", name), []).append(name)
    found: dict[str, str] = {}
    for layer in layers:
        named = [name for name in clean.get(PREFIX.sub("", layer.name), ()) if fits(layer.shape, shapes[name])]
        exact = next((name for name in named if same(layer.shape, shapes[name])), None)
        if exact is not None:
            found[layer.name] = exact
        elif named and trimmed(layer.shape) not in there:
            found[layer.name] = named[0]
    renamed: list[str] = []
    guessed: tuple[str, ...] = ()
    for find in (_by_shape, _by_size):
        missing = [layer for layer in layers if layer.name not in found]
        taken = set(found.values())
        free = [name for name, shape in shapes.items() if name not in taken and len(shape) >= 2]
        chosen = find(missing, free[:MOST_UNNAMED], shapes)
        found |= chosen
        renamed += chosen
        if find is _by_size:
            guessed = tuple(chosen)
    others = {}
    if not renamed:
        taken = set(found.values())
        for name in symmetry.axes:
            key = next(iter(clean.get(PREFIX.sub("", name), ())), None)
            if name not in found and key is not None and key not in taken:
                others[name] = key
    otherwise = set(renamed)
    return Matched(
        names={**found, **others},
        renamed=tuple(layer.name for layer in layers if layer.name in otherwise),
        guessed=guessed,
    )


def _by_shape(missing: Sequence[Layer], free: Sequence[str], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The missing layers of one shape go to the unclaimed tensors of that shape, in order."""
    queues: dict[Shape, deque[str]] = {}
    for name in free:
        queues.setdefault(trimmed(shapes[name]), deque()).append(name)
    return {layer.name: queue.popleft() for layer in missing if (queue := queues.get(trimmed(layer.shape)))}


def _by_size(missing: Sequence[Layer], free: Sequence[str], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Each missing layer goes to the next unclaimed tensor that fits, neither list going back."""
    result, start = {}, 0
    # Shapes that nothing from `start` on fits: nor will anything later.
    nowhere: set[Shape] = set()
    for layer in missing:
        if layer.shape in nowhere:
            continue
        index = next((index for index in range(start, len(free)) if fits(layer.shape, shapes[free[index]])), None)
        if index is None:
            nowhere.add(layer.shape)
        else:
            result[layer.name], start = free[index], index + 1
    return result


def rematch(matched: Matched, layers: Sequence[Layer], reference: Counts, suspect: Counts) -> list[Matched]:
    """Other ways to give the layers of equal shape to a suspect's tensors: by sorted degrees, and by overlap as stored.

    `suspect` holds counts by registered name under `matched`. Sorted row and column sums do not depend on the order of
    channels, so a file whose layers were renamed, reordered and permuted is matched as well; overlap cell by cell needs the
    order but holds when pruning has changed the sums. Layers that were found under their own names change them only when the
    degrees then differ less than half as much: names can be swapped to mislead. Empty when nothing new is said.
    """
    names = {layer.name: matched.names[layer.name] for layer in layers if layer.name in matched.names}
    classes: dict[Shape, list[str]] = {}
    for layer in layers:
        if layer.name in names and suspect[layer.name].shape == reference[layer.name].shape:
            classes.setdefault(layer.shape, []).append(layer.name)
    found: list[Matched] = []
    for distance in (_by_degrees, _by_overlap):
        moved: dict[str, str] = {}
        for members in classes.values():
            renamed = set(members) <= set(matched.renamed)
            if renamed or distance is _by_degrees:
                cost = distance([reference[name] for name in members], [suspect[name] for name in members])
                moved |= _reassigned(members, cost, names, freely=renamed)
        otherwise = {*matched.renamed, *moved}
        renamed_now = tuple(name for name in names if name in otherwise)
        candidate = Matched(names={**names, **moved}, renamed=renamed_now, guessed=matched.guessed)
        if moved and candidate not in found:
            found.append(candidate)
    return found


def _reassigned(
    members: Sequence[str], cost: NDArray[np.int64], names: Mapping[str, str], *, freely: bool
) -> dict[str, str]:
    """The members whose tensor changes under the cheapest assignment; unless `freely`, only when it halves the cost."""
    # Imported here because the verifier loads it for nothing else.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    if not freely and 2 * cost[rows, columns].sum() >= np.trace(cost):
        return {}
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {members[row]: names[members[column]] for row, column in pairs if row != column}


def _by_degrees(reference: Sequence[NDArray[np.int64]], suspect: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    wanted, given = (np.stack([_degrees(counts) for counts in side]) for side in (reference, suspect))
    return np.asarray(np.abs(wanted[:, None, :] - given[None, :, :]).sum(axis=2))


def _by_overlap(reference: Sequence[NDArray[np.int64]], suspect: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Minus the covariance of the counts, times the squared number of cells: exact in integers."""
    wanted, given = (np.stack([counts.ravel() for counts in side]) for side in (reference, suspect))
    sums = np.outer(wanted.sum(axis=1), given.sum(axis=1))
    return np.asarray(sums - wanted.shape[1] * (wanted @ given.T))


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
    return all(WIDEST * b >= a and b <= WIDEST * a for a, b in zip(one[:2], two[:2], strict=True))
