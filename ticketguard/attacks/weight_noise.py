"""Gaussian noise on the kept weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.masks import spread


@dataclass(frozen=True, kw_only=True, repr=False)
class WeightNoise(Attack):
    """Add normal noise to every kept weight, its spread the stated multiple of the layer's own.

    Source: a standard removal attempt (Lukas et al. 2022). Costs accuracy only. It leaves zeros alone, so the support shows
    every bit; triggers fade with the accuracy.
    """

    name: ClassVar[str] = "weight-noise"
    strengths: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.5)
    unit: ClassVar[str] = "noise spread over weight spread"
    bounds: ClassVar[tuple[float, float]] = (0.0, 10.0)

    def run(self, victim: Victim) -> Attacked:
        """Perturb the support of each masked layer."""
        weights, generator = victim.weights(), victim.generator(self.name)
        for name in victim.names:
            array, kept = weights[name], weights[name] != 0
            noise = generator.normal(0.0, self.strength * spread(array, kept), array.shape).astype(array.dtype)
            weights[name] = np.where(kept, array + noise, np.zeros((), array.dtype))
        return unchanged_cost(victim, weights)
