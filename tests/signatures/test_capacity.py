"""The planner: what it expects is what embedding gives; what is too small is refused."""

import hashlib
import re

import numpy as np
import pytest

from tests.readings import read
from ticketguard.claims.streams import Stream
from ticketguard.errors import CapacityError, UsageError
from ticketguard.graph.cells import cell_counts, layer_of
from ticketguard.signatures import capacity, edge
from ticketguard.tails import log2_binomial_tail

SHAPES = {
    "residual": {"a": (64, 32, 3, 3), "b": (64, 64, 3, 3)},
    "one by one": {"a": (96, 64, 1, 1), "b": (40, 200)},
    "wide kernels": {"a": (24, 12, 5, 5)},
}


def masks_of(shapes, density, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape) < density for name, shape in shapes.items()}


def planned(masks, **options):
    layers = {name: layer_of(name, bits.shape) for name, bits in masks.items()}
    counts = {name: cell_counts(layer, masks[name]) for name, layer in layers.items()}
    return layers, capacity.plan(counts, layers, **options)


def embedded(layers, masks, plan, leaves):
    """Informative pairs and moves of a real embedding."""
    informative = moved = 0
    for name, layer in layers.items():
        for leaf in range(leaves):
            stream = Stream("edge/" + name, bytes(32), leaf, hashlib.sha256(bytes([leaf])).digest())
            carriers = edge.draw(layer, plan.pairs[name], leaf=leaf, groups=leaves + 1, stream=stream)
            flat = masks[name].ravel()
            informative += int((flat[carriers.first] != flat[carriers.second]).sum())
            moved += len(edge.moves(carriers, masks[name]).source)
    return informative, moved


@pytest.mark.parametrize("leaves", [1, 4])
@pytest.mark.parametrize("spend", [0.05, 0.15])
@pytest.mark.parametrize("kind", SHAPES)
def test_plan_agrees_with_a_real_embedding(kind, spend, leaves):
    masks = masks_of(SHAPES[kind], 0.25)
    layers, plan = planned(masks, leaves=leaves, spend=spend, needed_bits=1)
    informative, moved = embedded(layers, masks, plan, leaves)
    edges = sum(int(bits.sum()) for bits in masks.values())
    # Three standard errors of the coin flips, and two percent for the planner's approximations.
    assert informative == pytest.approx(plan.informative, rel=0.02, abs=3 * plan.informative**0.5)
    assert moved / edges == pytest.approx(plan.moved, rel=0.04, abs=3 * informative**0.5 / edges)


def test_plan_spends_what_it_was_told_where_cells_allow_it():
    _, plan = planned(masks_of(SHAPES["residual"], 0.2), spend=0.1)
    assert plan.moved == pytest.approx(0.1, rel=0.02)


def test_evidence_expected_falls_with_pruning_and_starts_at_the_informative_pairs():
    _, plan = planned(masks_of(SHAPES["residual"], 0.2))
    after = [plan.bits_after[share] for share in (0.0, 0.3, 0.5, 0.7, 0.9)]
    assert after == sorted(after, reverse=True)
    assert after[0] == pytest.approx(int(plan.informative))
    assert after[-1] > 0


def test_expected_evidence_after_random_pruning_is_what_a_test_finds():
    masks = masks_of(SHAPES["residual"], 0.2)
    layers, plan = planned(masks)
    rng = np.random.default_rng(1)
    n = matches = 0
    for name, layer in layers.items():
        for leaf in range(4):
            stream = Stream("edge/" + name, bytes(32), leaf, hashlib.sha256(bytes([leaf])).digest())
            carriers = edge.draw(layer, plan.pairs[name], leaf=leaf, groups=5, stream=stream)
            moved = edge.embed({name: masks[name]}, {name: [edge.moves(carriers, masks[name])]})[name]
            pruned = (moved & (rng.random(moved.shape) >= 0.5)).ravel().astype(float)
            found = read(carriers, pruned[carriers.first], pruned[carriers.second]).support()
            n, matches = n + found[0], matches + found[1]
    bits = -log2_binomial_tail(matches, n)
    assert bits == pytest.approx(plan.bits_after[0.5], rel=0.15)


def test_too_small_a_ticket_is_refused_with_its_numbers():
    masks = masks_of({"a": (4, 4, 3, 3)}, 0.3)
    with pytest.raises(CapacityError, match=re.escape("too small to sign")) as caught:
        planned(masks)
    assert "126" in str(caught.value)


def test_one_leaf_is_what_has_to_suffice():
    masks = masks_of({"a": (32, 32, 3, 3)}, 0.3)
    _, plan = planned(masks, leaves=3)
    assert plan.leaf_bits_after[0.0] == pytest.approx(plan.informative / 3, abs=1)
    assert plan.leaf_bits_after[0.5] < plan.bits_after[0.5] / 2
    with pytest.raises(CapacityError, match=r"in each of 16 leaves.*sign with \d+ leaves, spend more"):
        planned(masks, leaves=16)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_empty_and_full_masks_carry_nothing(density):
    with pytest.raises(CapacityError, match="too small"):
        planned(masks_of({"a": (16, 16, 3, 3)}, density))


@pytest.mark.parametrize("spend", [0.0, -1.0, 0.51, float("nan"), float("inf")])
def test_impossible_shares_are_refused(spend):
    with pytest.raises(UsageError, match="share of edges"):
        planned(masks_of(SHAPES["residual"], 0.2), spend=spend)


@pytest.mark.parametrize("leaves", [0, 65])
def test_impossible_numbers_of_leaves_are_refused(leaves):
    with pytest.raises(UsageError, match="1 to 64 leaves"):
        planned(masks_of(SHAPES["residual"], 0.2), leaves=leaves)


def test_draws_are_bounded_however_large_the_ticket():
    layers = {"a": layer_of("a", (4096, 1024, 3, 3))}
    counts = {"a": np.full((4096, 1024), 2)}
    plan = capacity.plan(counts, layers, leaves=4)
    assert 4 * sum(plan.pairs.values()) <= capacity.DRAWS_IN_ALL
    assert plan.informative > 10_000


def test_cells_that_are_full_of_draws_get_no_more():
    _, plan = planned(masks_of({"a": (16, 16, 3, 3)}, 0.05), spend=0.5, needed_bits=1)
    assert plan.pairs["a"] <= capacity.DRAWS_PER_CELL * edge.group_cells(layer_of("a", (16, 16, 3, 3)), 0, 5)
