"""Soft assignment: a first order of channels when single layers tell too little, by passing beliefs between groups.

Every group holds a belief, a doubly stochastic matrix of (reference channel, suspect channel). In turn, each group's belief is
made anew from what its layers say given the beliefs of the groups on their other axis: the log-likelihood ratio of "the same
channel, noisily" against "unrelated", for counts taken as jointly Gaussian, normalised by Sinkhorn scaling. This is mean-field
inference for graph matching; it finds orders from weak hints (a half-pruned random mask) where hard assignments get stuck.

Beliefs are fixed-point numbers, whole multiples of 2^-24 held in floats: every product and sum below is exact, and what is not
(division, square root) is correctly rounded elementwise. So the result does not depend on the machine or its libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ticketguard.graph.assignment import LayerView, Matrix, Problem, assign, outwards
from ticketguard.graph.groups import Indices, length

CORRELATION = 0.6
SWEEPS = 30
SCALINGS = 8
ONE = float(1 << 24)
COARSE = float(1 << 12)
SETTLED = 0.95
# Sweeps without a change after which none is to be expected; unrelated suspects stand still after about 16.
STILL = 4
# Beliefs of larger groups cost more than they bring: their layers have many channels and tell enough by themselves.
MOST_CHANNELS = 300
LOG2_E = 1.4426950408889634

Beliefs = dict[int, Matrix]


def start_soft(problem: Problem) -> dict[int, Indices]:
    """A first order by soft assignment of the groups that are not too large; the others follow from those."""
    groups = [group for group in sorted(problem.touching) if problem.suspect_sizes[group] <= MOST_CHANNELS]
    hints = {
        group: [
            hint
            for number in problem.touching[group]
            if problem.views[number].groups <= set(groups)
            for hint in _hints(problem.views[number], group)
        ]
        for group in groups
    }
    moving = {group for group in groups if hints[group]}
    beliefs: Beliefs = {
        group: np.full(
            (problem.sizes[group], problem.suspect_sizes[group]), np.floor(ONE / problem.suspect_sizes[group])
        )
        for group in groups
    }
    coarse = {group: _coarse(belief) for group, belief in beliefs.items()}
    confidence: list[float] = []
    for _ in range(SWEEPS):
        for group in sorted(moving):
            ratio = np.zeros(beliefs[group].shape)
            for hint in hints[group]:
                hint.add_evidence(ratio, coarse)
            beliefs[group] = np.floor((beliefs[group] + _belief(ratio)) / 2)
            coarse[group] = _coarse(beliefs[group])
        confidence.append(sum(float(beliefs[group].max(axis=1).sum()) for group in moving))
        if all(_certain(beliefs[group]) for group in moving) or _standing_still(confidence):
            break
    choice = problem.identity()
    for group in sorted(moving):
        choice[group] = assign(beliefs[group], choice[group])
    return outwards(problem, choice, moving)


def _certain(belief: Matrix) -> bool:
    """Whether most reference channels have one clear counterpart."""
    return float((belief.max(axis=1) > ONE / 2).mean()) >= SETTLED


def _standing_still(confidence: Sequence[float]) -> bool:
    """Whether the sum of the largest belief of every channel has changed by less than a thousandth in the last sweeps."""
    return len(confidence) > STILL and 1024 * abs(confidence[-1] - confidence[-1 - STILL]) < confidence[-1]


def _coarse(belief: Matrix) -> Matrix:
    """A belief as products take it: (suspect channel, reference channel), in whole multiples of 1 / COARSE."""
    return np.floor(belief / (ONE / COARSE)).T


@dataclass(frozen=True, kw_only=True)
class _Hint:
    """What one layer says about one group that lies on one of its axes, with all that no belief changes worked out once.

    `fixed`: the suspect's counts at positions of the other axis that never move, in units of 1 / COARSE, zero elsewhere; None
    when there are none. `sources`: a group of the other axis, where it sits there in the reference, and the suspect's counts at
    its channels. `blocks`: where the cells of the other axis begin, when they are runs of positions. `pieces`: one for each
    place of a channel of this group.
    """

    fixed: Matrix | None
    shape: tuple[int, int]
    sources: tuple[tuple[int, Indices | None, Matrix], ...]
    blocks: Indices | None
    pieces: tuple[_Piece, ...]

    def add_evidence(self, ratio: Matrix, coarse: Beliefs) -> None:
        """Add to `ratio` the log-likelihood ratio, base 2, that suspect channel s (column) is reference channel c (row)."""
        expected = self._expected(coarse)
        for piece in self.pieces:
            piece.add_ratio(ratio, expected)

    def _expected(self, coarse: Beliefs) -> Matrix:
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

    For a row r of the reference and a row s of the suspect it is `slope` * <r, s> + `offset`[r] + `shift` * sum(s).
    """

    known: Matrix
    there: Indices
    slope: float
    offset: Matrix
    shift: float

    def add_ratio(self, ratio: Matrix, expected: Matrix) -> None:
        seen = expected[self.there]
        product = self.known @ seen.T
        product *= self.slope
        product += self.offset[:, None]
        product += self.shift * seen.sum(axis=1)
        ratio += product


