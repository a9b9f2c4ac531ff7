"""Cheating owners: claimants who have seen somebody else's model and want it to match a registration of their own.

Each function does what the rules allow such a claimant and returns the best verdict he gets. Target bits hang on every
registered parameter (docs/protocol.md, Streams), so he can only search: that buys log2(tries) bits and is paid for by g.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ticketguard.attacks.base import Victim
from ticketguard.attacks.claiming import best, claims
from ticketguard.attacks.permute import Permute
from ticketguard.evidence import Verdict
from ticketguard.masks import support
from ticketguard.tickets import Model, Weights


def frame_chosen_late(victim: Victim) -> Verdict:
    """Register the victim's own frame, which nothing forbids a thief to do, with one secret, and embed nothing."""
    return best(claims(victim, 1, lambda _: {}))


def keys_searched(victim: Victim, tries: int) -> Verdict:
    """The same with `tries` keys, nonces and master secrets; the best verdict."""
    return best(claims(victim, tries, lambda _: {}))


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

    return best(claims(victim, tries, options))


def alignment_supplied(victim: Victim, tries: int) -> Verdict:
    """Register a permuted frame of the victim, another for every try, so that aligning to it moves the victim's channels where
    the claimant wants them; the best verdict. The verifier's own alignment is the only one there is.
    """
    permuted = (
        replace(victim, model=_as_model(victim, Permute().run(replace(victim, seed=victim.seed + number)).weights))
        for number in range(tries)
    )
    return best(
        verdict
        for number, other in enumerate(permuted)
        for verdict in claims(other, 1, lambda _: {}, suspect=victim, salt=number)
    )


def _as_model(victim: Victim, weights: Weights) -> Model:
    return replace(victim.model, weights=weights, mask=support(weights, victim.names))
