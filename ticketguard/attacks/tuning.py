"""What training attacks share: the attacker's budget, the one training loop, and a loop for losses that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketguard.attacks.base import Attack, Attacked, Victim
from ticketguard.attacks.rebuild import network
from ticketguard.data import Dataset
from ticketguard.errors import UsageError
from ticketguard.masks import Mask
from ticketguard.training import MaskEnforcer, Recipe, fit, weights_of
from ticketguard.training.augment import plan_epoch
from ticketguard.training.batches import Batches, Normalizer
from ticketguard.training.devices import resolve_device, settings
from ticketguard.training.mixing import derive

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
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


def train(attack: Attack, victim: Victim, module: nn.Module, recipe: Recipe, mask: Mask | None) -> None:
    """Train `module` in place on the attacker's data. Parameters that need no gradient stay as they are."""
    data = unlabelled_test(victim.needs_data(attack))
    fit(
        module, data, recipe, seed=seed_of(victim, repr(attack)), mask=mask, device=victim.device, threads=victim.threads
    )  # fmt: skip


def minimise(
    attack: Attack, victim: Victim, module: nn.Module, recipe: Recipe, loss: Loss, *, mask: Mask | None = None
) -> None:
    """Train `module` in place with any `loss(module, normalized images, labels)`, masks enforced: for what `fit` cannot say.

    Raises `UsageError` when training diverges.
    """
    data = victim.needs_data(attack)
    device = resolve_device(victim.device)
    seed = seed_of(victim, repr(attack))
    augmentation = data.augment if recipe.augment else "none"
    batches = Batches(
        data.train_images, data.train_labels, Normalizer(data.mean, data.std, device), augmentation, device
    )
    size = min(recipe.batch_size, len(batches))
    steps = len(batches) // size
    with settings(threads=victim.threads, seed=derive(seed, 0, purpose=0)):
        module.to(device).train()
        optimizer = torch.optim.SGD(
            [parameter for parameter in module.parameters() if parameter.requires_grad],
            lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
        )  # fmt: skip
        enforcer = MaskEnforcer(module, mask or Mask({}), optimizer=optimizer)
        for epoch in range(recipe.epochs):
            generator = torch.Generator().manual_seed(derive(seed, epoch, purpose=1))
            plan = plan_epoch(len(batches), augmentation, generator, device)
            for step in range(steps):
                images, labels = batches.take(plan, step * size, (step + 1) * size)
                optimizer.param_groups[0]["lr"] = recipe.rate(epoch + step / steps)
                value = loss(module, images, labels)
                optimizer.zero_grad(set_to_none=True)
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                enforcer.apply()
            if not torch.isfinite(value):
                raise UsageError(f"attack {attack!r} diverged: use a lower learning rate than {recipe.lr}")
        enforcer.finish()
        module.to("cpu").eval()
