"""Coordinate descent over channel groups: find the order of a suspect's channels that overlaps a reference frame best.

Everything is integers (held in floats only where a matrix product is exact), so the answer is the same on every machine.
The score of an order is sum over layers of 2 <R, A> - <A, A>, with R the reference's cell counts and A the suspect's in that
order: up to a constant, minus the squared distance of the two frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.groups import Axis, Indices, length
from ticketguard.graph.layout import Choice, gather_at, places, whole_group

MAX_SWEEPS = 24
# Sweeps in which a group takes its best assignment even when the total does not grow: block cells of linear layers give only a
# linear approximation of the change.
FREE_SWEEPS = 2
# Entries of the gain matrix of one group: 8192 channels, and half as many dummies. The matrix takes 0.8 GB then, a step five of
# them, and the assignment minutes; both would grow with the square and the cube of what a stranger's file names.
MOST_ENTRIES = 3 << 25

# Whole numbers up to here, and twice their difference, are exact in single precision.
EXACT = 1 << 22

Matrix = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
T = TypeVar("T", bound=np.generic)


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
    def reference_floats(self) -> Matrix:
        """`reference` for products."""
        return self.reference.astype(np.float64)

    @cached_property
    def suspect_floats(self) -> Matrix:
        """`suspect` for products."""
        return self.suspect.astype(np.float64)

    @cached_property
    def wanted(self) -> Floats:
        """`reference` in the narrower float in which all sums of products here are exact."""
        return self.reference.astype(self._kind)

    @cached_property
    def given(self) -> Floats:
        """`suspect` in that float, below and beside it a row and a column of zeros: index -1 reads what is not there."""
        return np.pad(self.suspect.astype(self._kind), [(0, 1), (0, 1)])

    @cached_property
    def _kind(self) -> type[np.floating[Any]]:
        largest = max(int(self.reference.max(initial=0)), int(self.suspect.max(initial=0)) * max(1, self.block))
        bound = largest * largest * max(self.reference.size, self.suspect.size)
        return np.float32 if bound < EXACT else np.float64

    @cached_property
    def moments(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Mean and variance of the reference's counts, and of the suspect's."""
        return _moments(self.reference), _moments(self.suspect)

    @property
    def groups(self) -> frozenset[int]:
        """Groups on either axis."""
        return self.row_groups | self.column_groups

    def in_row_order(self, choice: Choice) -> Floats:
        """The suspect with its rows in reference order; a column of zeros beside it."""
        order = choice.get(self.only[0])
        if order is None or len(order) != len(self.reference):
            order = gather_at(self.row_places, len(self.reference), choice)
        return self.given[order]

    def in_column_order(self, choice: Choice) -> Floats:
        """The suspect with its columns in reference order, as cell counts; a row of zeros below it."""
        return self._columns_of(self.given, choice)

    def cells(self, ordered: NDArray[T]) -> NDArray[T]:
        """Cell counts of a matrix of positions, or of kernels when each is a cell."""
        if not self.block:
            return ordered
        return np.asarray(np.add.reduceat(ordered, np.arange(0, ordered.shape[1], self.block), axis=1))

    @property
    def stored(self) -> NDArray[np.int64]:
        """The suspect's cell counts as it stores them."""
        return self.cells(self.suspect)

    def aligned(self, choice: Choice) -> Floats:
        """The suspect's cell counts in reference layout, whole numbers."""
        return self._columns_of(self.in_row_order(choice), choice)

    def counts(self, choice: Choice) -> NDArray[np.int64]:
        """`aligned` as integers."""
        return self.aligned(choice).astype(np.int64)

    def _columns_of(self, rows: Floats, choice: Choice) -> Floats:
        order = choice.get(self.only[1])
        if order is None or len(order) != self._positions:
            order = gather_at(self.column_places, self._positions, choice)
        return self.cells(rows[:, order])

    @cached_property
    def only(self) -> tuple[int, int]:
        """Groups whose channels, in order, are the rows and the columns: their choice says what to read. -1 for none."""
        return whole_group(self.rows, self.suspect_rows), whole_group(self.columns, self.suspect_columns)

    @cached_property
    def _positions(self) -> int:
        return length(self.columns)

    def score(self, choice: Choice) -> int:
        """2 <R, A> - <A, A>."""
        found = self.aligned(choice)
        return 2 * int(np.vdot(self.wanted, found)) - int(np.vdot(found, found))

    def adds_up(self, group: int) -> bool:
        """Whether the score is a sum over a group's channels of their gains (`_gain`), as long as no other group changes."""
        return group not in self.column_groups or not (self.block or group in self.row_groups)


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

    @cached_property
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
        gain = _added([_feature_gain(local.views[number], group) for number in numbers])
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
        choice[group] = assign(_added(gains), choice[group])
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
    total = problem.score(current)
    best, best_total = dict(current), total
    stale = set(problem.touching)
    sweeps = 0
    while stale and sweeps < MAX_SWEEPS and best_total < problem.perfect:
        free = sweeps < FREE_SWEEPS
        sweeps += 1
        for group in sorted(stale):
            stale.discard(group)
            proposal, growth = _proposal(problem, group, current)
            if proposal is not None and (free or growth > 0):
                current[group] = proposal
                total += growth
                touched = {other for number in problem.touching[group] for other in problem.views[number].groups}
                stale |= touched - {group} - problem.held
        if total > best_total:
            best, best_total = dict(current), total
    return best, best_total, sweeps


