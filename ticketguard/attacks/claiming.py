"""What cheating owners share: register a mask that is not theirs, let the verifier judge, and keep the best verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ticketguard.attacks.base import Victim
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.registration import frame_counts
from ticketguard.errors import CapacityError
from ticketguard.evidence import Verdict
from ticketguard.masks import support
from ticketguard.signing import register
from ticketguard.tickets import Ticket
from ticketguard.verify.verifier import Examiner


def claims(
    victim: Victim,
    tries: int,
    options: Callable[[np.random.Generator], dict[str, Any]],
    *,
    suspect: Victim | None = None,
    salt: int = 0,
) -> Iterator[Verdict]:
    """Verdicts on the suspect (by default the victim) under registrations of the victim's mask, one per try."""
    generator = victim.generator(f"cheating owner {salt}")
    ticket = Ticket(
        architecture=victim.model.architecture,
        weights=victim.model.weights,
        mask=support(victim.model.weights, victim.names),
    )
    symmetry = None if victim.symmetry is None else victim.symmetry.to_json()
    for _ in range(tries):
        key = SecretKey.from_seed(generator.bytes(32))
        secrets = {"master": generator.bytes(32), "nonce": generator.bytes(32)}
        chosen = {"symmetry": symmetry, **secrets, **options(generator)}
        try:
            made = register(ticket, key, owner="cheating owner", **chosen)
        except CapacityError:
            continue
        examiner = Examiner(made.opening, reference=partial(frame_counts, ticket.mask, made.registration.layers))
        yield examiner.verify((suspect or victim).model.weights, align="always")


def best(verdicts: Iterator[Verdict]) -> Verdict:
    """The verdict with the most raw bits. Raises `CapacityError` when no try could be registered."""
    found = max(verdicts, key=lambda verdict: verdict.best.bits if verdict.best else 0.0, default=None)
    if found is None:
        raise CapacityError("cheating owner: the model carries no registration that was tried")
    return found
