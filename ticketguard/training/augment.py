"""Augmentation of a whole batch by one gather: random crop after padding, and horizontal flip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = {"none": 0, "shift": 1, "crop-flip": 4}
FLIPS = {"none": False, "shift": False, "crop-flip": True}


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """The random choices of one epoch, drawn at once: image order, and per position the crop's offset and the flip.

    All tensors have one row per training image: `order`, `top`, `left` int64, `flip` bool.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor


def plan_epoch(count: int, augmentation: str, generator: torch.Generator, device: torch.device) -> EpochPlan:
    """Draw an epoch's choices for `count` images on the CPU, so that every device sees the same ones, and move them."""
    padding = PADDING[augmentation]
    order = torch.randperm(count, generator=generator)
    top = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
    left = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
    flip = torch.rand(count, generator=generator) < (0.5 if FLIPS[augmentation] else 0.0)
    return EpochPlan(order=order.to(device), top=top.to(device), left=left.to(device), flip=flip.to(device))


def crop_flip(images: Tensor, padding: int, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Crop each image of a uint8 batch (B, H, W, C) out of its zero-padded self, then mirror it where `flip` says so.

    `top` and `left` (B,) are offsets in [0, 2 padding]. Equal to cropping and flipping image by image.
    """
    batch, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flip[:, None], width - 1 - columns, columns) + left[:, None]
    rows = torch.arange(height, device=images.device) + top[:, None]
    first = torch.arange(batch, device=images.device)
    return padded[first[:, None, None], rows[:, :, None], columns[:, None, :]]
