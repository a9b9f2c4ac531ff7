"""Soft assignment: exact arithmetic, and orders found where hard assignments get stuck."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.graph.assignment import LayerView, Problem, start
from ticketguard.graph.groups import Axis, Segment, fixed_axis
from ticketguard.graph.soft import COARSE, ONE, _belief, _power_of_two, _rounds, _told, start_soft


def whole(group: int, size: int) -> Axis:
    return (Segment(group=group, count=size),)


def chain(rng: np.random.Generator, kept: float) -> tuple[Problem, list[np.ndarray]]:
    """Three layers, 3 -> 24 -> 48 -> 48 channels, the suspect with a `kept` share of the counts and permuted."""
    sizes = (24, 48, 48)
    orders = [rng.permutation(size) for size in sizes]
    views = []
    for rows, columns in ((0, None), (1, 0), (2, 1)):
        width = 3 if columns is None else sizes[columns]
        reference = rng.binomial(9, 0.19, (sizes[rows], width))
        suspect = rng.binomial(reference, kept)[orders[rows]]
        inputs = fixed_axis(3) if columns is None else whole(columns, width)
        views.append(
            LayerView(
                reference=reference,
                suspect=suspect if columns is None else suspect[:, orders[columns]],
                rows=whole(rows, sizes[rows]),
                columns=inputs,
                suspect_rows=whole(rows, sizes[rows]),
                suspect_columns=inputs,
            )
        )
    return Problem(views=views, sizes=sizes, suspect_sizes=sizes), [np.argsort(order) for order in orders]


def share(choice: dict[int, np.ndarray], truth: list[np.ndarray]) -> float:
    return float(np.mean(np.concatenate([choice[g] == order for g, order in enumerate(truth)])))


def test_weak_hints_add_up_where_degrees_do_not_suffice() -> None:
    problem, truth = chain(np.random.default_rng(0), 0.5)
    assert share(start(problem), truth) < 0.5
    assert share(start_soft(problem), truth) > 0.95


def test_the_same_answer_twice_and_none_for_a_stranger() -> None:
    rng = np.random.default_rng(1)
    problem, _ = chain(rng, 0.5)
    one, two = start_soft(problem), start_soft(problem)
    assert all(np.array_equal(one[g], two[g]) for g in one)
    for order in one.values():
        assert len(np.unique(order)) == len(order)


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_beliefs_are_whole_numbers_with_sums_of_one_at_most(count: int, rows: int, columns: int, seed: int) -> None:
    ratios = np.random.default_rng(seed).normal(0, 20, (count, rows, columns))
    belief = _belief(ratios)
    assert np.array_equal(belief, np.floor(belief))
    assert belief.sum(axis=2).max() <= ONE
    assert belief.min() >= 0
    assert all(np.array_equal(_belief(ratios[n : n + 1])[0], belief[n]) for n in range(count))


def test_the_product_of_a_group_is_that_of_integers() -> None:
    problem, _ = chain(np.random.default_rng(3), 0.5)
    rng = np.random.default_rng(4)
    beliefs = {group: np.floor(rng.random((size, size)) * COARSE) for group, size in enumerate(problem.sizes)}
    for group in problem.touching:
        told = _told(problem, group, set(problem.touching))
        assert told is not None
        seen = np.concatenate([told.hints[hint].expected(beliefs) for hint, _ in told.parts], axis=1)
        exact = (
            np.array([[int(x) for x in row] for row in told.known], object)
            @ np.array([[int(x) for x in row] for row in seen], object).T
        )
        assert max(abs(int(x)) for x in exact.ravel()) < 2**53
        assert np.array_equal(told.ratio(beliefs), exact.astype(np.float64) * told.unit + told.offset)


def test_groups_of_one_layer_are_never_made_anew_at_once() -> None:
    problem, _ = chain(np.random.default_rng(0), 0.5)
    rounds = _rounds(problem, problem.touching)
    assert sorted(group for together in rounds for group in together) == [0, 1, 2]
    for together in rounds:
        assert all(len(view.groups & set(together)) <= 1 for view in problem.views)
        assert len({(problem.sizes[group], problem.suspect_sizes[group]) for group in together}) == 1


def test_powers_of_two_are_exact_at_whole_numbers_and_near_in_between() -> None:
    x = np.linspace(-20, 0, 401)
    np.testing.assert_allclose(_power_of_two(x), np.exp2(x), rtol=0.07)
    assert _power_of_two(np.array([-3.0, 0.0, -1000.0])).tolist() == [0.125, 1.0, 2.0**-64]
