"""Alignment: undo channel permutation, dummy channels and renaming against a committed frame.

The reference is the committed frame only: it was fixed before any target bit existed and no move changes it, so choosing the
order of a suspect's channels by overlap with it tells nothing about the bits, and the tests' null hypotheses stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError
from ticketguard.graph.assignment import Problem, descend, start
from ticketguard.graph.cells import Counts, Layer, cell_counts
from ticketguard.graph.dummies import Merge, Reduced, apply_merges, reductions
from ticketguard.graph.groups import Axes, Indices, Symmetry, length
from ticketguard.graph.layout import Weights, gather, take
from ticketguard.graph.matching import Matched, match, rematch
from ticketguard.graph.soft import start_soft
from ticketguard.graph.support import cleared, edges
from ticketguard.graph.views import as_layer, axes_of, suspect_axes, suspect_sizes, view_of

# Overlap of the channels as stored from which it is worth descending from there too: an attacker may permute a part.
PARTLY_IN_PLACE = 0.1
# Overlap after the quick first order above which the thorough one is not worth its time.
CLEAR = 0.62


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How a suspect maps onto the registered layout.

    `names`: registered parameter -> suspect tensor; `choice`: per group, the suspect's channel for each registered channel
    (int64, -1 for none); `axes`: the suspect's own axes; `merges`: copies of channels merged first; `cleared`: layers
    whose invisible weights are set to zero (`kept`: edges of every layer in the frame); `undone`: what was
    undone, in words; `notes`: what could not be read; `lineage`: the score of that name, in [0, 1]; `counts`: the suspect's
    cell counts in registered layout; `sweeps`: of the descent; `guessed`: layers of other sizes that the order of the file
    gave to registered ones; `surplus`: channels more than were registered; `left_over`: those of them that are neither copies
    of others nor read by nobody.
    """

    layers: tuple[Layer, ...]
    symmetry: Symmetry
    names: Mapping[str, str]
    choice: Mapping[int, Indices]
    axes: Mapping[str, Axes]
    merges: tuple[Merge, ...] = ()
    undone: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cleared: frozenset[str] = frozenset()
    kept: Mapping[str, int] = field(default_factory=dict)
    lineage: float = 0.0
    counts: Counts = field(default_factory=dict)
    sweeps: int = 0
    guessed: tuple[str, ...] = ()
    left_over: int = 0
    surplus: int = 0

    def apply(self, weights: Weights) -> dict[str, NDArray[Any]]:
        """The suspect's layers in registered names, shapes and channel order; layers that were not found are left out.

        `weights` holds the suspect's tensors under their own names. Channels that the suspect lacks are zero.
        """
        given = {name: np.asarray(weights[source]) for name, source in self.names.items()}
        for layer in self.layers:
            if layer.name in self.cleared:
                given[layer.name] = cleared(layer, as_layer(given[layer.name], layer), self.kept[layer.name])
        merged = apply_merges(given, self.axes, self.merges)
        result = {}
        for layer in self.layers:
            if layer.name in self.names:
                array = as_layer(np.asarray(merged[layer.name]), layer)
                for dimension, axis in enumerate(axes_of(layer, self.symmetry)):
                    source = self.axes[layer.name][dimension]
                    if source is not None and axis is not None:
                        array = take(array, dimension, gather(axis, source, self.choice))
                result[layer.name] = np.ascontiguousarray(array)
        return result


# What a hostile file holds may overflow on the way; what is not finite then counts as nothing.
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def align(reference: Counts, layers: Sequence[Layer], symmetry: Symmetry | None, suspect: Weights) -> Alignment:
    """Align a suspect's weights to the committed frame `reference` (cell counts by layer name).

    `suspect`: effective weights under its own names, any floating dtype. Without `symmetry` only names are matched. The result
    is a function of the suspect and the frame alone, in exact arithmetic; among equals channels stay where they are.
    Raises `FormatError` when the symmetry does not describe the layers.
    """
    symmetry = Symmetry() if symmetry is None else symmetry
    _check(reference, layers, symmetry)
    shapes = {name: tuple(np.shape(suspect[name])) for name in suspect}
    named = match(layers, symmetry, shapes)
    best = _align_named(reference, layers, symmetry, suspect, named)
    shaped = match(layers, symmetry, shapes, shape_first=True)
    if best.lineage < CLEAR and shaped != named:
        other = _align_named(reference, layers, symmetry, suspect, shaped)
        best = other if other.lineage > best.lineage else best
    return best


