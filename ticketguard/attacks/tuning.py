"""What training attacks share: the attacker's budget, and the one training loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch import nn

from ticketguard.attacks.base import Attack, Attacked, Victim
from ticketguard.attacks.rebuild import network
from ticketguard.data import Dataset
from ticketguard.masks import Mask
from ticketguard.training import Loss, Recipe, fit, weights_of

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingAttack(Attack):
    """An attack that trains. `epochs`: passes over the attacker's data, 0 for as many as the victim's recipe says.

    `lr`: learning rate at the start, falling to zero by a cosine.
    """

    trains: ClassVar[bool] = True

    epochs: int = 0
    lr: float = 0.01

    def recipe(self, victim: Victim, **changes: Any) -> Recipe:
        """The attacker's recipe: the victim's batch size and regularization, this attack's epochs and rate."""
        epochs = self.epochs or victim.recipe.epochs
        fixed = {"schedule": "cosine", "milestones": (), "warmup": 0.0, "rewind_epoch": 0, "evaluate_every": epochs}
        return replace(victim.recipe, **{**fixed, "epochs": epochs, "lr": self.lr, **changes})

    def result(self, victim: Victim, module: nn.Module, recipe: Recipe, **changes: Any) -> Attacked:
        """The trained module as an attacked copy, with what the training cost."""
        data = victim.needs_data(self)
        fields = {"architecture": victim.model.architecture, "epochs": float(recipe.epochs)}
        return Attacked(**{**fields, "weights": weights_of(module), "images": len(data.train_images), **changes})


def seed_of(victim: Victim, purpose: str) -> int:
    """A training seed from the victim's seed and `purpose`."""
    return int(victim.generator(purpose).integers(2**31))


def unlabelled_test(dataset: Dataset) -> Dataset:
    """The data set with one test image: an attacker's loop must not spend time on the owner's test set."""
    return replace(dataset, test_images=dataset.test_images[:1], test_labels=dataset.test_labels[:1])


def tune(attack: TrainingAttack, victim: Victim, weights: Arrays, mask: Mask | None, **changes: Any) -> Attacked:
    """Fine-tune all of `weights` under `mask` (None: dense) with the one training loop."""
    recipe = attack.recipe(victim, **changes)
    module = network(victim.model.architecture, weights)
    train(attack, victim, module, recipe, mask)
    return attack.result(victim, module, recipe)


def train(
    attack: Attack, victim: Victim, module: nn.Module, recipe: Recipe, mask: Mask | None, *, loss: Loss | None = None
) -> None:
    """Train `module` in place on the attacker's data. Parameters that need no gradient stay as they are."""
    data = unlabelled_test(victim.needs_data(attack))
    seed = seed_of(victim, repr(attack))
    fit(module, data, recipe, seed=seed, mask=mask, loss=loss, device=victim.device, threads=victim.threads)
