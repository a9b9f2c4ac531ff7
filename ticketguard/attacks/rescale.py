"""Rescale channels: multiply where a channel is made, divide where it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.attacks.scaling import Arrays, Factors, scale_group, scale_rows
from ticketguard.graph.groups import Symmetry


@dataclass(frozen=True, kw_only=True, repr=False)
class Rescale(Attack):
    """Random positive factors between 2^-strength and 2^strength on every channel, between layers and before every norm.

    Costs nothing but rounding (ReLU networks: Neyshabur et al. 2015; batch norm: any positive row scale). Breaks marks that
    compare magnitudes across channels and global magnitude thresholds; the support is not touched and the magnitude test
    equilibrates rows and inputs first.
    """

    name: ClassVar[str] = "rescale"
    strengths: ClassVar[tuple[float, ...]] = (1.0, 4.0)
    unit: ClassVar[str] = "largest factor, as a power of two"
    lossless: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 12.0)

    def run(self, victim: Victim) -> Attacked:
        """The same function from rescaled weights."""
        symmetry, weights = victim.needs_symmetry(self), victim.weights()
        rescale_everywhere(weights, symmetry, self.strength, victim.generator(self.name))
        return unchanged_cost(victim, weights)


def rescale_everywhere(weights: Arrays, symmetry: Symmetry, power: float, rng: np.random.Generator) -> None:
    """Random factors from 2^-power to 2^power on every scalable group and on the rows before every norm, in place."""
    for number, group in enumerate(symmetry.groups):
        scale_group(weights, symmetry, number, _factors(group.size, power, rng))
    for layer, norm in symmetry.norms.items():
        scale_rows(weights, layer, norm, _factors(len(weights[layer]), power, rng))


def _factors(count: int, power: float, rng: np.random.Generator) -> Factors:
    return np.exp2(rng.uniform(-power, power, count))
