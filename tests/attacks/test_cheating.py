"""Cheating owners end under 20 raw bits, whatever they choose after seeing the victim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ticketguard.api import examiner_of
from ticketguard.attacks import cheating
from ticketguard.claims.registration import frame_counts
from ticketguard.errors import AuthenticityError, CapacityError
from ticketguard.masks import Mask
from ticketguard.verify.verifier import Examiner

TRIES = 24


@pytest.mark.parametrize(
    "cheat",
    [
        cheating.frame_chosen_late,
        lambda victim: cheating.keys_searched(victim, TRIES),
        lambda victim: cheating.table_chosen_late(victim, TRIES),
        lambda victim: cheating.alignment_supplied(victim, TRIES // 2),
    ],
    ids=["frame", "keys", "table", "alignment"],
)
def test_cheating_owners_get_nothing(cheat, victim) -> None:
    verdict = cheat(victim)
    assert verdict.decision != "MATCH"
    # Raw evidence, before anything is charged for tests or for searching: what chance gives to that many tries.
    assert max(item.bits for item in verdict.evidence) < 20
    assert max(item.n for item in verdict.evidence) > 100


def test_a_permuted_frame_makes_the_verifier_align(victim) -> None:
    assert any(item.view == "aligned" and item.n > 100 for item in cheating.alignment_supplied(victim, 1).evidence)


def test_the_honest_owner_is_far_above(tiny_signed) -> None:
    verdict = examiner_of(tiny_signed.signed).verify(tiny_signed.model.weights)
    assert verdict.against_search_bits > 1000


def test_a_reference_chosen_after_the_bits_is_refused(tiny_signed, victim) -> None:
    from ticketguard.attacks.registry import make
    from ticketguard.masks import support

    opening = tiny_signed.signed.opening
    pruned = make("prune-random", 0.3).run(victim).weights
    other = frame_counts(support(pruned, victim.names), opening.registration.layers)
    with pytest.raises(AuthenticityError, match="frame"):
        Examiner(opening, reference=lambda: other).verify(pruned, align="always")


def test_a_model_that_carries_no_registration_is_said_to_be_too_small(victim) -> None:
    weights = {**victim.model.weights, **{name: np.zeros_like(victim.model.weights[name]) for name in victim.names}}
    mask = Mask({name: np.zeros(weights[name].shape, dtype=bool) for name in victim.names})
    empty = replace(victim, model=replace(victim.model, weights=weights, mask=mask), symmetry=None)
    for cheat in (cheating.frame_chosen_late, lambda victim: cheating.keys_searched(victim, 2)):
        with pytest.raises(CapacityError, match="no registration"):
            cheat(empty)
