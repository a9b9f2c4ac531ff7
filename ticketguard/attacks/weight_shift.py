"""Weight shifting: push every filter a little, then fine-tune the damage away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.tuning import TrainingAttack, tune
from ticketguard.masks import spread


@dataclass(frozen=True, kw_only=True, repr=False)
class WeightShift(TrainingAttack):
    """Shift all kept weights of a filter together by the stated multiple of the layer's spread, up or down at random.

    Source: Lukas et al. 2022, for white-box marks in weight statistics; fine-tuning follows. Costs epochs. Breaks marks in
    means and signs, not marks in the topology.
    """

    name: ClassVar[str] = "weight-shift"
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.5, 1.0)
    unit: ClassVar[str] = "shift over weight spread"
    bounds: ClassVar[tuple[float, float]] = (0.0, 10.0)

    def run(self, victim: Victim) -> Attacked:
        """Shift, then tune under the released mask."""
        weights, generator = victim.weights(), victim.generator(self.name)
        for name in victim.names:
            array, kept = weights[name], weights[name] != 0
            sign = generator.choice([-1.0, 1.0], size=(len(array), *[1] * (array.ndim - 1)))
            shift = self.strength * spread(array, kept) * sign
            weights[name] = np.where(kept, array + shift, 0.0).astype(array.dtype)
        return tune(self, victim, weights, victim.model.mask)
