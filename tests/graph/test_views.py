"""Sizes of a suspect's groups: what the plain repeated passes find, in the time that one pass takes."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.graph.groups import Group, Segment, Symmetry, length
from ticketguard.graph.layout import widen
from ticketguard.graph.matching import WIDEST
from ticketguard.graph.views import suspect_sizes


def shapes(totals):
    """Arrays of one dimension and so many positions, without memory."""
    return {f"p{number}": np.broadcast_to(np.zeros(1), (total,)) for number, total in enumerate(totals)}


def network(sizes, rows):
    """The symmetry of groups of `sizes` and one parameter for each of `rows`, which lists (group, repeat)."""
    axes = {
        f"p{number}": (tuple(Segment(group=g, count=sizes[g], repeat=repeat) for g, repeat in row),)
        for number, row in enumerate(rows)
    }
    return Symmetry(groups=tuple(Group(size=size) for size in sizes), axes=axes)


def plainly(symmetry, arrays):
    """Pass after pass over every axis, until one learns nothing."""
    known = {}
    progress = True
    while progress:
        progress = False
        for name, array in arrays.items():
            (axis,) = symmetry.axes[name]
            missing = {s.group for s in axis} - set(known)
            if len(missing) != 1:
                continue
            (group,) = missing
            sizes = [known.get(g, item.size) for g, item in enumerate(symmetry.groups)]
            surplus = array.shape[0] - length(widen(axis, symmetry.groups, sizes))
            own, step = symmetry.groups[group].size, sum(s.repeat for s in axis if s.group == group)
            size = own + surplus // step
            if surplus % step == 0 and 1 <= size <= WIDEST * own:
                known[group] = size
                progress = True
    return tuple(known.get(g, group.size) for g, group in enumerate(symmetry.groups))


@st.composite
def cases(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    part = st.tuples(st.integers(0, len(sizes) - 1), st.integers(1, 2))
    rows = draw(st.lists(st.lists(part, min_size=1, max_size=3), min_size=1, max_size=7))
    totals = draw(st.lists(st.integers(1, 14), min_size=len(rows), max_size=len(rows)))
    return network(sizes, rows), shapes(totals)


@given(cases())
def test_sizes_are_those_of_repeated_passes(case):
    symmetry, arrays = case
    assert suspect_sizes(symmetry, {}, arrays) == plainly(symmetry, arrays)


def test_a_chain_told_from_its_far_end_takes_no_pass_for_every_link():
    """512 groups, each known only after the next, and 1,500 axes of the last one that fit no size of it."""
    groups, odd = 512, 1500
    rows = [[(g, 1), (g + 1, 1)] for g in range(groups - 1)] + [[(groups - 1, 1)]] + [[(0, 2)]] * odd
    start = time.process_time()
    found = suspect_sizes(network([2] * groups, rows), {}, shapes([6] * (groups - 1) + [3] + [5] * odd))
    assert found == (3,) * groups
    assert time.process_time() - start < 2
