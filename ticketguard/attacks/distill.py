"""Distillation: a fresh student learns the victim's answers. No edge of the victim survives in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, minimise, seed_of
from ticketguard.masks import Mask
from ticketguard.models import build, fitted
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
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(victim, f"{self.name} student"))
            module = build(architecture)
        recipe = self.recipe(victim)

        def loss(student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            images = self.queries(images)
            with torch.no_grad():
                answers = teacher(images)
            logits = student(images)
            return self.strength * softened(logits, answers) + (1 - self.strength) * F.cross_entropy(logits, labels)

        minimise(self, victim, module, recipe, loss, mask=self.mask(victim))
        return self.result(victim, module, recipe, architecture=architecture)

    def student(self, victim: Victim) -> Architecture:
        """The student's architecture."""
        return victim.model.architecture

    def mask(self, victim: Victim) -> Mask | None:
        """A random mask with each layer's own density."""
        generator = victim.generator("fresh mask")
        return Mask(
            {
                name: generator.permutation(np.asarray(bits).ravel()).reshape(bits.shape)
                for name, bits in victim.model.mask.items()
            }
        )

    def queries(self, images: Tensor) -> Tensor:
        """What the victim is asked: the attacker's images as they are."""
        return images


@dataclass(frozen=True, kw_only=True, repr=False)
class DistillOther(Distill):
    """Distillation into another, dense architecture: nothing of the topology can even be compared."""

    name: ClassVar[str] = "distill-other"

    def student(self, victim: Victim) -> Architecture:
        """The small convolutional network, or a perceptron when the victim is one itself."""
        data = victim.needs_data(self)
        name = "mlp" if victim.model.architecture.name == "convnet" else "convnet"
        return fitted(name, shape=data.shape, classes=len(data.classes))

    def mask(self, victim: Victim) -> Mask | None:  # noqa: ARG002
        """Dense."""
        return None


@dataclass(frozen=True, kw_only=True, repr=False)
class ExtractSoft(Distill):
    """Soft-label extraction: only the victim's probabilities are known, on images mixed from the attacker's own; the student is
    a fresh dense network of the same architecture. Labels are not used.
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


def softened(logits: Tensor, answers: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softened answers, scaled by the square of the temperature as usual."""
    return TEMPERATURE**2 * F.kl_div(
        F.log_softmax(logits / TEMPERATURE, dim=1), F.softmax(answers / TEMPERATURE, dim=1), reduction="batchmean"
    )