def _proposal(problem: Problem, group: int, current: Mapping[int, Indices]) -> tuple[Indices | None, int]:
    """The best assignment of one group, None where it has it, and by how much the score grows with it."""
    views = [problem.views[number] for number in problem.touching[group]]
    gains = [_gain(view, group, current) for view in views]
    own = current[group]
    proposal = assign(_added(gains), own)
    if np.array_equal(proposal, own):
        return None, 0
    trial = {**current, group: proposal}
    growth = 0
    for view, gain in zip(views, gains, strict=True):
        if view.adds_up(group):
            growth += _gained(gain, proposal) - _gained(gain, own)
        else:
            growth += view.score(trial) - view.score(current)
    return proposal, growth


def _gained(gain: Floats, order: Indices) -> int:
    """The sum of the gains of the channels that an order gives."""
    there = np.flatnonzero(order >= 0)
    return int(gain[there, order[there]].sum(dtype=np.float64))


def _added(gains: Sequence[Floats]) -> Matrix:
    return np.asarray(sum(gains, np.zeros((1, 1))))


def _gain(view: LayerView, group: int, choice: Choice) -> Floats:
    """Score of giving suspect channel s (column) to reference channel c (row), the other axis being as chosen."""
    found: list[Floats] = []
    if group in view.row_groups:
        here, there = view.row_places[group]
        found.append(_overlap(_at(view.wanted, here), _at(view.in_column_order(choice), there)))
    if group in view.column_groups:
        rows = view.in_row_order(choice)
        here, there = view.column_places[group]
        if view.block:
            found.append(_block_gain(view, rows, here, there))
        else:
            found.append(_overlap(_at(view.wanted.T, here), _at(rows.T, there)))
    return found[0] if len(found) == 1 else _added(found)


def _at(matrix: Floats, places: Indices) -> Floats:
    """The rows at each channel's places, one after the other in one row."""
    return matrix[places].reshape(len(places), -1)


def _block_gain(view: LayerView, rows: Floats, here: Indices, there: Indices) -> Matrix:
    """Covariance of the reference's blocks with the suspect's columns, added over each channel's positions.

    Centred over the rows, so that full columns are not drawn to full blocks whatever their pattern.
    """
    wanted, given = (sums.sum(axis=0, dtype=np.float64) for sums in (view.wanted, rows))
    centred = 2 * (view.wanted.T @ rows - np.floor(wanted[:, None] * given / len(rows)))
    blocks = here // view.block
    gain: Matrix = np.zeros((len(here), len(there)))
    for occurrence in range(here.shape[1]):
        gain += centred[np.ix_(blocks[:, occurrence], there[:, occurrence])]
    return gain


def _overlap(reference: Floats, suspect: Floats) -> Floats:
    """2 <r, s> - <s, s> for every reference channel r and suspect channel s, exact in the floats that are given."""
    product = reference @ suspect.T
    product *= 2
    product -= np.einsum("ij,ij->i", suspect, suspect)
    return product


def _feature_gain(view: LayerView, group: int) -> Matrix:
    """As `_gain`, from the sorted profile of each channel over an axis in unknown order, exactly over a fixed axis."""
    found: list[Floats] = []
    scale = (int(view.suspect.sum()), int(view.reference.sum()))
    if group in view.row_groups:
        here, there = view.row_places[group]
        if not view.column_groups:
            found.append(_overlap(_at(view.wanted, here), _at(view.in_column_order({}), there)))
        elif view.block:
            degrees = view.reference.sum(axis=1)[here], view.suspect.sum(axis=1)[there]
            found.append(_profile_gain(*degrees, scale) // view.reference.shape[1])
        else:
            found.append(_profile_gain(view.reference[here], view.suspect[there], scale))
    if group in view.column_groups:
        here, there = view.column_places[group]
        if view.block:
            # Next to rows in unknown order, columns of single weights say nothing.
            told = not view.row_groups
            found.append(
                _block_gain(view, view.in_row_order({}), here, there) if told else np.zeros((len(here), len(there)))
            )
        elif not view.row_groups:
            found.append(_overlap(_at(view.wanted.T, here), _at(view.in_row_order({}).T, there)))
        else:
            found.append(_profile_gain(view.reference.T[here], view.suspect.T[there], scale))
    return _added(found)


def _profile_gain(reference: NDArray[np.int64], suspect: NDArray[np.int64], scale: tuple[int, int]) -> Matrix:
    """Overlap of sorted profiles, the suspect's brought to the reference's total (a pruned suspect has fewer edges)."""
    given, wanted = scale
    fine = 16
    width = max(reference.shape[-1], suspect.shape[-1])
    one = _profiles(reference * fine, width)
    two = _profiles(suspect * (fine * wanted) // max(given, 1), width)
    return np.asarray(_overlap(one, two) // (fine * fine))


def _profiles(counts: NDArray[np.int64], width: int) -> Matrix:
    """Each channel's counts in falling order, zeros after them, occurrences one after the other in one row."""
    profiles = np.zeros((*counts.shape[:-1], width))
    profiles[..., : counts.shape[-1]] = np.sort(counts, axis=-1)[..., ::-1]
    return profiles.reshape(len(counts), -1)


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
