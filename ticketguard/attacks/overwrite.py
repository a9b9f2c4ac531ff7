"""Overwriting: the attacker signs the stolen model with a key of his own, with this very tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.tuning import TrainingAttack, tune
from ticketguard.claims.keys import SecretKey
from ticketguard.signing import sign
from ticketguard.tickets import Model


@dataclass(frozen=True, kw_only=True, repr=False)
class Overwrite(TrainingAttack):
    """Register the model under another key and embed that key's edge code, moving values along; then fine-tune.

    Source: Chen et al. 2021 (fake3), here with the real code base. The strength is the share of edges spent. Costs epochs.
    Both marks stand afterwards: the attacker's pairs hit the owner's edges only by chance. Who was first is for the
    dispute rules to say.
    """

    name: ClassVar[str] = "overwrite"
    strengths: ClassVar[tuple[float, ...]] = (0.15, 0.3)
    unit: ClassVar[str] = "share of edges the attacker spends"
    bounds: ClassVar[tuple[float, float]] = (0.001, 0.5)

    def run(self, victim: Victim) -> Attacked:
        """Sign with a key from the attack's seed, then tune under the new mask."""
        generator = victim.generator(self.name)
        # The attacker's own secret: nobody relies on it, so a seeded generator keeps the attack reproducible.
        model = Model(architecture=victim.model.architecture, weights=victim.model.weights, mask=victim.model.mask)
        _, embedded = sign(
            model,
            SecretKey.from_seed(generator.bytes(32)),
            owner="attacker",
            spend=self.strength,
            master=generator.bytes(32),
            nonce=generator.bytes(32),
        )
        return tune(self, victim, dict(embedded.ticket.weights), embedded.ticket.mask)
