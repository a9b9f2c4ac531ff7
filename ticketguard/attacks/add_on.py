"""Add-on: bring pruned weights back with random values; fake2 in the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.masks import spread


@dataclass(frozen=True, kw_only=True, repr=False)
class AddOn(Attack):
    """Give the stated share of the pruned weights of every layer normal values with the spread of that layer's kept weights.

    Source: Chen et al. 2021 (0.5 to 10 %). Costs accuracy only: 10 % of the pruned weights is close to half a ticket again.
    Pairs with an added edge on their empty side stop being informative; others become informative by accident.
    """

    name: ClassVar[str] = "add-on"
    strengths: ClassVar[tuple[float, ...]] = (0.005, 0.01, 0.02, 0.05, 0.1)
    unit: ClassVar[str] = "share of pruned weights recovered"

    def run(self, victim: Victim) -> Attacked:
        """Fill random pruned positions, layer by layer."""
        weights, generator = victim.weights(), victim.generator(self.name)
        for name in victim.names:
            flat = weights[name].ravel()
            empty = np.flatnonzero(flat == 0)
            scale = spread(flat, flat != 0)
            chosen = generator.choice(empty, size=round(self.strength * empty.size), replace=False)
            flat[chosen] = generator.normal(0.0, scale, chosen.size).astype(flat.dtype)
            weights[name] = flat.reshape(weights[name].shape)
        return unchanged_cost(victim, weights)


@dataclass(frozen=True, kw_only=True, repr=False)
class Fake2(AddOn):
    """The paper's name for add-on with weights of the model's own scale, at its strengths (Chen et al. 2021, V2), done by
    somebody who does not know where or how a code is embedded.
    """

    name: ClassVar[str] = "fake2"
