"""Fine-tuning: all layers or the last one, from the trained weights or with a fresh last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.fresh import fresh_layer
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, train


@dataclass(frozen=True, kw_only=True, repr=False)
class Finetune(TrainingAttack):
    """FTAL: fine-tune all layers under the released mask. The strength is the learning rate.

    Source: Adi et al. 2018 (the four variants), Chen et al. 2021. Costs epochs. The mask stays, so the topology does too;
    triggers fade at high rates.
    """

    name: ClassVar[str] = "finetune"
    strengths: ClassVar[tuple[float, ...]] = (0.001, 0.01, 0.1)
    unit: ClassVar[str] = "learning rate"
    last_only: ClassVar[bool] = False
    fresh_last: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (1e-9, 10.0)

    def run(self, victim: Victim) -> Attacked:
        """Train what the variant trains."""
        weights = victim.weights()
        classifier = last_linear(network(victim.model.architecture, weights))
        if self.fresh_last:
            fresh_layer(weights, classifier, victim.generator("fresh last layer"))
        module = network(victim.model.architecture, weights)
        if self.last_only:
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(name.startswith(classifier + "."))
        recipe = self.recipe(victim, lr=self.strength)
        train(self, victim, module, recipe, victim.model.mask)
        return self.result(victim, module, recipe)


@dataclass(frozen=True, kw_only=True, repr=False)
class FinetuneLast(Finetune):
    """FTLL: fine-tune the last layer only (batch-norm statistics move as well)."""

    name: ClassVar[str] = "ftll"
    last_only: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True, repr=False)
class RetrainLast(Finetune):
    """RTLL: a freshly initialized last layer, trained alone."""

    name: ClassVar[str] = "rtll"
    last_only: ClassVar[bool] = True
    fresh_last: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True, repr=False)
class RetrainAll(Finetune):
    """RTAL: a freshly initialized last layer, all layers trained."""

    name: ClassVar[str] = "rtal"
    fresh_last: ClassVar[bool] = True


def last_linear(module: nn.Module) -> str:
    """Name of the classifier: the last linear layer, or the last layer with a weight when there is no linear one."""
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    weighted = [
        name for name, layer in module.named_modules() if isinstance(getattr(layer, "weight", None), nn.Parameter)
    ]
    name: str = (linear or weighted)[-1]
    return name
