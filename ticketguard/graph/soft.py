"""Soft assignment: a first order of channels when single layers tell too little, by passing beliefs between groups.

Every group holds a belief, a doubly stochastic matrix of (reference channel, suspect channel). In turn, each group's belief is
made anew from what its layers say given the beliefs of the groups on their other axis: the log-likelihood ratio of "the same
channel, noisily" against "unrelated", for counts taken as jointly Gaussian, normalised by Sinkhorn scaling. This is mean-field
inference for graph matching; it finds orders from weak hints (a half-pruned random mask) where hard assignments get stuck.

Beliefs are fixed-point numbers, whole multiples of 2^-24 held in floats: every product and sum below is exact, and what is not
(division, square root) is correctly rounded elementwise. So the result does not depend on the machine or its libraries.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ticketguard.graph.assignment import LayerView, Matrix, Problem, assign, outwards
from ticketguard.graph.groups import Indices, length

CORRELATION = 0.6
SWEEPS = 30
SCALINGS = 8
ONE = float(1 << 24)
COARSE = float(1 << 12)
SETTLED = 0.95
# Beliefs of larger groups cost more than they bring: their layers have many channels and tell enough by themselves.
MOST_CHANNELS = 300
LOG2_E = 1.4426950408889634

Beliefs = dict[int, Matrix]


def start_soft(problem: Problem) -> dict[int, Indices]:
    """A first order by soft assignment of the groups that are not too large; the others follow from those."""
    groups = [group for group in sorted(problem.touching) if problem.suspect_sizes[group] <= MOST_CHANNELS]
    beliefs: Beliefs = {
        group: np.full(
            (problem.sizes[group], problem.suspect_sizes[group]), np.floor(ONE / problem.suspect_sizes[group])
        )
        for group in groups
    }
    usable = {
        group: [
            problem.views[number] for number in problem.touching[group] if problem.views[number].groups <= set(groups)
        ]
        for group in groups
    }
    moving = {group for group in groups if usable[group]}
    for _ in range(SWEEPS):
        for group in sorted(moving):
            ratio = sum((_evidence(view, group, beliefs) for view in usable[group]), np.zeros((1, 1)))
            beliefs[group] = np.floor((beliefs[group] + _belief(ratio)) / 2)
        if all(_certain(beliefs[group]) for group in moving):
            break
    choice = problem.identity()
    for group in sorted(moving):
        choice[group] = assign(beliefs[group], choice[group])
    return outwards(problem, choice, moving)


def _certain(belief: Matrix) -> bool:
    """Whether most reference channels have one clear counterpart."""
    return float((belief.max(axis=1) > ONE / 2).mean()) >= SETTLED


def _evidence(view: LayerView, group: int, beliefs: Mapping[int, Matrix]) -> Matrix:
    """Log-likelihood ratio, base 2, that suspect channel s is reference channel c, from one layer."""
    total: Matrix = np.zeros((1, 1))
    known_moments, (mean, variance) = view.moments
    if group in view.row_groups:
        width = max(1, view.block)
        expected = _expected(view, beliefs, columns=True)
        here, there = view.row_places[group]
        for k in range(here.shape[1]):
            known, seen = view.reference_floats[here[:, k]], expected[there[:, k]]
            total = total + _ratio(known, seen, known_moments, (width * mean, width * variance), CORRELATION)
    if group in view.column_groups:
        expected = _expected(view, beliefs, columns=False)
        here, there = view.column_places[group]
        correlation = CORRELATION / float(np.sqrt(max(1, view.block)))
        for k in range(here.shape[1]):
            cells = here[:, k] // view.block if view.block else here[:, k]
            known, seen = view.reference_floats.T[cells], expected[there[:, k]]
            total = total + _ratio(known, seen, known_moments, (mean, variance), correlation)
    return total


def _expected(view: LayerView, beliefs: Mapping[int, Matrix], *, columns: bool) -> Matrix:
    """The suspect's counts with one axis in reference order as far as believed, in units of 1 / COARSE.

    That axis is the last one: (rows, columns), or transposed for the rows.
    """
    suspect = view.suspect_floats if columns else view.suspect_floats.T
    places = view.column_places if columns else view.row_places
    result = np.zeros((len(suspect), length(view.columns if columns else view.rows)))
    for group, (here, there) in places.items():
        if group < 0:
            result[:, here] = suspect[:, there] * COARSE
            continue
        belief = np.floor(beliefs[group] / (ONE / COARSE)).T
        for k in range(here.shape[1]):
            result[:, here[:, k]] = suspect[:, there[:, k]] @ belief
    if columns and view.block:
        return np.add.reduceat(result, np.arange(0, result.shape[1], view.block), axis=1)
    return result


def _ratio(r: Matrix, s: Matrix, first: tuple[float, float], second: tuple[float, float], correlation: float) -> Matrix:
    """Sum over entries of log2 N2(r, s; correlation) / N(r) N(s), for standardised counts."""
    (mean_r, var_r), (mean_s, var_s) = first, second
    if var_r <= 0 or var_s <= 0:
        return np.zeros((1, 1))
    entries = r.shape[1]
    product = (r @ s.T) / COARSE
    r_sum, s_sum = r.sum(axis=1), s.sum(axis=1) / COARSE
    cross = product - mean_s * r_sum[:, None] - mean_r * s_sum[None, :] + entries * mean_r * mean_s
    r_square = ((r * r).sum(axis=1) - 2 * mean_r * r_sum + entries * mean_r * mean_r) / var_r
    # A belief's expectation has less variance than a count; its square is charged as a whole one's.
    s_square = np.full(len(s), float(entries))
    rest = 1 - correlation * correlation
    linear = cross * (correlation / float(np.sqrt(var_r * var_s)))
    squares = (r_square[:, None] + s_square[None, :]) * (correlation * correlation / 2)
    return np.asarray((linear - squares) * (LOG2_E / rest))


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
        weights = np.floor(weights * (ONE / np.maximum(weights.sum(axis=0), 1.0))[None, :])
        weights = np.floor(weights * (ONE / np.maximum(weights.sum(axis=1), 1.0))[:, None])
    return weights[:rows, :columns]


def _power_of_two(exponent: Matrix) -> Matrix:
    """2^x for x <= 0 by straight lines between whole powers: basic arithmetic only, the same on every machine."""
    exponent = np.maximum(exponent, -64.0)
    whole = np.floor(exponent)
    return np.asarray(np.ldexp(1.0 + (exponent - whole), whole.astype(np.int32)))
