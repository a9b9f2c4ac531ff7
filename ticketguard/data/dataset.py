"""The data set value: uint8 images and labels as arrays, and everything that training needs to know about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import DataError, UsageError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
AUGMENTATIONS = ("none", "crop-flip", "shift")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dataset:
    """Labelled images, split into training and test.

    Images are uint8 (N, C, H, W), labels int64 (N,) indices into `classes`. `mean` and `std` are per channel, for pixels
    scaled to [0, 1]. `augment` names what training does to a batch: "none", "crop-flip" (random crop with padding 4 and
    horizontal flip) or "shift" (random crop with padding 1). Two data sets are equal when they are the same object; `digest`
    tells whether they hold the same.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "none"

    def __post_init__(self) -> None:
        if self.augment not in AUGMENTATIONS:
            raise UsageError(f"unknown augmentation {self.augment!r}: one of {', '.join(AUGMENTATIONS)}")
        for split, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.dtype != np.uint8 or images.ndim != 4:
                raise DataError(f"data set {self.name}: {split} images must be uint8 (N, C, H, W)")
            if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
                raise DataError(f"data set {self.name}: {len(images)} {split} images, labels of shape {labels.shape}")
            if not len(images):
                raise DataError(f"data set {self.name}: no {split} images")
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise DataError(f"data set {self.name}: a {split} label is outside its {len(self.classes)} classes")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(f"data set {self.name}: training and test images differ in shape")
        if {len(self.mean), len(self.std)} != {self.shape[0]}:
            raise DataError(f"data set {self.name}: {self.shape[0]} channels, and not as many means and deviations")
        if not all(map(isfinite, self.mean)) or not all(0 < std < inf for std in self.std):
            raise DataError(f"data set {self.name}: means must be finite, and standard deviations above 0 as well")

    def __repr__(self) -> str:
        sizes = f"{len(self.train_images):,} + {len(self.test_images):,} images of {' x '.join(map(str, self.shape))}"
        return f"{type(self).__name__}({self.name}, {sizes}, {len(self.classes)} classes)"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex over class names, shapes, images and labels of both splits, in order."""
        hasher = hashlib.sha256(b"ticketguard/dataset/v1\0" + "\0".join(self.classes).encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            hasher.update(repr(array.shape).encode())
            hasher.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
        return hasher.hexdigest()

    def task(self) -> dict[str, Any]:
        """What a ticket's provenance says about its task: data set name and digest, class names, input, as plain JSON."""
        return {
            "dataset": self.name,
            "dataset_digest": self.digest,
            "classes": list(self.classes),
            "input": {"shape": list(self.shape), "mean": list(self.mean), "std": list(self.std)},
        }

    def subset(self, limit: int, *, seed: int = 0) -> Dataset:
        """The same data set with the first `limit` training images of a shuffle seeded by `seed`."""
        if not 1 <= limit <= len(self.train_images):
            raise UsageError(f"data set {self.name}: cannot take {limit} of {len(self.train_images)} training images")
        chosen = np.random.default_rng(seed).permutation(len(self.train_images))[:limit]
        return replace(self, train_images=self.train_images[chosen], train_labels=self.train_labels[chosen])


def moments(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of uint8 images scaled to [0, 1], rounded to 4 digits, std at least 0.01."""
    counts = np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])]).astype(
        np.float64
    )
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
    return tuple(round(float(m), 4) for m in mean), tuple(round(max(float(s), 0.01), 4) for s in std)
