"""Distillation: a fresh student learns the victim's answers. No edge of the victim survives in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.fresh import fresh_mask, fresh_network
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, train
from ticketguard.masks import Mask
from ticketguard.tickets import Architecture
from ticketguard.training.devices import resolve_device

TEMPERATURE = 4.0


@dataclass(frozen=True, kw_only=True, repr=False)
class Distill(TrainingAttack):
    """Train a fresh network of the same architecture under a fresh random mask of the same density from the victim's softened
    answers and the true labels. The strength is the weight of the victim's answers.

    Source: Hinton et al. 2015 as a removal attack. Costs a full training and the worth of the ticket (a random mask instead of
    a winning one). Removes every topological mark by nature; what triggers still show is measured.
    """

    name: ClassVar[str] = "distill"
    strengths: ClassVar[tuple[float, ...]] = (0.9,)
    unit: ClassVar[str] = "weight of the victim's answers in the loss"

    lr: float = 0.1

    def run(self, victim: Victim) -> Attacked:
        """Build the student, train it against the frozen victim."""
        device = resolve_device(victim.device)
        teacher = network(victim.model.architecture, victim.model.weights).to(device)
        architecture = self.student(victim)
        module = fresh_network(victim, architecture, f"{self.name} student")
        recipe = self.recipe(victim)

        def loss(student: Callable[..., Any], images: Tensor, labels: Tensor) -> Tensor:
            images = self.queries(images)
            with torch.no_grad():
                answers = teacher(images).float()
            logits = student(images).float()
            return self.strength * softened(logits, answers) + (1 - self.strength) * F.cross_entropy(logits, labels)

        train(self, victim, module, recipe, self.mask(victim), loss=loss)
        return self.result(victim, module, recipe, architecture=architecture)

    def student(self, victim: Victim) -> Architecture:
        """The student's architecture."""
        return victim.model.architecture

    def mask(self, victim: Victim) -> Mask | None:
        """A random mask with each layer's own density."""
        return fresh_mask(victim, "fresh mask")

    def queries(self, images: Tensor) -> Tensor:
        """What the victim is asked: the attacker's images as they are."""
        return images


def softened(logits: Tensor, answers: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softened answers, scaled by the square of the temperature as usual."""
    return TEMPERATURE**2 * F.kl_div(
        F.log_softmax(logits / TEMPERATURE, dim=1), F.softmax(answers / TEMPERATURE, dim=1), reduction="batchmean"
    )
