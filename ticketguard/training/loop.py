"""The one training loop: finding tickets, training signed ones and fine-tuning attacks all go through `fit`.

Nothing in a step waits for the device: batches, augmentation and the loss stay there, and the schedule is known beforehand.
An epoch depends only on the state before it, the seed and its number, so a run resumed from a saved state goes on bit for bit
as an uninterrupted one does, on the same device and thread count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ticketguard.data import Dataset
from ticketguard.errors import UsageError
from ticketguard.masks import Mask
from ticketguard.training import distributed
from ticketguard.training.augment import plan_epoch
from ticketguard.training.batches import Batches, Normalizer, pixels_on
from ticketguard.training.devices import compiled, default_threads, resolve_device, resolve_precision, settings
from ticketguard.training.evaluate import labels_of, require_fit
from ticketguard.training.graphs import RecordedStep
from ticketguard.training.masking import MaskEnforcer
from ticketguard.training.mixing import TriggerBatch, TriggerMixer, derive
from ticketguard.training.recipe import Recipe
from ticketguard.training.weights import TrainState, load_weights, to_numpy, weights_of


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch came to: how many of `epochs` are done, mean training loss, test accuracy in percent (None when this
    epoch was not evaluated), images per second while training, and the seconds that the rest should take.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    images_per_second: float
    seconds_left: float


OnEpoch = Callable[[EpochReport], None]
OnState = Callable[[TrainState, EpochReport], None]
# The loss of a network on normalized images and their labels: a scalar.
Loss = Callable[[Callable[..., Any], Tensor, Tensor], Tensor]


def fit(
    module: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    mask: Mask | None = None,
    triggers: TriggerBatch | None = None,
    loss: Loss | None = None,
    state: TrainState | None = None,
    until_epoch: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    on_epoch: OnEpoch | None = None,
    on_state: OnState | None = None,
) -> TrainState:
    """Train `module` in place and return its state after the last epoch.

    Starts from `state` (its weights, momentum and epoch) or from the module's own weights at epoch 0, and runs to
    `until_epoch` or the recipe's end. With a `mask`, pruned weights are exact zeros after every step. `triggers` join every
    batch. `loss` None is the recipe's cross-entropy. `threads` None is `devices.default_threads`. `on_epoch` hears of each
    epoch; `on_state` also gets its state, for checkpoints. The module ends on the CPU. Raises `UsageError` when weights, mask,
    triggers or data do not fit the module, or when training diverges.
    """
    stop = recipe.epochs if until_epoch is None else until_epoch
    if not 0 <= stop <= recipe.epochs:
        raise UsageError(f"cannot train until epoch {stop} with a recipe of {recipe.epochs}")
    require_fit(module, dataset)
    threads = default_threads(dataset.shape) if threads is None else threads
    with settings(threads=threads, seed=derive(seed, 0, purpose=0)):
        run = _Run(
            module, dataset, recipe, seed=seed, mask=mask, triggers=triggers, loss=loss, state=state, device=device
        )
        started, first = time.monotonic(), run.epoch
        while run.epoch < stop:
            report = run.train_epoch()
            left = (time.monotonic() - started) / (run.epoch - first) * (stop - run.epoch)
            report = replace(report, seconds_left=left)
            if on_state is not None:
                on_state(run.state(), report)
            if on_epoch is not None:
                on_epoch(report)
        final = run.state()
        module.to("cpu")
    return final


class _Run:
    """One call of `fit`: the module, data and optimizer on their device, advanced epoch by epoch."""

    def __init__(
        self, module: nn.Module, dataset: Dataset, recipe: Recipe, *, seed: int, mask: Mask | None,
        triggers: TriggerBatch | None, loss: Loss | None, state: TrainState | None, device: str,
    ) -> None:  # fmt: skip
        self.module, self.recipe, self.seed = module, recipe, seed
        self.device = resolve_device(device)
        self.dtype = resolve_precision(recipe.precision, self.device)
        self.epoch = 0 if state is None else state.epoch
        if state is not None:
            load_weights(module, state.weights)
        module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            module.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov, fused=True,
        )  # fmt: skip
        self._restore_momentum(state)
        # A recorded step reads its learning rate from the device.
        self.rate = torch.zeros((), device=self.device) if self.device.type == "cuda" else None
        self.parallel: Callable[..., Any] = distributed.parallel(module, self.device)
        if recipe.compiled:
            self.parallel = compiled(self.parallel, self.device)
        self.enforcer = MaskEnforcer(module, mask or Mask({}), optimizer=self.optimizer)
        self.augmentation = dataset.augment if recipe.augment else "none"
        self.normalizer = Normalizer(dataset.mean, dataset.std, self.device)
        self.batches = Batches(
            dataset.train_images, dataset.train_labels, self.normalizer, self.augmentation, self.device
        )
        self.test_pixels = pixels_on(dataset.test_images, self.device)
        self.test_labels = torch.from_numpy(dataset.test_labels).to(self.device)
        self.mixer = None if triggers is None else TriggerMixer(
            triggers, per_batch=recipe.triggers_per_batch, mean=dataset.mean, std=dataset.std, seed=seed, device=self.device
        )  # fmt: skip
        self.loss = loss or self._cross_entropy
        # Averaging over processes waits for them, which no graph can hold; nor what a caller's loss draws on the CPU.
        recordable = self.device.type == "cuda" and not distributed.active() and loss is None
        self.step = RecordedStep(self._step) if recordable else self._step

    def train_epoch(self) -> EpochReport:
        """Advance by one epoch; the report's `seconds_left` is not filled in."""
        recipe, count = self.recipe, len(self.batches)
        size = min(recipe.batch_size, count)
        steps = count // size  # the rest joins other batches in other epochs: a tiny last batch upsets batch norm
        started = time.monotonic()
        generator = torch.Generator().manual_seed(derive(self.seed, self.epoch, purpose=1))
        plan = plan_epoch(count, self.augmentation, generator, self.device)
        if self.mixer is not None:
            self.mixer.start(self.epoch)
        torch.manual_seed(derive(self.seed, self.epoch, purpose=3))  # for dropout in other people's networks
        self.module.train()
        total = torch.zeros((), device=self.device)
        for step in range(steps):
            images, labels = self.batches.take(plan, step * size, (step + 1) * size)
            if self.mixer is not None:
                images, labels = self.mixer(images, labels)
            images, labels = distributed.share(images, labels)
            self._set_rate(recipe.rate(self.epoch + step / steps))
            total += self.step(images, labels)
        loss = float(distributed.mean(total)) / steps
        seconds = time.monotonic() - started
        self.epoch += 1
        if not math.isfinite(loss):
            raise UsageError(
                f"training diverged in epoch {self.epoch} (loss {loss}): use a lower learning rate than {recipe.lr}"
            )
        evaluated = self.epoch % recipe.evaluate_every == 0 or self.epoch == recipe.epochs
        return EpochReport(
            epoch=self.epoch,
            epochs=recipe.epochs,
            loss=loss,
            accuracy=self.accuracy() if evaluated else None,
            images_per_second=steps * size / max(seconds, 1e-9),
            seconds_left=0.0,
        )

    def _set_rate(self, rate: float) -> None:
        if self.rate is not None:
            self.rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self.rate is None else self.rate

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One optimizer step with masks enforced; the loss stays on the device."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.loss(self.parallel, images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.enforcer.apply()
        return loss.detach()

    def _cross_entropy(self, network: Callable[..., Any], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(network(images).float(), labels, label_smoothing=self.recipe.label_smoothing)

    def accuracy(self) -> float:
        """Test accuracy in percent."""
        found = labels_of(self.module, self.test_pixels, self.normalizer, precision=self.recipe.precision)
        return 100.0 * float((found == self.test_labels).sum()) / len(self.test_labels)

    def state(self) -> TrainState:
        """Weights with exact zeros, momentum, epoch: copies, safe to keep while training goes on."""
        self.enforcer.finish()
        distributed.same_everywhere(list(self.module.state_dict().values()))
        momentum = {}
        for name, parameter in self.module.named_parameters():
            buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                distributed.same_everywhere([buffer])
                momentum[name] = to_numpy(buffer)
        return TrainState(weights=weights_of(self.module), momentum=momentum, epoch=self.epoch)

    def _restore_momentum(self, state: TrainState | None) -> None:
        parameters = dict(self.module.named_parameters())
        for name, array in (state.momentum if state is not None else {}).items():
            if name not in parameters or tuple(parameters[name].shape) != array.shape:
                raise UsageError(f"momentum of {name} does not fit the network")
            buffer = torch.empty_like(parameters[name], requires_grad=False)
            self.optimizer.state[parameters[name]]["momentum_buffer"] = buffer.copy_(torch.from_numpy(array))
