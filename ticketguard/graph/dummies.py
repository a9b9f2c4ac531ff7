"""Dummy channels of a widened suspect: split channels are merged, channels that nothing reads are dropped.

Only groups that are wider than the reference are touched. A *split* channel is several copies of one (equal incoming weights
up to a positive scale, batch norm and bias included) whose outgoing weights share the original's; a *clique* is copies whose
outgoing weights cancel. Both are undone by adding up outgoing weights, from the input forward, because copies of a channel
become equal only once the copies it reads have been merged. A thief can make copies a little unequal; so near copies are merged
where a wider tolerance is asked for, the nearest first and never more of them than a group has channels too many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.groups import Axes, Indices, Symmetry
from ticketguard.graph.layout import Weights, carrying

TOLERANCE = 1e-4
DUST = 1e-6
ROUNDS = 4
# How far from each other the projections of equal rows may lie, from below and from above.
WITHIN: tuple[tuple[float, Literal["left", "right"]], ...] = ((-TOLERANCE, "left"), (TOLERANCE, "right"))
# Wider tolerances for near copies. Unrelated rows of unit length are 1.4 apart.
WIDER = (1e-2, 1e-1, 0.3, 0.6)
# Near rows are sought by so many sums of their inputs, in steps whose squares add up exactly; none is longer than `LONGEST`.
SUMS = 32
STEPS = float(1 << 20)
LONGEST = float(1 << 23)
BLOCK = 256

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Channel `dropped` of `group` is `ratio` times channel `kept`; its outgoing weights were added to that one's.

    `dust`: what is no more than this part of what was added comes from rounding, or from a ratio that fits no better.
    """

    group: int
    kept: int
    dropped: int
    ratio: float
    dust: float = DUST


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """A suspect without its dummies: channels left in each group (suspect numbering), and merges.

    `weights` are those of the suspect with merges done; channels are still in their places.
    """

    weights: dict[str, NDArray[np.generic]]
    kept: Mapping[int, Indices]
    merges: tuple[Merge, ...]


def reductions(
    weights: Weights, axes: Mapping[str, Axes], symmetry: Symmetry, sizes: Sequence[int]
) -> Iterator[Reduced]:
    """Merge copies and drop unread channels in every group whose size in `sizes` exceeds the reference's.

    Then near copies as well, within ever wider tolerances; what merges no more than the one before is left out. `weights`: the
    suspect by registered name; `axes`: its own axes (registered ones widened).
    """
    wide = [g for g, group in enumerate(symmetry.groups) if sizes[g] > group.size]
    left = {g: np.arange(sizes[g], dtype=np.int64) for g in wide}
    merges: list[Merge] = []
    work = dict(weights)
    for tolerance in (None, *WIDER):
        if tolerance is not None and all(len(left[g]) <= symmetry.groups[g].size for g in wide):
            break
        work, before = {name: np.array(array) for name, array in work.items()}, len(merges)
        for _ in range(ROUNDS):
            found = [merge for g in wide for merge in _merge_group(work, axes, symmetry, g, left, tolerance)]
            merges += found
            if not found:
                break
        if tolerance is None or len(merges) > before:
            for g in wide:
                alive = _read_channels(work, axes, symmetry, g, left[g])
                if len(alive) >= symmetry.groups[g].size:
                    left[g] = alive
            yield Reduced(weights=work, kept=dict(left), merges=tuple(merges))


def apply_merges(weights: Weights, axes: Mapping[str, Axes], merges: Sequence[Merge]) -> dict[str, NDArray[np.generic]]:
    """The weights after the given merges, in order: outgoing weights of dropped channels added to the kept one's."""
    result = {name: np.array(array) for name, array in weights.items()} if merges else dict(weights)
    for merge in merges:
        for name, dimension, positions in carrying(axes, merge.group, made=False):
            if name in result:
                _add(result[name], dimension, positions, merge)
    return result


def _add(array: NDArray[np.generic], dimension: int, positions: Indices, merge: Merge) -> None:
    """Add `ratio` times the dropped slice to the kept one, which becomes exactly zero where they cancel but for dust."""
    view = np.moveaxis(array, dimension, 0)
    kept, dropped = positions[merge.kept], positions[merge.dropped]
    with np.errstate(invalid="ignore", over="ignore"):
        one, two = view[kept].astype(np.float64), merge.ratio * view[dropped].astype(np.float64)
        total = one + two
        total[np.abs(total) <= merge.dust * (np.abs(one) + np.abs(two))] = 0.0
        view[kept] = total.astype(array.dtype)
    view[dropped] = 0


