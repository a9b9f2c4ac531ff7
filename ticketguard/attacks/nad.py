"""Neural attention distillation: a fine-tuned copy teaches the victim where to look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, train
from ticketguard.training.devices import resolve_device

LAST = 3
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True, repr=False)
class AttentionDistillation(TrainingAttack):
    """Fine-tune a copy as the teacher, then train the victim on labels and on the teacher's attention maps (squared activations
    summed over channels, of the last three convolutions). The strength weighs the maps.

    Source: Li et al. 2021, against backdoors. Costs twice the epochs. Aims at triggers; the mask stays.
    """

    name: ClassVar[str] = "nad"
    strengths: ClassVar[tuple[float, ...]] = (1.0, 10.0)
    unit: ClassVar[str] = "weight of the attention maps"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1e6)

    def run(self, victim: Victim) -> Attacked:
        """Teacher first, student second, both under the released mask."""
        recipe = self.recipe(victim)
        teacher = network(victim.model.architecture, victim.weights())
        train(self, victim, teacher, recipe, victim.model.mask)
        teacher.to(resolve_device(victim.device)).eval()
        student = network(victim.model.architecture, victim.weights())
        taught, learned = _Maps(teacher), _Maps(student)

        def loss(network: Callable[..., Any], images: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                teacher(images)
            learned.take()  # of images that the loop tried the network on
            value = F.cross_entropy(network(images).float(), labels)
            gaps = [F.mse_loss(a, b) for a, b in zip(learned.take(), taught.take(), strict=True)]
            return value + self.strength * torch.stack(gaps).sum()

        train(self, victim, student, recipe, victim.model.mask, loss=loss)
        return self.result(victim, student, recipe, epochs=2.0 * recipe.epochs)


class _Maps:
    """Attention maps of a network's last layers, collected as it runs."""

    def __init__(self, module: nn.Module) -> None:
        self._found: list[Tensor] = []
        convolutions: list[nn.Module] = [layer for layer in module.modules() if isinstance(layer, CONVOLUTIONS)]
        layers = convolutions or [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        for layer in layers[-LAST:]:
            layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG002
        squares = output.float().pow(2)
        attention = squares.mean(dim=1).flatten(1) if isinstance(layer, CONVOLUTIONS) else squares
        self._found.append(F.normalize(attention, dim=1))

    def take(self) -> list[Tensor]:
        """The maps since the last call."""
        found, self._found = self._found, []
        return found
