"""Recipes: every number of a training run as one value, and a literal table of the ones that have a name."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ticketguard.errors import UsageError

SCHEDULES = ("steps", "cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train: SGD with momentum, a learning-rate schedule, the epoch that tickets rewind to.

    `schedule` "steps" multiplies `lr` by `gamma` at each of `milestones` (epochs), "cosine" lets it fall to zero, "constant"
    keeps it; `warmup` epochs of linear rise come first. `precision` "auto" is bf16 autocast on devices with bf16
    arithmetic, else fp32. `triggers_per_batch` trigger images join each batch when there are any. `evaluate_every` epochs,
    and always after the last one, test accuracy is measured. `compiled`: the network runs as `torch.compile` makes it, which
    changes the order of some sums.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    schedule: str = "steps"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    label_smoothing: float = 0.0
    rewind_epoch: int = 0
    augment: bool = True
    precision: str = "auto"
    triggers_per_batch: int = 16
    evaluate_every: int = 1
    compiled: bool = False

    def __post_init__(self) -> None:
        checks = (
            (self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}"),
            (self.batch_size >= 2, f"batch size must be at least 2, not {self.batch_size}"),
            (0 < self.lr < math.inf, f"learning rate must be above 0, not {self.lr}"),
            (0 <= self.momentum < 1, f"momentum must be in [0, 1), not {self.momentum}"),
            (0 <= self.weight_decay < math.inf, f"weight decay must be 0 or more, not {self.weight_decay}"),
            (not self.nesterov or self.momentum > 0, "Nesterov momentum needs momentum above 0"),
            (self.schedule in SCHEDULES, f"unknown schedule {self.schedule!r}: one of {', '.join(SCHEDULES)}"),
            (self.precision in PRECISIONS, f"unknown precision {self.precision!r}: one of {', '.join(PRECISIONS)}"),
            (
                0 <= self.rewind_epoch < self.epochs,
                f"rewind epoch {self.rewind_epoch} is not within {self.epochs} epochs",
            ),
            (0 <= self.label_smoothing < 1, f"label smoothing must be in [0, 1), not {self.label_smoothing}"),
            (0 <= self.warmup <= self.epochs, f"warmup must be from 0 to {self.epochs} epochs, not {self.warmup}"),
            (0 < self.gamma < math.inf, f"gamma must be above 0, not {self.gamma}"),
            (
                all(0 <= milestone < math.inf for milestone in self.milestones)
                and list(self.milestones) == sorted(self.milestones),
                f"milestones must be epochs in rising order, not {self.milestones}",
            ),
            (self.triggers_per_batch >= 1, f"triggers per batch must be at least 1, not {self.triggers_per_batch}"),
            (self.evaluate_every >= 1, f"evaluation interval must be at least 1 epoch, not {self.evaluate_every}"),
        )
        for fine, message in checks:
            if not fine:
                raise UsageError(f"recipe: {message}")

    def rate(self, progress: float) -> float:
        """Learning rate after `progress` epochs (a fraction counts)."""
        if progress < self.warmup:
            return self.lr * (progress + 1e-3) / self.warmup
        if self.schedule == "steps":
            return self.lr * self.gamma ** sum(progress >= milestone for milestone in self.milestones)
        if self.schedule == "cosine":
            share = (progress - self.warmup) / max(self.epochs - self.warmup, 1e-9)
            return self.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        return self.lr

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; `compiled` only where it is set, so that earlier records stay equal to it."""
        fields = {**asdict(self), "milestones": list(self.milestones)}
        if not self.compiled:
            del fields["compiled"]
        return fields


RECIPES: dict[str, Recipe] = {
    # Chen et al. 2021 and Frankle et al. 2020: the recipe of the paper's tables.
    "paper": Recipe(epochs=182, milestones=(91, 136), rewind_epoch=3),
    # CIFAR-sized data on a small budget: high rate, falling to zero, so that few epochs suffice.
    "short": Recipe(
        epochs=12, batch_size=128, lr=0.2, weight_decay=5e-4, nesterov=True, schedule="cosine", warmup=1.0,
        rewind_epoch=1, evaluate_every=3,
    ),
    # Handwritten digits: seconds per run.
    "digits": Recipe(
        epochs=12, batch_size=64, lr=0.1, weight_decay=5e-4, nesterov=True, schedule="cosine", warmup=1.0,
        rewind_epoch=1, triggers_per_batch=16,
    ),
}  # fmt: skip
