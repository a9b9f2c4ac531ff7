"""Coordinate descent over channel groups: find the order of a suspect's channels that overlaps a reference frame best.

Everything is integers (held in floats only where a matrix product is exact), so the answer is the same on every machine.
The score of an order is sum over layers of 2 <R, A> - <A, A>, with R the reference's cell counts and A the suspect's in that
order: up to a constant, minus the squared distance of the two frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.groups import Axis, Indices, length
from ticketguard.graph.layout import Choice, gather_at, places, take

MAX_SWEEPS = 24
# Sweeps in which a group takes its best assignment even when the total does not grow: block cells of linear layers give only a
# linear approximation of the change.
FREE_SWEEPS = 2
# Entries of the gain matrix of one group: 8192 channels, and half as many dummies. The matrix takes 0.8 GB then, a step five of
# them, and the assignment minutes; both would grow with the square and the cube of what a stranger's file names.
MOST_ENTRIES = 3 << 25

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LayerView:
    """One layer as the descent sees it.

    `reference`: int64 cell counts (rows, cells); `suspect`: int64 counts per (row, channel) when a cell is a whole kernel
    (`block` is 0), else 0/1 per (row, position), cells being runs of `block` positions. Axes of rows and columns, of the
    reference and of the suspect; columns of a block layer are positions.
    """

    reference: NDArray[np.int64]
    suspect: NDArray[np.int64]
    rows: Axis
    columns: Axis
    suspect_rows: Axis
    suspect_columns: Axis
    block: int = 0

    @cached_property
    def row_groups(self) -> frozenset[int]:
        """Groups on the output axis."""
        return frozenset(s.group for s in self.rows if s.group is not None)

    @cached_property
    def column_groups(self) -> frozenset[int]:
        """Groups on the input axis."""
        return frozenset(s.group for s in self.columns if s.group is not None)

    @cached_property
    def row_places(self) -> dict[int, tuple[Indices, Indices]]:
        """Where each group's channels sit on the output axis, of the reference and of the suspect; fixed positions as -1."""
        return places(self.rows, self.suspect_rows)

    @cached_property
    def column_places(self) -> dict[int, tuple[Indices, Indices]]:
        """The same on the input axis."""
        return places(self.columns, self.suspect_columns)

    @cached_property
    def _positions(self) -> int:
        return length(self.columns)

    @cached_property
    def reference_floats(self) -> Matrix:
        """`reference` for products."""
        return self.reference.astype(np.float64)

    @cached_property
    def suspect_floats(self) -> Matrix:
        """`suspect` for products."""
        return self.suspect.astype(np.float64)

    @cached_property
    def moments(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Mean and variance of the reference's counts, and of the suspect's."""
        return _moments(self.reference), _moments(self.suspect)

    @property
    def groups(self) -> frozenset[int]:
        """Groups on either axis."""
        return self.row_groups | self.column_groups

    def in_row_order(self, choice: Choice) -> NDArray[np.int64]:
        """The suspect with its rows in reference order."""
        return take(self.suspect, 0, gather_at(self.row_places, self.reference.shape[0], choice))

    def in_column_order(self, choice: Choice, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The suspect (or given rows of it) with its columns in reference order, as cell counts."""
        given = self.suspect if rows is None else rows
        return self.cells(take(given, 1, gather_at(self.column_places, self._positions, choice)))

    def cells(self, ordered: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cell counts of a matrix whose columns are in reference order."""
        if not self.block:
            return ordered
        return np.add.reduceat(ordered, np.arange(0, ordered.shape[1], self.block), axis=1, dtype=np.int64)

    def aligned(self, choice: Choice) -> NDArray[np.int64]:
        """The suspect's cell counts in reference layout."""
        return self.in_column_order(choice, self.in_row_order(choice))

    def score(self, choice: Choice) -> int:
        """2 <R, A> - <A, A>."""
        found = self.aligned(choice)
        return int(np.sum(found * (2 * self.reference - found)))


def _moments(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and variance of all entries, from exact sums."""
    size = max(1, counts.size)
    total, squares = int(counts.sum()), int((counts * counts).sum())
    mean = total / size
    return mean, (squares * size - total * total) / (size * size)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """All layers, and the sizes of every group in the reference and in the suspect.

    `touching`: the layers of every group that can be ordered; `held`: groups too large for that, which stay as stored.
    """

    views: Sequence[LayerView]
    sizes: tuple[int, ...]
    suspect_sizes: tuple[int, ...]
    touching: Mapping[int, list[int]] = field(init=False)
    held: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        entries = [size * available for size, available in zip(self.sizes, self.suspect_sizes, strict=True)]
        held = frozenset(group for group, count in enumerate(entries) if count > MOST_ENTRIES)
        touching: dict[int, list[int]] = {}
        for number, view in enumerate(self.views):
            for group in view.groups - held:
                touching.setdefault(group, []).append(number)
        object.__setattr__(self, "touching", touching)
        object.__setattr__(self, "held", held)

    def identity(self) -> dict[int, Indices]:
        """Channel c of the suspect for channel c of the reference, while there are so many."""
        result = {}
        for group, (size, available) in enumerate(zip(self.sizes, self.suspect_sizes, strict=True)):
            order = np.arange(size, dtype=np.int64)
            result[group] = np.where(order < available, order, -1)
        return result

    def score(self, choice: Choice) -> int:
        """Total score over all layers."""
        return sum(view.score(choice) for view in self.views)

    def perfect(self) -> int:
        """The score of an order that reproduces the reference exactly."""
        return sum(int(np.sum(view.reference**2)) for view in self.views)


def start(problem: Problem) -> dict[int, Indices]:
    """A first order, from what can be told without knowing any other channel, outwards.

    First the groups of layers whose cells are whole kernels, or whose other axis is fixed: one assignment each on sorted degree
    features (what does not depend on the order of other channels), then a descent over those layers alone. Then every other
    group, from layers whose other axis is settled by now.
    """
    choice = problem.identity()
    firm = [number for number, view in enumerate(problem.views) if _stands_alone(view)]
    local = Problem(
        views=[problem.views[number] for number in firm], sizes=problem.sizes, suspect_sizes=problem.suspect_sizes
    )
    for group, numbers in sorted(local.touching.items()):
        gain = sum((_feature_gain(local.views[number], group) for number in numbers), np.zeros((1, 1)))
        choice[group] = assign(gain, choice[group])
    choice, _, _ = descend(local, choice)
    return outwards(problem, choice, set(local.touching))


def outwards(problem: Problem, choice: dict[int, Indices], settled: set[int]) -> dict[int, Indices]:
    """Order the groups that are not settled yet, each from the layers whose other axis is settled by then."""
    choice, settled = dict(choice), settled | problem.held
    waiting = sorted(set(problem.touching) - settled)
    while waiting:
        group = next((g for g in waiting if _settled_views(problem, g, settled)), waiting[0])
        views = _settled_views(problem, group, settled)
        gains = [_gain(view, group, choice) for view in views] or [
            _feature_gain(problem.views[number], group) for number in problem.touching[group]
        ]
        choice[group] = assign(sum(gains, np.zeros((1, 1))), choice[group])
        settled.add(group)
        waiting.remove(group)
    return choice


def _stands_alone(view: LayerView) -> bool:
    """Whether a layer tells its groups' channels apart before any other group is known."""
    return not view.block or not view.row_groups or not view.column_groups


def _both_sides(view: LayerView, group: int) -> bool:
    return group in view.row_groups and group in view.column_groups


def _settled_views(problem: Problem, group: int, settled: set[int]) -> list[LayerView]:
    """Layers in which `group` meets settled groups only."""
    views = [problem.views[number] for number in problem.touching[group]]
    return [view for view in views if (view.groups - {group}) <= settled and not _both_sides(view, group)]


def descend(problem: Problem, choice: Choice) -> tuple[dict[int, Indices], int, int]:
    """Sweep over the groups, each time the best assignment given the others, until nothing changes.

    Returns the best order found, its score and the number of sweeps.
    """
    current = dict(choice)
    scores = [view.score(current) for view in problem.views]
    best, best_total = dict(current), sum(scores)
    stale = set(problem.touching)
    sweeps = 0
    while stale and sweeps < MAX_SWEEPS and best_total < problem.perfect():
        free = sweeps < FREE_SWEEPS
        sweeps += 1
        for group in sorted(stale):
            stale.discard(group)
            changed = _improve(problem, group, current, scores, free=free)
            if changed:
                stale |= (
                    {other for number in changed for other in problem.views[number].groups} - {group} - problem.held
                )
        if sum(scores) > best_total:
            best, best_total = dict(current), sum(scores)
    return best, best_total, sweeps


def _improve(problem: Problem, group: int, current: dict[int, Indices], scores: list[int], *, free: bool) -> list[int]:
    """Give one group its best assignment; returns the layers it touches when that changed something."""
    numbers = problem.touching[group]
    gain = sum((_gain(problem.views[number], group, current) for number in numbers), np.zeros((1, 1)))
    proposal = assign(gain, current[group])
    if np.array_equal(proposal, current[group]):
        return []
    trial = {**current, group: proposal}
    after = {number: problem.views[number].score(trial) for number in numbers}
    if not free and sum(after.values()) <= sum(scores[number] for number in numbers):
        return []
    current[group] = proposal
    for number, score in after.items():
        scores[number] = score
    return numbers


def _gain(view: LayerView, group: int, choice: Choice) -> Matrix:
    """Score of giving suspect channel s (column) to reference channel c (row), the other axis being as chosen."""
    total: Matrix = np.zeros((1, 1))
    if group in view.row_groups:
        here, there = view.row_places[group]
        total = total + _overlap(view.reference[here], view.in_column_order(choice)[there])
    if group in view.column_groups:
        rows = view.in_row_order(choice)
        here, there = view.column_places[group]
        if view.block:
            total = total + _block_gain(view, rows, here, there)
        else:
            total = total + _overlap(view.reference.T[here], rows.T[there])
    return total


def _block_gain(view: LayerView, rows: NDArray[np.int64], here: Indices, there: Indices) -> Matrix:
    """Covariance of the reference's blocks with the suspect's columns, added over each channel's positions.

    Centred over the rows, so that full columns are not drawn to full blocks whatever their pattern.
    """
    product = _product(view.reference.T, rows)
    expected = view.reference.sum(axis=0)[:, None] * rows.sum(axis=0)[None, :] // len(rows)
    centred = 2 * (product - expected)
    blocks = here // view.block
    gain: Matrix = np.zeros((len(here), len(there)))
    for occurrence in range(here.shape[1]):
        gain += centred[np.ix_(blocks[:, occurrence], there[:, occurrence])]
    return gain


def _overlap(reference: NDArray[np.int64], suspect: NDArray[np.int64]) -> Matrix:
    """2 <r, s> - <s, s> for every reference channel r and suspect channel s; further dimensions are flattened."""
    one, two = reference.reshape(len(reference), -1), suspect.reshape(len(suspect), -1)
    return np.asarray(2 * _product(one, two.T) - np.einsum("ij,ij->i", two, two).astype(np.float64)[None, :])


def _product(one: NDArray[np.int64], two: NDArray[np.int64]) -> Matrix:
    """Exact matrix product of non-negative integers through floats, single precision when that is exact too."""
    bound = int(one.max(initial=0)) * int(two.max(initial=0)) * one.shape[1]
    kind = np.float32 if bound < 1 << 24 else np.float64
    return np.asarray(one.astype(kind) @ two.astype(kind), dtype=np.float64)


def _feature_gain(view: LayerView, group: int) -> Matrix:
    """As `_gain`, from the sorted profile of each channel over an axis in unknown order, exactly over a fixed axis."""
    total: Matrix = np.zeros((1, 1))
    scale = (int(view.suspect.sum()), int(view.reference.sum()))
    if group in view.row_groups:
        here, there = view.row_places[group]
        if not view.column_groups:
            total = total + _overlap(view.reference[here], view.cells(view.suspect)[there])
        elif view.block:
            degrees = view.reference.sum(axis=1)[here], view.suspect.sum(axis=1)[there]
            total = total + _profile_gain(*degrees, scale) // view.reference.shape[1]
        else:
            total = total + _profile_gain(view.reference[here], view.suspect[there], scale)
    if group in view.column_groups:
        here, there = view.column_places[group]
        if view.block:
            if not view.row_groups:
                total = total + _block_gain(view, view.suspect, here, there)
        elif not view.row_groups:
            total = total + _overlap(view.reference.T[here], view.suspect.T[there])
        else:
            total = total + _profile_gain(view.reference.T[here], view.suspect.T[there], scale)
    return total


def _profile_gain(reference: NDArray[np.int64], suspect: NDArray[np.int64], scale: tuple[int, int]) -> Matrix:
    """Overlap of sorted profiles, the suspect's brought to the reference's total (a pruned suspect has fewer edges)."""
    one = np.sort(reference, axis=-1)[..., ::-1]
    two = np.sort(suspect, axis=-1)[..., ::-1]
    width = max(one.shape[-1], two.shape[-1])
    one, two = (np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])]) for x in (one, two))
    given, wanted = scale
    fine = 16
    return np.asarray(_overlap(one * fine, two * (fine * wanted) // max(given, 1)) // (fine * fine))


def assign(gain: Matrix, current: Indices) -> Indices:
    """Suspect channel for every reference channel that maximises the total gain, near `current` among equals; -1 if none."""
    # Imported here because only aligning needs it, and reading a suspect as stored is most of verification.
    from scipy.optimize import linear_sum_assignment

    size, available = gain.shape
    weighted = gain * (size + 1)
    stay = np.flatnonzero((current >= 0) & (current < available))
    weighted[stay, current[stay]] += 1
    result = np.full(size, -1, dtype=np.int64)
    greedy = np.asarray(weighted.argmax(axis=1), dtype=np.int64)
    if len(np.unique(greedy)) == size:
        return greedy
    rows, columns = linear_sum_assignment(weighted, maximize=True)
    result[rows] = columns
    return result
