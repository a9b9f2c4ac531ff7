"""Rendering: trigger images and labels from a leaf's streams, in integer arithmetic so that every machine draws the
same.

A picture is a mosaic of 4 x 4 fields of strong colours, shaded by a wave, with a disc or a box on top: bold enough
for a small network to learn by heart at little cost to its task (finer or paler pictures were learnt worse), and
different from picture to picture. Labels come from another stream, uniform over the classes: for a model made without
the secret they are fair dice, whatever the pictures look like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.opening import Opening
from ticketguard.errors import DataError, UsageError
from ticketguard.triggers.plan import TriggerPlan, image_digest

IMAGES_LABEL = "triggers/images"
TARGETS_LABEL = "triggers/labels"
FIELDS = 4
WORDS_PER_CHANNEL = FIELDS * FIELDS + 4 + 1
WORDS_PER_SHAPE = 5
PIXELS_AT_ONCE = 1 << 20

Ints = NDArray[np.int64]
Images = NDArray[np.uint8]


class Source(Protocol):
    """A stream of the claims layer: the same words and draws every time it is asked."""

    def words(self, count: int) -> NDArray[np.uint64]:
        """The first `count` words."""
        ...

    def below(self, n: int, count: int) -> Ints:
        """The first `count` uniform integers in [0, n)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Triggers:
    """Triggers in pooled order: `images` uint8 (t, C, H, W), target `labels` int64 (t,), pooled `indices` int64
    (t,).
    """

    images: Images
    labels: Ints
    indices: Ints


def render(opening: Opening, plan: TriggerPlan, *, own_images: Images | None = None) -> Triggers:
    """Every trigger of the revealed leaves. `own_images`, in pooled order, are needed when the plan registered digests.

    Raises `UsageError` when they are missing and `DataError` when an image of these leaves is not the registered one.
    """
    leaves = sorted(opening.leaves)
    indices = np.concatenate([np.arange(plan.total, dtype=np.int64)[plan.indices(leaf)] for leaf in leaves])
    labels = targets(opening, plan)
    if plan.source == "owner":
        images = _checked(own_images, plan, indices)
    else:
        images = np.concatenate([draw_images(opening.stream(IMAGES_LABEL, leaf), plan) for leaf in leaves])
    return Triggers(images=images, labels=np.concatenate([labels[leaf] for leaf in leaves]), indices=indices)


def in_order(images: Images, plan: TriggerPlan) -> Images:
    """The owner's own images in pooled order, uint8 (total, C, H, W), found by their digests.

    Black where one is not among `images`, so that a judge needs those of the revealed leaf only; `render` refuses a black one.
    """
    found = {image_digest(image): image for image in images}
    absent = np.zeros(plan.shape, dtype=np.uint8)
    return np.stack([found.get(digest, absent) for digest in plan.digests or ()])


def targets(opening: Opening, plan: TriggerPlan) -> dict[int, Ints]:
    """Target labels by revealed leaf, int64 (per_leaf,); images are not needed for scoring."""
    return {leaf: draw_labels(opening.stream(TARGETS_LABEL, leaf), plan) for leaf in sorted(opening.leaves)}


def draw_labels(stream: Source, plan: TriggerPlan) -> Ints:
    """One leaf's labels: uniform over the classes, by rejection sampling."""
    return stream.below(len(plan.classes), plan.per_leaf)


def draw_images(stream: Source, plan: TriggerPlan) -> Images:
    """One leaf's images, uint8 (per_leaf, C, H, W); `WORDS_PER_*` words of the stream for each."""
    channels, height, width = plan.shape
    each = channels * WORDS_PER_CHANNEL + WORDS_PER_SHAPE
    words = stream.words(plan.per_leaf * each).reshape(plan.per_leaf, each)
    # A chunk at a time: the intermediate arrays have eight bytes a pixel.
    chunk = max(1, PIXELS_AT_ONCE // (channels * height * width))
    parts = [_pictures(words[start : start + chunk], plan.shape) for start in range(0, plan.per_leaf, chunk)]
    return np.concatenate(parts)


def _pictures(words: NDArray[np.uint64], size: tuple[int, int, int]) -> Images:
    """One picture from each row of words."""
    channels, height, width = size
    # 32 bits are plenty and keep every product below far inside int64.
    numbers = (words >> np.uint64(32)).astype(np.int64)
    shape, colour = numbers[:, :WORDS_PER_SHAPE, None, None], numbers[:, WORDS_PER_SHAPE:]
    # Coordinates on a grid of 256 x 256, whatever the image's size: (1, 1, H, 1) and (1, 1, 1, W).
    down = ((np.arange(height, dtype=np.int64) * 2 + 1) * 128 // height)[None, None, :, None]
    across = ((np.arange(width, dtype=np.int64) * 2 + 1) * 128 // width)[None, None, None, :]
    colours = colour.reshape(len(words), channels, WORDS_PER_CHANNEL, 1, 1)
    levels = _strong(colours[:, :, : FIELDS * FIELDS, 0, 0]).reshape(len(words), channels, FIELDS, FIELDS)
    mosaic = levels[:, :, down[0, 0] * FIELDS // 256, across[0, 0] * FIELDS // 256]
    shaded = (7 * mosaic + _wave(colours[:, :, FIELDS * FIELDS : -1], down, across)) // 8
    return np.where(_shape(shape, down, across), _strong(colours[:, :, -1]), shaded).astype(np.uint8)


def _strong(words: Ints) -> Ints:
    """Levels 0..255, half of them at an end of the range."""
    return np.clip(words % 512 - 128, 0, 255)


def _wave(words: Ints, down: Ints, across: Ints) -> Ints:
    """Triangle waves 0..255 of any direction and phase: (t, C, H, W) from four words a channel."""
    slope_down, slope_across = words[:, :, 0] % 33 - 16, words[:, :, 1] % 33 - 16
    height = (slope_down * down + slope_across * across) // 8 + words[:, :, 2] % 512
    return np.minimum(np.abs(height % 512 - 256), 255) * (words[:, :, 3] % 256) // 255


def _shape(words: Ints, down: Ints, across: Ints) -> NDArray[np.bool_]:
    """The inside of an ellipse or a box, (t, 1, H, W) from five words an image."""
    half_height, half_width = words[:, 2:3] % 48 + 24, words[:, 3:4] % 48 + 24
    y, x = np.abs(down - words[:, :1] % 256), np.abs(across - words[:, 1:2] % 256)
    box = (y <= half_height) & (x <= half_width)
    ellipse = (y * half_width) ** 2 + (x * half_height) ** 2 <= (half_height * half_width) ** 2
    return np.asarray(np.where(words[:, 4:5] % 2 == 0, box, ellipse))


def _checked(images: Images | None, plan: TriggerPlan, indices: Ints) -> Images:
    if images is None or plan.digests is None:
        raise UsageError("triggers: this registration uses the owner's own images: give them, in the registered order")
    if images.dtype != np.uint8 or images.shape != (plan.total, *plan.shape):
        raise DataError(f"triggers: expected {plan.total} uint8 images of shape {plan.shape}, found {images.shape}")
    for number in indices.tolist():
        if image_digest(images[number]) != plan.digests[number]:
            raise DataError(f"triggers: image {number} is missing, or not the one that was registered")
    return images[indices]
