"""A data set on the device: uint8 pixels in channels-last order, turned into normalized batches without leaving it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketguard.training.augment import PADDING, EpochPlan, crop_flip


class Normalizer:
    """Turns uint8 pixels (B, H, W, C) into float (B, C, H, W): scaled to [0, 1], minus mean, by standard deviation."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        spread = torch.tensor(std, device=device)
        self._scale = 1 / (255 * spread)
        self._shift = -torch.tensor(mean, device=device) / spread

    def __call__(self, pixels: Tensor) -> Tensor:
        """float32 (B, C, H, W), laid out channels-last in memory."""
        return torch.addcmul(self._shift, pixels.float(), self._scale).permute(0, 3, 1, 2)


class Batches:
    """Images and labels held on a device, and the batches of an epoch cut from them."""

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], normalizer: Normalizer, augmentation: str,
        device: torch.device,
    ) -> None:  # fmt: skip
        """`images` (N, C, H, W) and `labels` (N,) are copied to `device` once."""
        self._pixels = pixels_on(images, device)
        self._labels = torch.from_numpy(np.ascontiguousarray(labels)).to(device)
        self._normalizer = normalizer
        self._padding = PADDING[augmentation]

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, plan: EpochPlan, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Augmented, normalized images (B, C, H, W) and labels (B,) at positions [start, stop) of an epoch's order."""
        chosen = plan.order[start:stop]
        pixels = self._pixels.index_select(0, chosen)
        if self._padding:
            pixels = crop_flip(
                pixels, self._padding, plan.top[start:stop], plan.left[start:stop], plan.flip[start:stop]
            )
        return self._normalizer(pixels), self._labels.index_select(0, chosen)


def pixels_on(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 images (N, C, H, W) as a (N, H, W, C) tensor on `device`: the order in which crops are gathered fastest."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 2, 3, 1))).to(device)