def _align_named(
    reference: Counts, layers: Sequence[Layer], symmetry: Symmetry, suspect: Weights, matched: Matched
) -> Alignment:
    """The alignment under one matching of names, or under a better one between layers of equal shape."""
    best, seen = _align_matched(reference, layers, symmetry, suspect, matched)
    if best.counts and best.lineage < 1.0:
        present = [layer for layer in layers if layer.name in matched.names]
        counts = {
            layer.name: seen[layer.name]
            if layer.name in seen
            else _raw_counts(layer, suspect[matched.names[layer.name]], reference)
            for layer in present
        }
        for other in rematch(matched, layers, reference, counts):
            second, _ = _align_matched(reference, layers, symmetry, suspect, other)
            best = second if second.lineage > best.lineage else best
    return best


def lineage(reference: Counts, suspect: Counts) -> float:
    """Lineage score in [0, 1]: correlation of cell counts about each layer's mean, over the layers both have.

    Unlike `verify.lineage.frame_overlap`, which takes off the means of rows and columns, it also rises with rows that are
    equally full. 1 for the same frame, about 0 for unrelated ones as stored (alignment raises it). Unkeyed: models pruned from
    one ancestor score too, so it is shown beside controls and decides nothing.
    """
    product = one = two = 0.0
    for name, counts in suspect.items():
        if name in reference and reference[name].shape == counts.shape:
            wanted, given = reference[name].ravel(), counts.ravel()
            product += _covariance(wanted, given)
            one += _covariance(wanted, wanted)
            two += _covariance(given, given)
    return max(0.0, min(1.0, product / np.sqrt(one * two))) if one > 0 and two > 0 else 0.0


def _covariance(one: NDArray[np.int64], two: NDArray[np.int64]) -> float:
    """Sum of products about the means, from exact sums."""
    return (int(one @ two) * one.size - int(one.sum()) * int(two.sum())) / max(1, one.size)


def _check(reference: Counts, layers: Sequence[Layer], symmetry: Symmetry) -> None:
    for layer in layers:
        if layer.name not in reference or reference[layer.name].shape != (layer.rows, layer.cells_per_row):
            raise FormatError(f"reference frame: layer {layer.name} is missing or has another shape than registered")
        for dimension, axis in enumerate(axes_of(layer, symmetry)):
            if axis is not None and length(axis) != layer.shape[dimension]:
                raise FormatError(
                    f"symmetry of {layer.name}: dimension {dimension} has {length(axis)} positions, the layer "
                    f"{layer.shape[dimension]}"
                )


def _raw_counts(layer: Layer, weights: NDArray[Any], reference: Counts) -> NDArray[np.int64]:
    array = as_layer(np.asarray(weights), layer)
    kept = edges(layer, array, int(reference[layer.name].sum()))
    return cell_counts(replace(layer, shape=tuple(array.shape)), kept)


