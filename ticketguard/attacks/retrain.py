"""Retraining with strong regularization: large weight decay, or smoothed labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.tuning import TrainingAttack, tune


@dataclass(frozen=True, kw_only=True, repr=False)
class RetrainL2(TrainingAttack):
    """Train on under the released mask with the stated weight decay.

    Source: Lukas et al. 2022 ("regularization"). Costs epochs and some accuracy. Overfitted answers, such as triggers, go
    first; the mask stays.
    """

    name: ClassVar[str] = "retrain-l2"
    strengths: ClassVar[tuple[float, ...]] = (0.001, 0.01)
    unit: ClassVar[str] = "weight decay"

    lr: float = 0.05

    def run(self, victim: Victim) -> Attacked:
        """Tune with that weight decay."""
        return tune(self, victim, victim.weights(), victim.model.mask, weight_decay=self.strength)


@dataclass(frozen=True, kw_only=True, repr=False)
class RetrainSmoothing(TrainingAttack):
    """Train on under the released mask with labels smoothed by the stated share.

    Source: Lukas et al. 2022. Costs epochs. Aims at triggers; the mask stays.
    """

    name: ClassVar[str] = "retrain-smoothing"
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.3)
    unit: ClassVar[str] = "label smoothing"
    bounds: ClassVar[tuple[float, float]] = (0.0, 0.99)

    lr: float = 0.05

    def run(self, victim: Victim) -> Attacked:
        """Tune with smoothed labels."""
        return tune(self, victim, victim.weights(), victim.model.mask, label_smoothing=self.strength)
