"""Permute channels: the free attack that every positional mark in a mask dies of, unless it is undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.graph.layout import rearranged


@dataclass(frozen=True, kw_only=True, repr=False)
class Permute(Attack):
    """Reorder a `strength` share of the channels of every symmetry group, on all axes that carry them.

    Costs nothing: the network computes the same function (Hecht-Nielsen 1990). Breaks every mark that is read by position;
    alignment undoes it.
    """

    name: ClassVar[str] = "permute"
    strengths: ClassVar[tuple[float, ...]] = (0.25, 1.0)
    unit: ClassVar[str] = "share of the channels reordered"
    lossless: ClassVar[bool] = True

    def run(self, victim: Victim) -> Attacked:
        """The same network with channels in another order."""
        symmetry = victim.needs_symmetry(self)
        rng = victim.generator(self.name)
        choice = {}
        for number, group in enumerate(symmetry.groups):
            order = np.arange(group.size, dtype=np.int64)
            moved = np.sort(rng.choice(group.size, round(self.strength * group.size), replace=False))
            order[moved] = rng.permutation(moved)
            choice[number] = order
        return unchanged_cost(victim, rearranged(victim.model.weights, symmetry, choice))