def _align_matched(
    reference: Counts, layers: Sequence[Layer], symmetry: Symmetry, suspect: Weights, matched: Matched
) -> tuple[Alignment, Counts]:
    """Alignment under one matching of names, and the cell counts as stored of layers that were taken as they are.

    A wider suspect is aligned without its dummies. Where that is not clearly the frame or leaves channels over, without near
    copies as well, since copies can be made a little unequal; then with all of them, since channels can be made to look like
    copies of each other, or like dummies. The largest overlap with the frame decides.
    """
    read = _read(reference, layers, symmetry, suspect, matched)
    tried: list[tuple[Alignment, Counts]] = []
    for reduced in _reductions(read, symmetry):
        tried.append(_ordered(reference, layers, symmetry, matched, read, reduced))
        found = tried[-1][0]
        if found.lineage >= CLEAR and not found.left_over:
            break
    return max(tried, key=lambda each: each[0].lineage)


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A suspect under one matching: `arrays` of the parameters that fit, by registered name; else as in `Alignment`."""

    arrays: Weights
    axes: Mapping[str, Axes]
    sizes: tuple[int, ...]
    misfits: Sequence[str]
    cleared: frozenset[str]
    kept: Mapping[str, int]


def _read(reference: Counts, layers: Sequence[Layer], symmetry: Symmetry, suspect: Weights, matched: Matched) -> _Read:
    by_name = {layer.name: layer for layer in layers}
    arrays = {
        name: as_layer(np.asarray(suspect[source]), by_name[name]) if name in by_name else np.asarray(suspect[source])
        for name, source in matched.names.items()
    }
    sizes = suspect_sizes(symmetry, by_name, arrays)
    axes, misfits = suspect_axes(symmetry, by_name, arrays, sizes)
    arrays = {name: array for name, array in arrays.items() if name in axes}
    kept = {layer.name: int(reference[layer.name].sum()) for layer in layers}
    clean = {name: cleared(by_name[name], arrays[name], kept[name]) for name in arrays if name in by_name}
    filled = frozenset(name for name, array in clean.items() if array is not arrays[name])
    return _Read(arrays=arrays | clean, axes=axes, sizes=sizes, misfits=misfits, cleared=filled, kept=kept)


def _reductions(read: _Read, symmetry: Symmetry) -> Iterator[Reduced | None]:
    """What to take away from a suspect, in the order in which it is worth trying; None for nothing."""
    if not _wider(symmetry, read.sizes):
        yield None
        return
    yield from reductions(read.arrays, read.axes, symmetry, read.sizes)
    yield None


def _ordered(
    reference: Counts,
    layers: Sequence[Layer],
    symmetry: Symmetry,
    matched: Matched,
    read: _Read,
    reduced: Reduced | None,
) -> tuple[Alignment, Counts]:
    """`_align_matched` for one choice of what to take away."""
    arrays, axes, sizes, filled = read.arrays, read.axes, read.sizes, read.cleared
    present = [layer for layer in layers if layer.name in arrays]
    left = _channels_left(sizes, reduced)
    views = [
        view_of(layer, symmetry, arrays if reduced is None else reduced.weights, axes, left, reference, filled)
        for layer in present
    ]
    problem = Problem(
        views=views,
        sizes=tuple(group.size for group in symmetry.groups),
        suspect_sizes=tuple(len(channels) for channels in left),
    )
    names = [layer.name for layer in present]
    inner, sweeps = _best_order(problem, names)
    left_over = _left_over(symmetry, left)
    counts = dict(zip(names, (view.counts(inner) for view in views), strict=True))
    choice = {
        g: np.where(order >= 0, left[g][np.maximum(order, 0)], -1) if len(left[g]) else order
        for g, order in inner.items()
    }
    kept = {name: source for name, source in matched.names.items() if name in axes}
    found = Alignment(
        layers=tuple(layers),
        symmetry=symmetry,
        names=kept,
        choice=choice,
        axes=axes,
        merges=() if reduced is None else reduced.merges,
        cleared=filled,
        kept=read.kept,
        undone=_undone(symmetry, problem, inner, choice, sizes, reduced, matched, filled, left_over),
        notes=_notes(layers, kept, read.misfits, len(problem.held)),
        lineage=lineage(reference, counts),
        counts=counts,
        sweeps=sweeps,
        guessed=matched.guessed,
        left_over=left_over,
        surplus=sum(max(0, size - group.size) for size, group in zip(sizes, symmetry.groups, strict=True)),
    )
    whole = () if reduced is not None else zip(names, views, strict=True)
    return found, {name: view.stored for name, view in whole if name not in filled}


def _best_order(problem: Problem, names: Sequence[str]) -> tuple[dict[int, Indices], int]:
    """The best of: channels as stored, a descent from there when they seem partly in place, and from two first orders."""
    stored = problem.identity()
    best, best_score, sweeps = stored, problem.score(stored), 0
    perfect = problem.perfect
    if best_score == perfect or not problem.touching:
        return best, sweeps
    starts: list[Callable[[Problem], dict[int, Indices]]] = [start, start_soft]
    if _overlap(problem, stored, names) > PARTLY_IN_PLACE:
        starts.insert(0, Problem.identity)
    for first in starts:
        found, score, used = descend(problem, first(problem))
        sweeps += used
        if score > best_score:
            best, best_score = found, score
        if best_score == perfect or (first is start and _overlap(problem, best, names) > CLEAR):
            break
    return best, sweeps


def _overlap(problem: Problem, choice: Mapping[int, Indices], names: Sequence[str]) -> float:
    reference = dict(zip(names, (view.reference for view in problem.views), strict=True))
    return lineage(reference, dict(zip(names, (view.counts(choice) for view in problem.views), strict=True)))


def _wider(symmetry: Symmetry, sizes: Sequence[int]) -> bool:
    return any(size > group.size for size, group in zip(sizes, symmetry.groups, strict=True))


def _left_over(symmetry: Symmetry, left: Sequence[Indices]) -> int:
    """Channels beyond the registered number that were neither merged nor dropped: no channel's part, as far as is known."""
    return sum(max(0, len(channels) - group.size) for channels, group in zip(left, symmetry.groups, strict=True))


