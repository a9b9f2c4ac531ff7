"""The edge code's tests over leaves and layers."""

import numpy as np
import pytest

from ticketguard.claims.opening import Opening
from ticketguard.signatures.board import Board
from ticketguard.signatures.carriers import all_carriers
from ticketguard.verify.suspect import effective_weights
from ticketguard.verify.whitebox import edge_tests


def edge_evidence(opening, weights):
    effective = effective_weights(weights)
    readings = Board(all_carriers(opening)).read(effective)
    return {
        (item.test, item.scope): item
        for item in edge_tests(readings, leaves=4, view="stored", magnitude="squared-magnitude")
    }


def test_pooled_tests_join_all_leaves(signed):
    found = edge_evidence(signed.opening, signed.model)
    assert len(found) == 10
    for test in ("support", "squared-magnitude"):
        pooled, single = found[test, "pooled"], [found[test, f"leaf {leaf}"] for leaf in range(4)]
        assert pooled.n == sum(item.n for item in single)
        assert pooled.matches == sum(item.matches for item in single)
    assert found["support", "pooled"].bits == found["support", "pooled"].capacity_bits == signed.n


def test_one_revealed_leaf_gives_its_own_tests_and_no_pooled_one(signed):
    whole = signed.opening
    opening = Opening(
        registration=whole.registration, payload=whole.payload, beacon=whole.beacon, leaves={2: whole.leaves[2]}
    )
    found = edge_evidence(opening, signed.model)
    assert set(found) == {("support", "leaf 2"), ("squared-magnitude", "leaf 2")}
    assert found["support", "leaf 2"] == edge_evidence(whole, signed.model)["support", "leaf 2"]


def test_layers_that_are_missing_are_left_out(signed):
    found = edge_evidence(signed.opening, {"conv3.weight": signed.model["conv3.weight"]})
    assert 0 < found["support", "pooled"].n < signed.n
    assert found["support", "pooled"].matches == found["support", "pooled"].n


def test_nothing_to_read_is_no_evidence(signed):
    found = edge_evidence(signed.opening, {})
    assert all(item.n == 0 and item.log2_p == 0 and item.capacity_bits == 0 for item in found.values())


def test_dense_suspects_have_no_informative_pair_and_full_magnitude_capacity(signed):
    rng = np.random.default_rng(0)
    found = edge_evidence(signed.opening, {name: rng.normal(size=value.shape) for name, value in signed.model.items()})
    assert found["support", "pooled"].n == 0
    assert found["squared-magnitude", "pooled"].capacity_bits > 1000
    assert found["squared-magnitude", "pooled"].bits < 20


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_erasures_are_counted_and_cost_evidence_only(signed, poison):
    spoilt = {name: value.copy() for name, value in signed.model.items()}
    for name in signed.mask:
        spoilt[name].reshape(-1)[::5] = poison
    found = edge_evidence(signed.opening, spoilt)
    pooled = found["support", "pooled"]
    assert pooled.erasures > 100
    assert pooled.n == pooled.matches < signed.n
    assert pooled.erasures == sum(found["support", f"leaf {leaf}"].erasures for leaf in range(4))
