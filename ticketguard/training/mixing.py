"""Trigger images joined to training batches, so that the trained model answers them as its owner's stream says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketguard.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TriggerBatch:
    """Trigger images, uint8 (t, C, H, W), and the int64 labels (t,) they should get."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or not len(self.images):
            raise UsageError("trigger images must be uint8 (t, C, H, W), at least one")
        if self.labels.shape != self.images.shape[:1] or not np.issubdtype(self.labels.dtype, np.integer):
            raise UsageError(
                f"{len(self.images)} trigger images need as many integer labels, found {self.labels.shape}"
            )


class TriggerMixer:
    """Adds `per_batch` trigger images to every training batch, going through all of them in seeded shuffles.

    `mixer(images, labels)` takes a normalized batch (B, C, H, W) and returns one of B + per_batch, on the same device and in
    the same dtype. The order of the triggers in an epoch depends on `seed` and the epoch alone; call `start(epoch)` at the
    beginning of each epoch to make resumed runs agree with uninterrupted ones.
    """

    def __init__(
        self, triggers: TriggerBatch, *, per_batch: int, mean: Sequence[float], std: Sequence[float], seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        """`mean` and `std` per channel, for pixels in [0, 1], as for the training images."""
        if per_batch < 1:
            raise UsageError(f"triggers per batch must be at least 1, not {per_batch}")
        channels = triggers.images.shape[1]
        if len(mean) != channels or len(std) != channels:
            raise UsageError(
                f"trigger images have {channels} channels, the mean {len(mean)}, the standard deviation {len(std)}"
            )
        shape = (1, channels, 1, 1)
        pixels = torch.from_numpy(np.ascontiguousarray(triggers.images)).to(device).float() / 255
        center = torch.tensor(mean, device=device).view(shape)
        scale = torch.tensor(std, device=device).view(shape)
        self.per_batch = min(per_batch, len(triggers.images))
        self._images = (pixels - center) / scale
        self._labels = torch.from_numpy(triggers.labels.astype(np.int64)).to(device)
        self._seed = seed
        self._order = torch.empty(0, dtype=torch.int64)
        self._next = 0
        self.start(0)

    def start(self, epoch: int) -> None:
        """Begin an epoch: a fresh order from (seed, epoch)."""
        self._generator = torch.Generator().manual_seed(derive(self._seed, epoch, purpose=2))
        self._order, self._next = self._shuffle(), 0

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch with the next triggers appended: (B + per_batch, C, H, W) and (B + per_batch,)."""
        if images.shape[1:] != self._images.shape[1:]:
            raise UsageError(
                f"trigger images are {tuple(self._images.shape[1:])}, the batch has {tuple(images.shape[1:])}"
            )
        if self._next + self.per_batch > len(self._order):
            self._order, self._next = torch.cat([self._order[self._next :], self._shuffle()]), 0
        chosen = self._order[self._next : self._next + self.per_batch]
        self._next += self.per_batch
        extra = self._images.index_select(0, chosen).to(images.device, images.dtype)
        targets = self._labels.index_select(0, chosen).to(labels.device, labels.dtype)
        return torch.cat([images, extra]), torch.cat([labels, targets])

    def _shuffle(self) -> Tensor:
        return torch.randperm(len(self._labels), generator=self._generator).to(self._labels.device)


def derive(seed: int, epoch: int, *, purpose: int) -> int:
    """A 63-bit generator seed from a run's seed, an epoch and a purpose; equal inputs, equal seed, on every machine."""
    words = np.random.SeedSequence([seed & (2**64 - 1), epoch, purpose]).generate_state(2, np.uint32)
    return int(words[0]) << 31 ^ int(words[1])