def _merge_group(
    work: dict[str, NDArray[np.generic]],
    axes: Mapping[str, Axes],
    symmetry: Symmetry,
    group: int,
    left: dict[int, Indices],
    tolerance: float | None,
) -> list[Merge]:
    """Merge the copies among the channels of one group that are left; updates `work` and `left`.

    With a `tolerance` also near copies, the nearest, until the group has as many channels as were registered.
    """
    surplus = len(left[group]) - symmetry.groups[group].size
    if tolerance is not None and surplus <= 0:
        return []
    incoming, scale = _incoming(work, axes, symmetry, group)
    if incoming is None:
        return []
    merges = []
    rows = incoming[left[group]]
    for cluster in _clusters(rows) if tolerance is None else _near(rows, tolerance):
        gaps = np.sqrt(((rows[cluster] - rows[cluster[0]]) ** 2).sum(axis=1)).tolist()
        kept, *copies = left[group][cluster].tolist()
        merges += [
            Merge(group=group, kept=kept, dropped=copy, ratio=float(scale[copy] / scale[kept]), dust=max(DUST, gap))
            for copy, gap in zip(copies, gaps[1:], strict=True)
        ]
    if tolerance is not None:
        merges = sorted(merges, key=lambda merge: merge.dust)[:surplus]
    readers = carrying(axes, group, made=False)
    for merge in merges:
        for name, dimension, positions in readers:
            if name in work:
                _add(work[name], dimension, positions, merge)
    left[group] = np.setdiff1d(left[group], [merge.dropped for merge in merges])
    return merges


