"""Densify: release the mask, fill the holes with noise, train all weights; optionally prune again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.tuning import TrainingAttack, tune
from ticketguard.masks import keep_largest, spread, support, zeroed


@dataclass(frozen=True, kw_only=True, repr=False)
class Densify(TrainingAttack):
    """Give pruned positions normal noise of the stated share of the layer's spread and fine-tune without a mask.

    Not studied in the paper. Costs epochs, and the ticket's sparsity. Nothing is zero afterwards, so the support test is blind;
    the magnitude test is not, because the old edges stay the larger ones.
    """

    name: ClassVar[str] = "densify"
    strengths: ClassVar[tuple[float, ...]] = (0.01, 0.1, 0.3)
    unit: ClassVar[str] = "fill spread over weight spread"
    bounds: ClassVar[tuple[float, float]] = (0.0, 10.0)

    lr: float = 0.05

    def run(self, victim: Victim) -> Attacked:
        """Fill, then tune everything."""
        weights, generator = victim.weights(), victim.generator(self.name)
        for name in victim.names:
            array, kept = weights[name], weights[name] != 0
            noise = generator.normal(0.0, self.strength * spread(array, kept), array.shape).astype(array.dtype)
            weights[name] = np.where(kept, array, noise)
        return self.finish(victim, tune(self, victim, weights, None))

    def finish(self, victim: Victim, attacked: Attacked) -> Attacked:  # noqa: ARG002
        """What follows the dense training: nothing here."""
        return attacked


@dataclass(frozen=True, kw_only=True, repr=False)
class DensifyPrune(Densify):
    """Densify, then prune by global magnitude to the old density: a new mask out of the old model."""

    name: ClassVar[str] = "densify-prune"

    def finish(self, victim: Victim, attacked: Attacked) -> Attacked:
        """Prune, and tune once more under the new mask."""
        weights = {name: np.array(array) for name, array in attacked.weights.items()}
        scores = {name: np.abs(weights[name].astype(np.float64)) for name in victim.names}
        mask = keep_largest(scores, support(victim.model.weights, victim.names).kept)
        tuned = tune(self, victim, zeroed(weights, mask), mask, lr=self.lr / 5)
        return Attacked(
            weights=tuned.weights,
            architecture=tuned.architecture,
            epochs=attacked.epochs + tuned.epochs,
            images=tuned.images,
        )