def _channels_left(sizes: Sequence[int], reduced: Reduced | None) -> list[Indices]:
    kept = {} if reduced is None else reduced.kept
    return [kept.get(g, np.arange(size, dtype=np.int64)) for g, size in enumerate(sizes)]


def _undone(
    symmetry: Symmetry,
    problem: Problem,
    inner: Mapping[int, Indices],
    choice: Mapping[int, Indices],
    sizes: Sequence[int],
    reduced: Reduced | None,
    matched: Matched,
    filled: frozenset[str],
    left_over: int,
) -> tuple[str, ...]:
    """What was undone, in words."""
    words = []
    moved = {g: int((np.diff(order[order >= 0]) < 0).any()) for g, order in choice.items() if g in problem.touching}
    groups = sum(moved.values())
    if groups:
        stored = problem.identity()
        channels = sum(int((inner[g] != stored[g]).sum()) for g, changed in moved.items() if changed)
        words.append(f"permuted in {groups} groups ({channels} channels moved)")
    merged = 0 if reduced is None else len(reduced.merges)
    wider = [size - group.size for size, group in zip(sizes, symmetry.groups, strict=True)]
    dropped = sum(max(0, more) for more in wider) - merged - left_over
    missing = sum(max(0, -more) for more in wider)
    if merged:
        words.append(f"{merged} copies of channels merged")
    if dropped > 0:
        words.append(f"{dropped} dummy channels dropped")
    if left_over:
        words.append(f"{left_over} channels more than registered left out")
    if missing:
        words.append(f"{missing} channels missing, the others in their places")
    if filled:
        words.append(f"invisible weights cleared in {len(filled)} layers")
    if matched.renamed:
        words.append(f"{len(matched.renamed)} renamed layers found by shape")
    return tuple(words)


def _notes(layers: Sequence[Layer], kept: Mapping[str, str], misfits: Sequence[str], held: int) -> tuple[str, ...]:
    notes = []
    absent = [layer.name for layer in layers if layer.name not in kept and layer.name not in misfits]
    if absent:
        notes.append(f"{len(absent)} of {len(layers)} layers have no counterpart in the suspect")
    if misfits:
        notes.append(f"{len(misfits)} layers have a shape that no widening of the registered channels explains")
    if held:
        notes.append(f"{held} groups have too many channels to be put in order")
    return tuple(notes)
