"""The victim that attacks meet in tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ticketguard.attacks.base import Victim
from ticketguard.graph.groups import Symmetry
from ticketguard.signatures.carriers import all_carriers
from ticketguard.training import RECIPES


@pytest.fixture(scope="session")
def victim(tiny_signed) -> Victim:
    """Everything an attacker could have of the tiny signed model, for one epoch."""
    opening = tiny_signed.signed.opening
    return Victim(
        model=tiny_signed.model,
        dataset=tiny_signed.data,
        symmetry=Symmetry.from_json(opening.registration.symmetry),
        recipe=replace(RECIPES["digits"], epochs=1, batch_size=32, rewind_epoch=0),
        rewind=tiny_signed.signed.ticket.weights,
        leaked=all_carriers(opening),
        unsigned=tiny_signed.ticket,
        device="cpu",
        threads=1,
    )
