"""Flip the signs of rows before a batch norm, which takes them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.attacks.scaling import scale_rows


@dataclass(frozen=True, kw_only=True, repr=False)
class SignFlip(Attack):
    """Negate a `strength` share of the rows of every layer that a batch norm follows, with the norm's mean and scale.

    Costs nothing. Breaks marks in the signs of weights; the edge code reads support and magnitudes only.
    """

    name: ClassVar[str] = "sign-flip"
    strengths: ClassVar[tuple[float, ...]] = (0.5,)
    unit: ClassVar[str] = "share of the rows negated"
    lossless: ClassVar[bool] = True

    def run(self, victim: Victim) -> Attacked:
        """The same function from weights of other signs."""
        symmetry, weights, rng = victim.needs_symmetry(self), victim.weights(), victim.generator(self.name)
        for layer, norm in symmetry.norms.items():
            if norm.scale is not None:
                flipped = rng.random(len(weights[layer])) < self.strength
                scale_rows(weights, layer, norm, np.where(flipped, -1.0, 1.0))
        return unchanged_cost(victim, weights)