def _incoming(
    work: Mapping[str, NDArray[np.generic]], axes: Mapping[str, Axes], symmetry: Symmetry, group: int
) -> tuple[Floats | None, Floats]:
    """What each channel of a group computes from its inputs: rows of unit length (zero for none), and their lengths.

    Where the group is not scalable lengths are part of the comparison, and all scales are 1.
    """
    parts: list[Floats] = []
    reading: list[Floats] = []
    linked: set[str] = set()
    for name, _, positions in carrying(axes, group, made=True):
        if name in work and work[name].ndim >= 2:
            rows, names = _effective_rows(work, symmetry, name)
            parts.append(rows[positions].reshape(len(positions), -1))
            reading.append(rows[positions][..., :-1].reshape(len(positions), -1))
            linked |= names
    loose = [
        np.asarray(work[name], dtype=np.float64)[positions]
        for name, _, positions in carrying(axes, group, made=True)
        if name in work and work[name].ndim == 1 and name not in linked
    ]
    if not parts:
        return None, np.ones(0)
    rows = np.nan_to_num(np.concatenate(parts, axis=1), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.sqrt((rows * rows).sum(axis=1))
    # Channels that read nothing are constants, all equal up to scale: no copies of each other.
    lengths[~np.any(np.concatenate(reading, axis=1) != 0, axis=1)] = 0.0
    typical = float(np.median(lengths[lengths > 0])) if np.any(lengths > 0) else 1.0
    unit = np.divide(rows, lengths[:, None], out=np.zeros_like(rows), where=lengths[:, None] > 0)
    if symmetry.groups[group].scalable and not loose:
        return unit, np.where(lengths > 0, lengths, 1.0)
    unscaled = [rows / typical, *(np.nan_to_num(part.reshape(len(part), -1)) for part in loose)]
    unscaled[0][lengths == 0] = 0.0
    stacked = np.concatenate(unscaled, axis=1)
    stacked[lengths == 0] = 0.0
    return stacked, np.ones(len(lengths))


def _effective_rows(work: Mapping[str, NDArray[np.generic]], symmetry: Symmetry, name: str) -> tuple[Floats, set[str]]:
    """Rows of a layer with its bias and batch norm folded in: shape (O, fan-in + 1); and the parameters that were used."""
    weight = np.asarray(work[name], dtype=np.float64)
    rows = weight.reshape(len(weight), -1)
    bias_name = symmetry.biases.get(name)
    used: set[str] = set()
    shift = np.zeros(len(rows))
    if bias_name is not None and _one_per_row(work, bias_name, rows):
        shift = np.asarray(work[bias_name], dtype=np.float64)
        used.add(bias_name)
    norm = symmetry.norms.get(name)
    if norm is not None and all(_one_per_row(work, vector, rows) for vector in (norm.mean, norm.variance)):
        names = [
            n
            for n in (norm.mean, norm.variance, norm.scale, norm.shift)
            if n is not None and _one_per_row(work, n, rows)
        ]
        used |= set(names)
        values = {n: np.asarray(work[n], dtype=np.float64) for n in names}
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = 1.0 / np.sqrt(values[norm.variance] + norm.epsilon)
        if norm.scale in values:
            factor = factor * values[norm.scale]
        shift = (shift - values[norm.mean]) * factor
        if norm.shift in values:
            shift = shift + values[norm.shift]
        rows = rows * factor[:, None]
    return np.concatenate([rows, shift[:, None]], axis=1), used


def _one_per_row(work: Mapping[str, NDArray[np.generic]], name: str, rows: Floats) -> bool:
    """Whether a norm's or bias's vector is there and has a value for each row; of another shape it counts as missing."""
    return name in work and work[name].shape == (len(rows),)


def _clusters(rows: Floats) -> list[NDArray[np.int64]]:
    """Sets of two or more non-zero rows that are equal to `TOLERANCE`, each in ascending order."""
    present = np.flatnonzero(np.any(rows != 0, axis=1))
    if len(present) < 2:
        return []
    # Close rows have close projections, so only those need comparing. Drawn from the rows themselves: rows made to agree in a
    # direction that is known beforehand would all have to be compared with each other.
    seed = list(hashlib.sha256(rows.tobytes()).digest())
    direction = np.asarray(np.random.default_rng(seed).standard_normal(rows.shape[1]))
    projected = (rows[present] * (direction / np.sqrt((direction * direction).sum()))).sum(axis=1)
    order = np.argsort(projected, kind="stable")
    ranked = projected[order]
    first, last = (np.searchsorted(ranked, projected + reach, side=side) for reach, side in WITHIN)
    free = np.ones(len(present), dtype=np.bool_)
    result = []
    for row in np.flatnonzero(last - first > 1):
        near = order[first[row] : last[row]]
        near = np.sort(near[free[near]])
        if not free[row] or len(near) < 2:
            continue
        gaps = rows[present[near]] - rows[present[row]]
        close = near[np.sqrt((gaps * gaps).sum(axis=1)) <= TOLERANCE]
        if len(close) > 1:
            free[close] = False
            result.append(present[close])
    return result


def _near(rows: Floats, tolerance: float) -> list[NDArray[np.int64]]:
    """Sets of two or more non-zero rows that are about within `tolerance` of the first of them, each in ascending order.

    At a wide tolerance one direction tells no two rows apart, so `SUMS` of them are compared: whole rows would take hours.
    """
    sums = np.rint(_summed(rows) * STEPS)
    present = np.flatnonzero(np.any(rows != 0, axis=1) & (np.abs(sums) <= LONGEST).all(axis=1))
    sums = sums[present]
    lengths = (sums * sums).sum(axis=1)
    free = np.ones(len(present), dtype=np.bool_)
    result = []
    for start in range(0, len(present), BLOCK):
        block = slice(start, start + BLOCK)
        gaps = lengths[block, None] + lengths - 2 * (sums[block] @ sums.T)
        within = gaps <= (tolerance * STEPS) ** 2
        for row in np.flatnonzero(np.count_nonzero(within, axis=1) > 1):
            close = np.flatnonzero(within[row] & free)
            if free[start + row] and len(close) > 1:
                free[close] = False
                result.append(present[close])
    return result


def _summed(rows: Floats) -> Floats:
    """Rows of at most `SUMS` values: inputs with random signs, drawn from the rows themselves, added up in random sets.

    That leaves distances about as they were. Sums run along the first axis, which numpy adds in order.
    """
    width = rows.shape[1]
    if width <= SUMS:
        return rows
    # Not numpy's generator, which may change from version to version: a signed verdict hangs on what is merged.
    words = np.frombuffer(hashlib.shake_256(rows.tobytes()).digest(8 * width), dtype="<u8")
    order, signs = np.argsort(words, kind="stable"), np.where(words & np.uint64(1), 1.0, -1.0)
    mixed = np.ascontiguousarray((rows[:, order] * signs).T)
    return np.asarray(np.add.reduceat(mixed, np.arange(SUMS) * width // SUMS, axis=0).T)


def _read_channels(
    work: Mapping[str, NDArray[np.generic]], axes: Mapping[str, Axes], symmetry: Symmetry, group: int, left: Indices
) -> Indices:
    """Channels that some layer reads: strength (incoming length times largest outgoing weight) above rounding.

    Those that read nothing themselves are constants, which may be loud at no cost: of them only as many as the group lacks.
    """
    incoming, scale = _incoming(work, axes, symmetry, group)
    strength = np.zeros(int(left.max()) + 1 if incoming is None else len(scale))
    for name, dimension, positions in carrying(axes, group, made=False):
        if name in work:
            moved = np.moveaxis(np.abs(np.nan_to_num(np.asarray(work[name], dtype=np.float64))), dimension, 0)
            largest = moved.reshape(len(moved), -1).max(axis=1)[positions].max(axis=1)
            strength[: len(largest)] = np.maximum(strength[: len(largest)], largest)
    if incoming is None:
        return left[strength[left] > DUST * float(strength[left].max(initial=0.0))]
    constant = ~np.any(incoming != 0, axis=1)
    strength = np.where(constant, 0.0, strength * scale)
    alive = left[strength[left] > DUST * float(strength[left].max(initial=0.0))]
    lacking = max(0, symmetry.groups[group].size - len(alive))
    return np.sort(np.concatenate([alive, left[constant[left]][:lacking]]))
