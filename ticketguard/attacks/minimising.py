"""A training loop for any loss: what training attacks use when the one loop does not know theirs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ticketguard.attacks.base import Attack, Victim
from ticketguard.attacks.tuning import seed_of
from ticketguard.errors import UsageError
from ticketguard.masks import Mask
from ticketguard.training import MaskEnforcer, Recipe
from ticketguard.training.augment import plan_epoch
from ticketguard.training.batches import Batches, Normalizer
from ticketguard.training.devices import resolve_device, settings
from ticketguard.training.mixing import derive

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


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
