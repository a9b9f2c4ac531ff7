"""Adaptive removal: leaves of the secret have leaked, and the attacker randomizes exactly the pairs they locate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.tuning import Arrays, TrainingAttack, tune
from ticketguard.errors import UsageError
from ticketguard.masks import support
from ticketguard.signatures.edge import Carriers


@dataclass(frozen=True, kw_only=True, repr=False)
class LeakedOne(TrainingAttack):
    """Swap the two weights of every pair of one leaked leaf with probability one half, for the stated share of its pairs; tune.

    An insider: a judge's reveal of one leaf became public. Costs epochs. The leaked leaf is burned; the others own
    other cells, so nothing about them is known.
    """

    name: ClassVar[str] = "leaked-one"
    strengths: ClassVar[tuple[float, ...]] = (1.0,)
    unit: ClassVar[str] = "share of leaked pairs randomized"
    all_leaves: ClassVar[bool] = False

    def run(self, victim: Victim) -> Attacked:
        """Randomize the leaked pairs, then tune under the resulting mask."""
        if not victim.leaked:
            raise UsageError(f"attack {self!r} needs leaked leaves: the suite takes them from the owner's secret")
        weights = victim.weights()
        leaves = sorted(victim.leaked) if self.all_leaves else sorted(victim.leaked)[:1]
        for leaf in leaves:
            self.randomize(weights, victim.leaked[leaf], victim.generator(f"{self.name} {leaf}"))
        return tune(self, victim, weights, support(weights, victim.names))

    def randomize(self, weights: Arrays, carriers: Mapping[str, Carriers], generator: np.random.Generator) -> None:
        """Swap the values of half of the chosen pairs, in place: whatever they showed, they show a coin's toss now."""
        for name, drawn in carriers.items():
            if name not in weights or weights[name].shape != drawn.layer.shape:
                continue
            chosen = (generator.random(len(drawn.first)) < self.strength) & (generator.random(len(drawn.first)) < 0.5)
            first, second = drawn.first[chosen], drawn.second[chosen]
            flat = weights[name].ravel()
            flat[first], flat[second] = flat[second], flat[first].copy()
            weights[name] = flat.reshape(drawn.layer.shape)


@dataclass(frozen=True, kw_only=True, repr=False)
class LeakedAll(LeakedOne):
    """The same with every leaf leaked: the whole secret is out, and the edge code goes, for the price of the moved edges."""

    name: ClassVar[str] = "leaked-all"
    all_leaves: ClassVar[bool] = True
