"""The descent over channel groups: what is too large for an assignment stays as stored."""

from __future__ import annotations

import numpy as np
import pytest

from ticketguard.graph import assignment
from ticketguard.graph.assignment import LayerView, Problem, descend, start
from ticketguard.graph.groups import Segment
from ticketguard.graph.soft import start_soft

SIZES = (6, 20, 9)


def problem(rng: np.random.Generator) -> Problem:
    """Layers 6 -> 20 -> 9 channels, whole kernels, every group of the suspect permuted but the middle one."""
    orders = [rng.permutation(6), np.arange(20), rng.permutation(9)]
    views = []
    for rows, columns in ((1, 0), (2, 1)):
        reference = rng.binomial(9, 0.3, (SIZES[rows], SIZES[columns]))
        row_axis, column_axis = ((Segment(group=group, count=SIZES[group]),) for group in (rows, columns))
        views.append(
            LayerView(
                reference=reference,
                suspect=reference[orders[rows]][:, orders[columns]],
                rows=row_axis,
                columns=column_axis,
                suspect_rows=row_axis,
                suspect_columns=column_axis,
            )
        )
    return Problem(views=views, sizes=SIZES, suspect_sizes=SIZES)


@pytest.mark.parametrize("first", [Problem.identity, start, start_soft])
def test_a_group_too_large_to_order_stays_as_stored_and_the_others_are_found(first, monkeypatch) -> None:
    asked = []
    solve = assignment.assign
    monkeypatch.setattr(assignment, "MOST_ENTRIES", 19 * 20)
    monkeypatch.setattr(assignment, "assign", lambda gain, current: asked.append(gain.shape) or solve(gain, current))
    given = problem(np.random.default_rng(0))
    assert given.held == {1}
    choice, score, _ = descend(given, first(given))
    assert (20, 20) not in asked
    assert np.array_equal(choice[1], np.arange(20))
    assert score == given.perfect


def test_groups_of_real_networks_are_ordered_and_of_a_hostile_file_not() -> None:
    """40,000 channels would ask for 12 GB."""
    sizes, suspect_sizes = (8192, 8192, 40_000, 11_000), (8192, 12_000, 40_000, 2_000)
    assert Problem(views=[], sizes=sizes, suspect_sizes=suspect_sizes).held == {2}
