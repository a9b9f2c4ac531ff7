from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketguard.errors import FormatError, UsageError
from ticketguard.tails import log2_binomial_tail
from ticketguard.triggers.plan import TriggerPlan, make_plan, needed_per_leaf, plan_of

CLASSES = tuple("0123456789")


def registration(plan: TriggerPlan, **changes: object) -> SimpleNamespace:
    """The four fields of a registration that a plan is read from."""
    fields = {
        "leaves": plan.leaves,
        "classes": plan.classes,
        "triggers": plan.to_json(),
        "carriers": plan.digests,
    }
    return SimpleNamespace(**(fields | changes))


@pytest.mark.parametrize(
    ("classes", "bar", "expected"), [(10, 126.0, 64), (2, 126.0, 320), (100, 126.0, 32), (10, 66.0, 32)]
)
def test_one_leaf_at_85_percent_passes_the_bar(classes: int, bar: float, expected: int) -> None:
    count = needed_per_leaf(classes, bar_bits=bar)
    assert count == expected
    assert -log2_binomial_tail(int(0.85 * count), count, chances=classes) >= bar
    assert -log2_binomial_tail(int(0.85 * (count - 8)), count - 8, chances=classes) < bar


@pytest.mark.parametrize(("classes", "rate"), [(1, 0.85), (10, 1.5), (10, 0.1), (2, 0.5)])
def test_hopeless_plans_are_refused(classes: int, rate: float) -> None:
    with pytest.raises(UsageError, match="triggers"):
        needed_per_leaf(classes, rate=rate)


def test_pooled_indices_are_leaf_after_leaf() -> None:
    plan = make_plan((1, 8, 8), CLASSES, leaves=4)
    assert plan.total == 256
    assert plan.indices(2) == slice(128, 192)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)), st.integers(2, 50))
def test_a_plan_survives_the_registration(leaves: int, shape: tuple[int, int, int], classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    plan = make_plan(shape, names, leaves=leaves, preprocess={"mean": [0.5], "std": [0.25]})
    assert plan_of(registration(plan)) == plan


def test_a_registration_without_triggers_has_no_plan() -> None:
    plan = make_plan((1, 8, 8), CLASSES, leaves=1)
    assert plan_of(registration(plan, triggers=None)) is None


def test_own_images_are_registered_by_digest() -> None:
    images = np.arange(4 * 64 * 64, dtype=np.uint32).view(np.uint8).reshape(-1, 1, 8, 8)[: 4 * 64]
    plan = make_plan((1, 8, 8), CLASSES, leaves=4, own_images=images)
    assert plan.source == "owner"
    assert plan.digests is not None
    assert len(set(plan.digests)) == 256
    assert plan_of(registration(plan)) == plan


def test_own_images_must_differ_and_suffice() -> None:
    with pytest.raises(UsageError, match="different images"):
        make_plan((1, 8, 8), CLASSES, leaves=4, own_images=np.zeros((256, 1, 8, 8), dtype=np.uint8))
    with pytest.raises(UsageError, match="256 uint8 images"):
        make_plan((1, 8, 8), CLASSES, leaves=4, own_images=np.zeros((255, 1, 8, 8), dtype=np.uint8))


@pytest.mark.parametrize(
    "change",
    [
        {"perLeaf": 0},
        {"perLeaf": "64"},
        {"perLeaf": 10**9},
        {"perLeaf": True},
        {"shape": [1, 8]},
        {"shape": [1, 8, -8]},
        {"shape": [1, 1e3, 8]},
        {"shape": 8},
        {"shape": [1, 1 << 20, 1 << 20]},
        {"source": "elsewhere"},
        {"source": "owner"},
        {"preprocess": None},
        {"preprocess": {"mean": "a"}},
        {"extra": 1},
    ],
)
def test_malformed_plans_are_refused(change: dict[str, object]) -> None:
    plan = make_plan((1, 8, 8), CLASSES, leaves=4)
    with pytest.raises(FormatError, match="registration"):
        plan_of(registration(plan, triggers=plan.to_json() | change))


def test_triggers_without_class_names_are_refused() -> None:
    with pytest.raises(FormatError, match="class names"):
        plan_of(registration(make_plan((1, 8, 8), CLASSES, leaves=4), classes=None))
