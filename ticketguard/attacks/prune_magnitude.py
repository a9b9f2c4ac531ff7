"""One-shot magnitude pruning: the attack that compression itself amounts to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.masks import keep_largest, support, zeroed


@dataclass(frozen=True, kw_only=True, repr=False)
class PruneMagnitude(Attack):
    """Set the given share of the remaining weights, the smallest over all masked layers, to zero.

    Source: Chen et al. 2021 (5 to 50 %). Costs accuracy only. Breaks the paper's QR code at 20 %; of an edge code it
    takes the pairs whose edge was small.
    """

    name: ClassVar[str] = "prune-magnitude"
    strengths: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
    unit: ClassVar[str] = "share of remaining weights pruned"

    def run(self, victim: Victim) -> Attacked:
        """Keep the largest weights over all masked layers together."""
        weights = victim.weights()
        present = support(weights, victim.names)
        kept = round(present.kept * (1 - self.strength))
        scores = {name: np.abs(weights[name].astype(np.float64)) for name in victim.names}
        return unchanged_cost(victim, zeroed(weights, keep_largest(scores, kept, within=present)))
