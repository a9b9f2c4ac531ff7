"""Soft-label extraction: a network copied through its answers alone, by somebody who never held its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ticketguard.attacks.base import Victim
from ticketguard.attacks.distill import Distill
from ticketguard.masks import Mask


@dataclass(frozen=True, kw_only=True, repr=False)
class ExtractSoft(Distill):
    """Soft-label extraction: only the victim's probabilities are known, on images mixed from the attacker's own; the student is
    a fresh dense network of the same architecture. Labels are not used.

    Source: model extraction as a removal attack (Lukas et al. 2022, "retraining"). Costs a query per image and epoch, a full
    training and the ticket's sparsity. Removes every mark in the weights by nature; what triggers still show is measured.
    """

    name: ClassVar[str] = "extract-soft"
    strengths: ClassVar[tuple[float, ...]] = (1.0,)

    def mask(self, victim: Victim) -> Mask | None:  # noqa: ARG002
        """Dense."""
        return None

    def queries(self, images: Tensor) -> Tensor:
        """Half of each batch is blended with its mirror in the batch, so that the victim is asked off the data as well."""
        half = len(images) // 2
        blended = 0.5 * images[:half] + 0.5 * images.flip(0)[:half]
        return torch.cat([blended, images[half:]])
