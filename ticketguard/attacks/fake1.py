"""fake1: somebody with a locked ticket forges a key mask and trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.tuning import TrainingAttack, tune
from ticketguard.signatures.keymask import forge, lock, merge


@dataclass(frozen=True, kw_only=True, repr=False)
class Fake1(TrainingAttack):
    """Lock the model by magnitude, then put as many random pruned positions in the key's place and train on.

    Source: Chen et al. 2021 (V1). The strength is the key's share of the edges. Costs epochs, and whatever the key was worth:
    the rest of the topology stays, so the edge code loses only the key's edges.
    """

    name: ClassVar[str] = "fake1"
    strengths: ClassVar[tuple[float, ...]] = (0.01, 0.05, 0.1, 0.2)
    unit: ClassVar[str] = "share of edges in the key mask"
    bounds: ClassVar[tuple[float, float]] = (1e-4, 0.9)

    def run(self, victim: Victim) -> Attacked:
        """Forge from the attack's seed, then train under the forged mask."""
        scores = {name: np.abs(np.asarray(victim.model.weights[name], dtype=np.float64)) for name in victim.names}
        key, locked = lock(victim.model, scores, self.strength, score="omp")
        forged = merge(forge(locked, key.edges, victim.generator(self.name)), locked)
        return tune(self, victim, {name: np.array(array) for name, array in forged.weights.items()}, forged.mask)