def _hints(view: LayerView, group: int) -> list[_Hint]:
    """What one layer says about a group: a hint for its rows, one for its columns."""
    known_moments, (mean, variance) = view.moments
    found = []
    if group in view.row_groups:
        width = max(1, view.block)
        here, there = view.row_places[group]
        pieces = [
            _piece(
                view.reference_floats[here[:, k]],
                there[:, k],
                known_moments,
                (width * mean, width * variance),
                CORRELATION,
            )
            for k in range(here.shape[1])
        ]
        found.append(_hint(view, pieces, columns=True))
    if group in view.column_groups:
        here, there = view.column_places[group]
        correlation = CORRELATION / float(np.sqrt(max(1, view.block)))
        cells = here // view.block if view.block else here
        pieces = [
            _piece(view.reference_floats.T[cells[:, k]], there[:, k], known_moments, (mean, variance), correlation)
            for k in range(here.shape[1])
        ]
        found.append(_hint(view, pieces, columns=False))
    return found


def _hint(view: LayerView, pieces: Sequence[_Piece | None], *, columns: bool) -> _Hint:
    """The parts of a hint that hang on the axis opposite to its group: columns for a group on the rows."""
    suspect = view.suspect_floats if columns else view.suspect_floats.T
    places = dict(view.column_places if columns else view.row_places)
    shape = (len(suspect), length(view.columns if columns else view.rows))
    fixed = None
    if -1 in places:
        here, there = places.pop(-1)
        fixed = np.zeros(shape)
        fixed[:, here] = suspect[:, there] * COARSE
    sources = tuple(
        (
            group,
            None if np.array_equal(here[:, k], np.arange(shape[1])) else here[:, k],
            np.ascontiguousarray(suspect[:, there[:, k]]),
        )
        for group, (here, there) in places.items()
        for k in range(here.shape[1])
    )
    blocks = np.arange(0, shape[1], view.block) if columns and view.block else None
    said = tuple(piece for piece in pieces if piece is not None)
    return _Hint(fixed=fixed, shape=shape, sources=sources, blocks=blocks, pieces=said)


def _piece(
    known: Matrix, there: Indices, first: tuple[float, float], second: tuple[float, float], correlation: float
) -> _Piece | None:
    """None when all counts of either side are equal: then they say nothing."""
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
    return _Piece(
        known=np.ascontiguousarray(known),
        there=there,
        slope=linear / COARSE,
        offset=(entries * mean_r * mean_s - mean_s * r_sum) * linear - squares,
        shift=-mean_r * linear / COARSE,
    )


def _belief(ratio: Matrix) -> Matrix:
    """Sinkhorn scaling of 2^ratio to row sums of one and column sums of at most one, in multiples of 1 / ONE.

    Surplus channels on either side go to stand-ins whose ratio is zero: unrelated.
    """
    rows, columns = ratio.shape
    size = max(rows, columns)
    square = np.zeros((size, size))
    square[:rows, :columns] = ratio
    weights = np.floor(_power_of_two(square - square.max(axis=1)[:, None]) * ONE)
    for _ in range(SCALINGS):
        weights *= ONE / np.maximum(weights.sum(axis=0), 1.0)
        np.floor(weights, out=weights)
        weights *= (ONE / np.maximum(weights.sum(axis=1), 1.0))[:, None]
        np.floor(weights, out=weights)
    return weights[:rows, :columns]


def _power_of_two(exponent: Matrix) -> Matrix:
    """2^x for x <= 0 by straight lines between whole powers: basic arithmetic only, the same on every machine."""
    exponent = np.maximum(exponent, -64.0)
    whole = np.floor(exponent)
    return np.asarray(np.ldexp(1.0 + (exponent - whole), whole.astype(np.int32)))
