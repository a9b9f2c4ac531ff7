"""An owner who signs anything: registration, claim and reveal agree, and some field is not what it should be."""

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest

from ticketguard.claims import canonical, registration
from ticketguard.graph.groups import Group, Segment, Symmetry, fixed_axis
from ticketguard.storage.tensors import in_memory
from ticketguard.verify.audit import audit
from ticketguard.verify.dispute import settle
from ticketguard.verify.judge import judge

OUTCOMES = {"MATCH", "NO MATCH", "INCONCLUSIVE", "VOID", True, False, "A PRIOR", "B PRIOR", "UNDECIDED"}


@pytest.fixture(scope="module")
def case(world):
    """A case whose suspect has to be aligned, so that every part of the registration is used."""
    symmetry = Symmetry(
        groups=(Group(size=40), Group(size=48)),
        axes={
            "a.weight": ((Segment(group=0, count=40),), fixed_axis(24)),
            "b.weight": ((Segment(group=1, count=48),), (Segment(group=0, count=40),)),
            "c.weight": (fixed_axis(10), (Segment(group=1, count=48),)),
        },
    )
    party, _ = world.make_party(90, world.random_model(90), symmetry=symmetry.to_json())
    generator, w = np.random.default_rng(0), party.model.weights
    middle, last = generator.permutation(40), generator.permutation(48)
    moved = {
        "a.weight": w["a.weight"][middle],
        "b.weight": w["b.weight"][last][:, middle],
        "c.weight": w["c.weight"][:, last],
    }
    found = party.case(in_memory(moved))
    assert judge(found, nonce=world.NONCE, now=world.NOW).outcome == "MATCH"
    return found


def signed_anew(case, payload):
    """The case with another registration, and a claim and a reveal that belong to it."""
    registered, digest = registration.parse(payload), hashlib.sha256(payload).hexdigest()
    named = {"registration": digest, "public_key": registered.public_key}
    claim, shown = replace(case.claim, owner=registered.owner, **named), replace(case.reveal, **named)
    return replace(
        case,
        registration=registered,
        registration_payload=payload,
        claim=claim,
        claim_payload=claim.payload(),
        reveal=shown,
        reveal_payload=shown.payload(),
    )


@pytest.mark.parametrize("part", ["anything", "symmetry"])
@pytest.mark.parametrize("count", [12, pytest.param(400, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_whatever_an_owner_registers_gives_an_outcome_or_one_line(world, case, part, count):
    original = canonical.parse(case.registration_payload)
    generator = random.Random(part)
    judged = 0
    for _ in range(count):
        if part == "symmetry":
            changed = world.mutate(original["predicate"]["symmetry"], generator)
            changed = {**original, "predicate": {**original["predicate"], "symmetry": changed}}
        else:
            changed = world.mutate(original, generator)
        payload = canonical.encode(changed)
        if world.refusal(lambda payload=payload: registration.parse(payload)) is not None:
            continue
        forged = signed_anew(case, payload)
        judged += 1
        for look in (
            lambda forged=forged: judge(forged, nonce=world.NONCE, now=world.NOW).outcome,
            lambda forged=forged: audit(forged).sound,
            lambda forged=forged: settle(forged, case, nonce=world.NONCE, now=world.NOW).outcome,
        ):
            message = world.refusal(lambda look=look: look() in OUTCOMES or pytest.fail("no outcome"))
            assert message is None or "\n" not in message
    assert judged > 0
