"""Soft assignment: a first order of channels when single layers tell too little, by passing beliefs between groups.

Every group holds a belief, a doubly stochastic matrix of (reference channel, suspect channel). In turn, each group's belief is
made anew from what its layers say given the beliefs of the groups on their other axis: the log-likelihood ratio of "the same
channel, noisily" against "unrelated", for counts taken as jointly Gaussian, normalised by Sinkhorn scaling. This is mean-field
inference for graph matching; it finds orders from weak hints (a half-pruned random mask) where hard assignments get stuck.

Beliefs and counts are whole multiples of a power of two held in floats, so that products of matrices, which a library adds up
in an order of its own, are exact. All else is done elementwise, or summed along an axis that is not the last, which numpy does
in order. So the result does not depend on the machine or its libraries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import frexp

import numpy as np

from ticketguard.graph.assignment import LayerView, Matrix, Problem, assign, outwards
from ticketguard.graph.groups import Indices, length

CORRELATION = 0.6
SWEEPS = 30
SCALINGS = 8
ONE = float(1 << 24)
COARSE = float(1 << 12)
EXACT_BITS = 52
SETTLED = 0.95
# Where beliefs grow by less than this part of them in so many sweeps, the descent that follows does better than more of them.
STILL = 2
SLIGHT = 1 / 256
# Beliefs of larger groups cost more than they bring: their layers have many channels and tell enough by themselves.
MOST_CHANNELS = 300
# Entries of the beliefs that are made anew at once; several matrices of that size are held.
MOST_TOGETHER = 1 << 20
# A total that is not zero is far above it.
SMALLEST = 1e-200
LOG2_E = 1.4426950408889634

Beliefs = dict[int, Matrix]


def start_soft(problem: Problem) -> dict[int, Indices]:
    """A first order by soft assignment of the groups that are not too large; the others follow from those."""
    groups = [group for group in sorted(problem.touching) if problem.suspect_sizes[group] <= MOST_CHANNELS]
    told = {group: _told(problem, group, set(groups)) for group in groups}
    moving = {group: each for group, each in told.items() if each is not None}
    beliefs: Beliefs = {
        group: np.full(
            (problem.sizes[group], problem.suspect_sizes[group]), np.floor(ONE / problem.suspect_sizes[group])
        )
        for group in groups
    }
    coarse = {group: _coarse(belief) for group, belief in beliefs.items()}
    rounds = _rounds(problem, moving)
    confidence: list[float] = []
    for _ in range(SWEEPS):
        for together in rounds:
            ratios = np.stack([moving[group].ratio(coarse) for group in together])
            found = np.floor((np.stack([beliefs[group] for group in together]) + _belief(ratios)) / 2)
            for group, belief in zip(together, found, strict=True):
                beliefs[group], coarse[group] = belief, _coarse(belief)
        largest = [beliefs[group].max(axis=1) for group in moving]
        confidence.append(sum(float(each.sum()) for each in largest))
        if all(float((each > ONE / 2).mean()) >= SETTLED for each in largest) or _standing_still(confidence):
            break
    choice = problem.identity()
    for group in moving:
        choice[group] = assign(beliefs[group], choice[group])
    return outwards(problem, choice, set(moving))


def _rounds(problem: Problem, groups: Iterable[int]) -> list[list[int]]:
    """Groups that can be made anew at once: no two in one layer, all of the same sizes. Small matrices cost calls, not sums."""
    colours: list[list[int]] = []
    for group in groups:
        near = {other for number in problem.touching[group] for other in problem.views[number].groups}
        free = next((members for members in colours if near.isdisjoint(members)), None)
        if free is None:
            colours.append([group])
        else:
            free.append(group)
    rounds: list[list[int]] = []
    for members in colours:
        alike: dict[tuple[int, int], list[int]] = {}
        for group in members:
            alike.setdefault((problem.sizes[group], problem.suspect_sizes[group]), []).append(group)
        for (size, available), same in alike.items():
            count = max(1, MOST_TOGETHER // (size * available))
            rounds += [same[start : start + count] for start in range(0, len(same), count)]
    return rounds


def _standing_still(confidence: Sequence[float]) -> bool:
    """Whether the sum of the largest belief of every channel has hardly changed in the last sweeps."""
    return len(confidence) > STILL and abs(confidence[-1] - confidence[-1 - STILL]) < SLIGHT * confidence[-1]


def _coarse(belief: Matrix) -> Matrix:
    """A belief as products take it: (suspect channel, reference channel), in whole multiples of 1 / COARSE."""
    return np.floor(belief / (ONE / COARSE)).T


@dataclass(frozen=True, kw_only=True)
class _Hint:
    """What one layer shows of the rows of one of its axes, with all that no belief changes worked out once.

    `fixed`: the suspect's counts at positions of the other axis that never move, in units of 1 / COARSE, zero elsewhere; None
    when there are none. `sources`: a group of the other axis, where it sits there in the reference, and the suspect's counts at
    its channels. `blocks`: where the cells of the other axis begin, when they are runs of positions.
    """

    fixed: Matrix | None
    shape: tuple[int, int]
    sources: tuple[tuple[int, Indices | None, Matrix], ...]
    blocks: Indices | None

    def expected(self, coarse: Beliefs) -> Matrix:
        """The suspect's counts with the other axis in reference order as far as believed, in units of 1 / COARSE."""
        if self.fixed is None and len(self.sources) == 1 and self.sources[0][1] is None:
            group, _, counts = self.sources[0]
            result = counts @ coarse[group]
        else:
            result = np.zeros(self.shape) if self.fixed is None else self.fixed.copy()
            for group, here, counts in self.sources:
                result[:, slice(None) if here is None else here] = counts @ coarse[group]
        return result if self.blocks is None else np.add.reduceat(result, self.blocks, axis=1)


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """The sum over entries of log2 N2(r, s; correlation) / N(r) N(s) for standardised counts, as a function of the suspect's s.

    For a row r of the reference and a row s of what is `expected` of the suspect it is <`known`[r], s> + `offset`[r], with the
    rows of the group's channels at `there` (None: all rows, in order); `most`: the largest entry that s can have.
    """

    hint: int
    known: Matrix
    there: Indices | None
    offset: Matrix
    most: float


