"""Fill pruned positions with invisible noise and rescale, so that neither zeros nor sizes show the mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.attacks.rescale import rescale_everywhere


@dataclass(frozen=True, kw_only=True, repr=False)
class Fill(Attack):
    """Noise of 1e-9 times a layer's root mean square on every pruned position, then `Rescale` with factors to 2^strength.

    Costs nothing measurable. Breaks readers of exact zeros: the support test finds no informative pair as stored; the
    magnitude test does not need zeros.
    """

    name: ClassVar[str] = "fill"
    strengths: ClassVar[tuple[float, ...]] = (0.0, 4.0)
    unit: ClassVar[str] = "largest rescaling factor, as a power of two"
    lossless: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 12.0)

    level: float = 1e-9

    def run(self, victim: Victim) -> Attacked:
        """The same function, to about nine digits, from weights without zeros."""
        symmetry, weights, rng = victim.needs_symmetry(self), victim.weights(), victim.generator(self.name)
        for name, bits in victim.model.mask.items():
            array = weights[name].astype(np.float64)
            noise = rng.standard_normal(array.shape) * self.level * np.sqrt(np.mean(array**2))
            weights[name] = np.where(bits, array, noise).astype(weights[name].dtype)
        if self.strength > 0:
            rescale_everywhere(weights, symmetry, self.strength, rng)
        return unchanged_cost(victim, weights)
