"""Trigger unlearning in the manner of Neural Cleanse: reverse-engineer a pattern per class, then train it away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, seed_of, train
from ticketguard.training.batches import Normalizer, pixels_on
from ticketguard.training.devices import resolve_device

SEARCH_RATE = 0.1
SPARSITY = 0.01


@dataclass(frozen=True, kw_only=True, repr=False)
class TriggerUnlearning(TrainingAttack):
    """For every class, find a small blended pattern that turns images into it; then train with patterned images and their true
    labels, as the stated share of each batch.

    Source: Wang et al. 2019. `steps` of search per class on `batch` images. Costs the search and epochs. Made for patched
    backdoors; trigger images with independent labels have no common pattern to find. The mask stays.
    """

    name: ClassVar[str] = "unlearn"
    strengths: ClassVar[tuple[float, ...]] = (0.2, 0.5)
    unit: ClassVar[str] = "share of patterned images"

    steps: int = 20
    batch: int = 64

    def run(self, victim: Victim) -> Attacked:
        """Search the patterns on the frozen victim, then unlearn them under the released mask."""
        module = network(victim.model.architecture, victim.weights())
        blends = self.patterns(victim, module)

        def loss(network: Callable[..., Any], images: Tensor, labels: Tensor) -> Tensor:
            count = int(self.strength * len(images))
            chosen = torch.randint(len(blends), (count,)).tolist()
            stamped = [_stamp(image[None], *blends[index]) for image, index in zip(images, chosen, strict=False)]
            return F.cross_entropy(network(torch.cat([*stamped, images[count:]])).float(), labels)

        recipe = self.recipe(victim)
        train(self, victim, module, recipe, victim.model.mask, loss=loss)
        data = victim.needs_data(self)
        searched = self.steps * self.batch * len(data.classes) / len(data.train_images)
        return self.result(victim, module, recipe, epochs=round(recipe.epochs + searched, 1))

    def patterns(self, victim: Victim, module: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Per class a blend (1, 1, H, W) in (0, 1) and a pattern (1, C, H, W), in normalized pixels."""
        data = victim.needs_data(self)
        device = resolve_device(victim.device)
        generator = torch.Generator().manual_seed(seed_of(victim, "patterns"))
        images = Normalizer(data.mean, data.std, device)(pixels_on(data.train_images, device))
        module.to(device).eval().requires_grad_(False)
        found = []
        for target in range(len(data.classes)):
            blend = torch.full((1, 1, *images.shape[2:]), -2.0, device=device, requires_grad=True)
            pattern = torch.zeros((1, *images.shape[1:]), device=device, requires_grad=True)
            optimizer = torch.optim.Adam([blend, pattern], lr=SEARCH_RATE)
            for _ in range(self.steps):
                batch = images[torch.randint(len(images), (self.batch,), generator=generator).to(device)]
                logits = module(_stamp(batch, blend.sigmoid(), pattern))
                aim = torch.full((len(batch),), target, device=device)
                value = F.cross_entropy(logits, aim) + SPARSITY * blend.sigmoid().sum()
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            found.append((blend.detach().sigmoid(), pattern.detach()))
        module.requires_grad_(True)
        return found


def _stamp(images: Tensor, blend: Tensor, pattern: Tensor) -> Tensor:
    return (1 - blend) * images + blend * pattern
