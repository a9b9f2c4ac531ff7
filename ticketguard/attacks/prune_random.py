"""One-shot random pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.masks import keep_largest, support, zeroed


@dataclass(frozen=True, kw_only=True, repr=False)
class PruneRandom(Attack):
    """Set the given share of the remaining weights, drawn at random over all masked layers, to zero.

    Source: Chen et al. 2021. Costs far more accuracy than magnitude pruning; takes the same share of the carriers.
    """

    name: ClassVar[str] = "prune-random"
    strengths: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.3, 0.5)
    unit: ClassVar[str] = "share of remaining weights pruned"

    def run(self, victim: Victim) -> Attacked:
        """Keep exactly as many random edges as the strength leaves."""
        weights, generator = victim.weights(), victim.generator(self.name)
        present = support(weights, victim.names)
        scores = {name: generator.random(bits.shape) for name, bits in present.items()}
        kept = round(present.kept * (1 - self.strength))
        mask = keep_largest(scores, kept, within=present)
        return unchanged_cost(victim, zeroed(weights, mask))
