from __future__ import annotations

from collections.abc import Callable
from math import factorial, log2
from typing import Any

import numpy as np
import pytest

from ticketguard.errors import DataError
from ticketguard.tails import log2_binomial_tail
from ticketguard.triggers.plan import make_plan
from ticketguard.triggers.render import targets
from ticketguard.triggers.score import label_map_bits, score, trigger_tests

PLAN = make_plan((1, 8, 8), tuple("0123456789"), leaves=4)
Open = Callable[..., Any]


def test_erasures_are_neither_matches_nor_misses() -> None:
    assert score(np.array([1, -1, 3, 4]), np.array([1, 2, 0, 4])) == (3, 2, 1)
    assert score(np.array([-1, -1]), np.array([0, 1])) == (0, 0, 2)


def test_pooled_and_single_leaves(opening: Open) -> None:
    everything = opening(0, 1, 2, 3)
    answers = np.concatenate(list(targets(everything, PLAN).values()))
    answers[:64] = -1
    answers[64:96] = (answers[64:96] + 1) % 10
    pooled, *single = trigger_tests(everything, PLAN, answers)
    assert [item.scope for item in single] == ["leaf 0", "leaf 1", "leaf 2", "leaf 3"]
    assert (pooled.scope, pooled.n, pooled.matches, pooled.erasures) == ("pooled", 192, 160, 64)
    assert pooled.log2_p == log2_binomial_tail(160, 192, chances=10)
    assert (single[0].n, single[0].bits, single[0].capacity_bits) == (0, 0.0, 0.0)
    assert single[3].bits == pytest.approx(64 * log2(10))
    assert single[3].capacity_bits == pytest.approx(64 * log2(10))


def test_one_revealed_leaf_is_tested_alone(opening: Open) -> None:
    answers = np.full(PLAN.total, -1)
    answers[PLAN.indices(2)] = targets(opening(2), PLAN)[2]
    assert [item.scope for item in trigger_tests(opening(2), PLAN, answers)] == ["leaf 2"]


def test_a_label_map_is_charged(opening: Open) -> None:
    answers = np.concatenate(list(targets(opening(0, 1, 2, 3), PLAN).values()))
    free = trigger_tests(opening(0, 1, 2, 3), PLAN, answers)[0]
    charged = trigger_tests(opening(0, 1, 2, 3), PLAN, answers, charge_bits=label_map_bits(10))[0]
    assert free.bits - charged.bits == pytest.approx(log2(factorial(10)), abs=1e-5)
    assert free.capacity_bits - charged.capacity_bits == pytest.approx(log2(factorial(10)), abs=1e-5)
    assert "label map" in charged.null
    assert trigger_tests(opening(0, 1, 2, 3), PLAN, answers, charge_bits=1e6)[0].bits == 0.0


@pytest.mark.parametrize(("classes", "names"), [(2, None), (10, None), (100, None), (10, 1000), (10, 3)])
def test_the_charge_counts_the_maps(classes: int, names: int | None) -> None:
    total = max(classes, names or 0)
    exact = log2(factorial(total)) - log2(factorial(total - classes))
    assert exact <= label_map_bits(classes, names) < exact + 1e-5


@pytest.mark.parametrize(
    "answers", [np.zeros(255, np.int64), np.full(256, 10), np.full(256, -2), np.zeros((256, 1), np.int64)]
)
def test_predictions_that_fit_no_plan_are_refused(opening: Open, answers: np.ndarray) -> None:
    with pytest.raises(DataError, match="predictions"):
        trigger_tests(opening(0), PLAN, answers)
