"""Cheating owners: claimants who have seen somebody else's model and want it to match a registration of their own.

Each function does what the rules allow such a claimant and returns the best verdict he gets. By DESIGN 3 the stream of target
bits hangs on every registered parameter, so all he can do is search, which buys log2(tries) bits and is paid for by g.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ticketguard.attacks.base import Victim
from ticketguard.attacks.permute import Permute
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.registration import frame_counts
from ticketguard.errors import CapacityError
from ticketguard.evidence import Verdict
from ticketguard.masks import support
from ticketguard.signing import opening_of, register
from ticketguard.tickets import Model, Ticket, Weights
from ticketguard.verify.verifier import Examiner


def frame_chosen_late(victim: Victim) -> Verdict:
    """Register the victim's own frame, which nothing forbids a thief to do, with one secret, and embed nothing."""
    return next(_claims(victim, 1, lambda _: {}))


def keys_searched(victim: Victim, tries: int) -> Verdict:
    """The same with `tries` keys, nonces and master secrets; the best verdict."""
    return _best(_claims(victim, tries, lambda _: {}))


def table_chosen_late(victim: Victim, tries: int) -> Verdict:
    """The same with `tries` layer tables: layers left out, shares spent, numbers of leaves, block sizes; the best verdict."""
    names = victim.names

    def options(generator: np.random.Generator) -> dict[str, Any]:
        dropped = [name for name in names if len(names) > 1 and generator.random() < 0.5]
        return {
            "leave_out": dropped[: len(names) - 1],
            "spend": float(generator.choice([0.05, 0.15, 0.3, 0.5])),
            "leaves": int(generator.integers(1, 9)),
            "block": int(generator.choice([4, 8, 16])),
        }

    return _best(_claims(victim, tries, options))


def alignment_supplied(victim: Victim, tries: int) -> Verdict:
    """Register a permuted frame of the victim, another for every try, so that aligning to it moves the victim's channels where
    the claimant wants them; the best verdict. The verifier's own alignment is the only one there is.
    """
    permuted = (
        replace(victim, model=_as_model(victim, Permute().run(replace(victim, seed=victim.seed + number)).weights))
        for number in range(tries)
    )
    return _best(
        verdict
        for number, other in enumerate(permuted)
        for verdict in _claims(other, 1, lambda _: {}, suspect=victim, salt=number)
    )


def net_bits(verdict: Verdict) -> float:
    """What is left of the best test after paying for the test plan and the search; negative when the payment is larger."""
    rule = verdict.rule
    best = max((item.bits for item in verdict.evidence), default=0.0)
    return best - rule.multiplicity_bits - rule.grinding_bits


def _claims(
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
        counts = frame_counts(ticket.mask, made.registration.layers)
        examiner = Examiner(opening_of(made.registration, made.payload, made.secret), reference=lambda: counts)  # noqa: B023
        yield examiner.verify((suspect or victim).model.weights, align="always")


def _best(verdicts: Iterator[Verdict]) -> Verdict:
    return max(verdicts, key=lambda verdict: verdict.best.bits if verdict.best else 0.0)


def _as_model(victim: Victim, weights: Weights) -> Model:
    return replace(victim.model, weights=weights, mask=support(weights, victim.names))