@dataclass(frozen=True, kw_only=True)
class _Told:
    """All that the layers of a group say about it: `known` in whole multiples of `unit`, the pieces side by side."""

    hints: tuple[_Hint, ...]
    parts: tuple[tuple[int, Indices | None], ...]
    known: Matrix
    unit: float
    offset: Matrix

    def ratio(self, coarse: Beliefs) -> Matrix:
        """The log-likelihood ratio, base 2, that suspect channel s (column) is reference channel c (row)."""
        expected = [hint.expected(coarse) for hint in self.hints]
        seen = [expected[hint] if there is None else expected[hint][there] for hint, there in self.parts]
        ratio = self.known @ np.concatenate(seen, axis=1).T
        ratio *= self.unit
        ratio += self.offset
        return ratio


def _told(problem: Problem, group: int, groups: set[int]) -> _Told | None:
    """What the layers say about a group that touch no groups but `groups`; None where they say nothing."""
    hints: list[_Hint] = []
    pieces: list[_Piece] = []
    for number in problem.touching[group]:
        view = problem.views[number]
        if view.groups <= groups:
            for along_rows in (True, False):
                if group in (view.row_groups if along_rows else view.column_groups):
                    pieces += _pieces(view, group, len(hints), along_rows=along_rows)
                    hints.append(_hint(view, columns=along_rows))
    if not pieces:
        return None
    known = np.concatenate([piece.known for piece in pieces], axis=1)
    # The finest steps at which no sum of products leaves the whole numbers that a float holds.
    bound = float(np.abs(known).max()) * max(piece.most for piece in pieces) * known.shape[1]
    steps = 2.0 ** (EXACT_BITS - frexp(bound)[1])
    return _Told(
        hints=tuple(hints),
        parts=tuple((piece.hint, piece.there) for piece in pieces),
        known=np.rint(known * steps),
        unit=1.0 / (steps * COARSE),
        offset=sum((piece.offset for piece in pieces), np.zeros(len(known)))[:, None],
    )


