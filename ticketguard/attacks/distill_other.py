"""Distillation into another architecture: the student is no network that the victim's owner ever registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ticketguard.attacks.base import Victim
from ticketguard.attacks.distill import Distill
from ticketguard.masks import Mask
from ticketguard.models import fitted
from ticketguard.tickets import Architecture


@dataclass(frozen=True, kw_only=True, repr=False)
class DistillOther(Distill):
    """Distillation into another, dense architecture: nothing of the topology can even be compared.

    Source: cross-architecture retraining (Lukas et al. 2022). Costs a full training, the worth of the ticket and its
    sparsity. Removes every mark in the weights by nature; what triggers still show is measured.
    """

    name: ClassVar[str] = "distill-other"

    def student(self, victim: Victim) -> Architecture:
        """The small convolutional network, or a perceptron when the victim is one itself."""
        data = victim.needs_data(self)
        name = "mlp" if victim.model.architecture.name == "convnet" else "convnet"
        return fitted(name, shape=data.shape, classes=len(data.classes))

    def mask(self, victim: Victim) -> Mask | None:  # noqa: ARG002
        """Dense."""
        return None
