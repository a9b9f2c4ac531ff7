"""Adversarial retraining: learn to resist small worst-case perturbations, which trigger images resemble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, train


@dataclass(frozen=True, kw_only=True, repr=False)
class AdversarialRetraining(TrainingAttack):
    """Train on clean images and on images moved one signed-gradient step of the stated size, with their true labels.

    Source: Goodfellow et al. 2015 as a removal attack (Lukas et al. 2022). Costs two passes a step and some accuracy. Aims at
    triggers; the mask stays.
    """

    name: ClassVar[str] = "adversarial"
    strengths: ClassVar[tuple[float, ...]] = (0.01, 0.03)
    unit: ClassVar[str] = "perturbation, pixels in [0, 1]"

    def run(self, victim: Victim) -> Attacked:
        """Train under the released mask."""
        data = victim.needs_data(self)
        module = network(victim.model.architecture, victim.weights())
        # Images are normalized before they come here: a step in pixels is this large in each channel.
        steps = torch.tensor([self.strength / spread for spread in data.std]).view(1, -1, 1, 1)

        def loss(network: Callable[..., Any], images: Tensor, labels: Tensor) -> Tensor:
            probe = images.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(F.cross_entropy(network(probe).float(), labels), probe)
            moved = images + steps.to(images.device) * gradient.sign()
            clean, hard = (F.cross_entropy(network(batch).float(), labels) for batch in (images, moved))
            return 0.5 * (clean + hard)

        recipe = self.recipe(victim)
        train(self, victim, module, recipe, victim.model.mask, loss=loss)
        return self.result(victim, module, recipe, epochs=2.0 * recipe.epochs)