def _pieces(view: LayerView, group: int, hint: int, *, along_rows: bool) -> list[_Piece]:
    """What one layer says about a group on its rows or on its columns: a piece for each place that a channel has there."""
    width = max(1, view.block)
    known_moments, (mean, variance) = view.moments
    if along_rows:
        reference, correlation, seen = view.reference_floats, CORRELATION, (width * mean, width * variance)
    else:
        reference, correlation, seen = view.reference_floats.T, CORRELATION / float(np.sqrt(width)), (mean, variance)
    if group == view.only[0 if along_rows else 1] and (along_rows or not view.block):
        rows: list[tuple[Matrix, Indices | None]] = [(reference, None)]
    else:
        here, there = view.row_places[group] if along_rows else view.column_places[group]
        cells = here if along_rows else here // width
        rows = [(reference[cells[:, k]], there[:, k]) for k in range(here.shape[1])]
    most = float(view.suspect.max(initial=0)) * width * COARSE
    found = []
    for known, there_at in rows:
        said = _linear(known, known_moments, seen, correlation)
        if said is not None:
            found.append(_Piece(hint=hint, known=said[0], there=there_at, offset=said[1], most=most))
    return found


def _hint(view: LayerView, *, columns: bool) -> _Hint:
    """The parts of a hint that hang on the axis opposite to its group: columns for a group on the rows."""
    suspect = view.suspect_floats if columns else view.suspect_floats.T
    shape = (len(suspect), length(view.columns if columns else view.rows))
    blocks = np.arange(0, shape[1], view.block) if columns and view.block else None
    only = view.only[1 if columns else 0]
    if only >= 0:
        return _Hint(fixed=None, shape=shape, sources=((only, None, suspect),), blocks=blocks)
    places = dict(view.column_places if columns else view.row_places)
    fixed = None
    if -1 in places:
        here, there = places.pop(-1)
        fixed = np.zeros(shape)
        fixed[:, here] = suspect[:, there] * COARSE
    sources = tuple(
        (group, here[:, k], suspect[:, there[:, k]])
        for group, (here, there) in places.items()
        for k in range(here.shape[1])
    )
    return _Hint(fixed=fixed, shape=shape, sources=sources, blocks=blocks)


def _linear(
    known: Matrix, first: tuple[float, float], second: tuple[float, float], correlation: float
) -> tuple[Matrix, Matrix] | None:
    """Factors and offset of a `_Piece`; None when all counts of either side are equal: then they say nothing."""
    (mean_r, var_r), (mean_s, var_s) = first, second
    if var_r <= 0 or var_s <= 0:
        return None
    entries = known.shape[1]
    r_sum = known.sum(axis=1)
    r_square = ((known * known).sum(axis=1) - 2 * mean_r * r_sum + entries * mean_r * mean_r) / var_r
    bits = LOG2_E / (1 - correlation * correlation)
    linear = bits * correlation / float(np.sqrt(var_r * var_s))
    # A belief's expectation has less variance than a count; its square is charged as a whole one's.
    squares = (r_square + entries) * (bits * correlation * correlation / 2)
    return (known - mean_r) * linear, (entries * mean_r * mean_s - mean_s * r_sum) * linear - squares


def _belief(ratio: Matrix) -> Matrix:
    """Sinkhorn scaling of 2^ratio to row sums of one and column sums of at most one, in multiples of 1 / ONE.

    `ratio`: any number of matrices of one shape, (n, rows, columns). Surplus channels on either side go to stand-ins whose
    ratio is zero: unrelated.
    """
    count, rows, columns = ratio.shape
    size = max(rows, columns)
    if rows != columns:
        square = np.zeros((count, size, size))
        square[:, :rows, :columns] = ratio
        ratio = square
    weights = np.floor(_power_of_two(ratio - ratio.max(axis=2, keepdims=True)) * ONE)
    turned = np.ascontiguousarray(weights.swapaxes(1, 2))
    row_scale = np.ones((count, size))
    for _ in range(SCALINGS):
        column_scale = _inverse(np.add.reduce(weights * row_scale[:, :, None], axis=1))
        row_scale = _inverse(np.add.reduce(turned * column_scale[:, :, None], axis=1))
    weights *= (row_scale * ONE)[:, :, None]
    weights *= column_scale[:, None, :]
    return np.asarray(np.floor(weights[:, :rows, :columns]))


def _inverse(totals: Matrix) -> Matrix:
    """One over each total; a total of zero is of zeros only, whatever they are multiplied by."""
    return 1.0 / np.maximum(totals, SMALLEST)


def _power_of_two(exponent: Matrix) -> Matrix:
    """2^x for -64 <= x <= 0 by straight lines between whole powers, and 2^-64 below: the same on every machine.

    A binary float is such a line: its exponent is the whole part, its fraction the rest.
    """
    bits = (np.maximum(exponent, -64.0) + 1023.0) * 2.0**52
    return bits.astype(np.int64).view(np.float64)
