"""The trigger plan: what a registration fixes about its triggers before a single one of them exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims import manifest
from ticketguard.claims.registration import Registration
from ticketguard.errors import FormatError, UsageError
from ticketguard.evidence import Rule
from ticketguard.tails import log2_binomial_tail

MATCH_RATE = 0.85
RAW_BAR_BITS = Rule().bar_bits
# Sizes come in multiples of this: a plan should not depend on the last trigger.
STEP = 8
MOST_PER_LEAF = 4096
MOST_PIXELS = 1 << 28
SOURCES = ("rendered", "owner")
FIELDS = ("source", "perLeaf", "shape", "preprocess")


@dataclass(frozen=True, kw_only=True)
class TriggerPlan:
    """`per_leaf` triggers for each of `leaves` leaves: uint8 images of `shape` (C, H, W), labels among `classes`.

    Trigger i of leaf j has the pooled index `j * per_leaf + i`. `preprocess` is plain JSON: what stands between these
    pixels and the model, "mean" and "std" per channel for pixels scaled to [0, 1], and what a service's input needs
    besides (`ticketguard.probe.adapters`). `source` is "rendered", or "owner" for the owner's own images, whose
    digests are then registered in `digests`, in pooled order.
    """

    per_leaf: int
    leaves: int
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    source: str = "rendered"
    digests: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        pixels = self.total * int(np.prod(self.shape, dtype=np.float64))
        if (
            not 1 <= self.per_leaf <= MOST_PER_LEAF
            or len(self.shape) != 3
            or min(self.shape) < 1
            or pixels > MOST_PIXELS
        ):
            raise UsageError(f"triggers: {self.per_leaf} images of shape {self.shape} for a leaf are out of range")
        if len(self.classes) < 2:
            raise UsageError("triggers: a task needs at least two classes to have triggers")
        if self.source not in SOURCES or (self.source == "owner") != (self.digests is not None):
            raise UsageError("triggers: digests belong to an owner's own images, and to nothing else")
        if self.digests is not None and (len(self.digests) != self.total or len(set(self.digests)) != self.total):
            raise UsageError(f"triggers: {self.total} different images are needed, {len(set(self.digests))} were given")

    @property
    def total(self) -> int:
        """Triggers over all leaves."""
        return self.per_leaf * self.leaves

    def indices(self, leaf: int) -> slice:
        """Where a leaf's triggers lie in the pooled order."""
        return slice(leaf * self.per_leaf, (leaf + 1) * self.per_leaf)

    def to_json(self) -> dict[str, Any]:
        """The `triggers` field of a registration; classes, leaves and digests have fields of their own there."""
        return {
            "source": self.source,
            "perLeaf": self.per_leaf,
            "shape": list(self.shape),
            "preprocess": dict(self.preprocess),
        }


def needed_per_leaf(classes: int, *, bar_bits: float = RAW_BAR_BITS, rate: float = MATCH_RATE) -> int:
    """Triggers per leaf with which one leaf alone passes the raw bar at a share `rate` of matches.

    The smallest multiple of 8 from which on `floor(rate * t)` matches of t give `bar_bits`: 64 for ten classes and
    126 bits.
    """
    if classes < 2 or not 0.5 < rate <= 1 or rate * classes <= 1:
        raise UsageError(f"triggers: {classes} classes at a match rate of {rate} can prove nothing")
    for count in range(STEP, MOST_PER_LEAF + 1, STEP):
        if -log2_binomial_tail(int(rate * count), count, chances=classes) >= bar_bits:
            return count
    raise UsageError(f"triggers: no number up to {MOST_PER_LEAF} passes a bar of {bar_bits:.0f} bits")


def make_plan(
    shape: tuple[int, int, int],
    classes: Sequence[str],
    *,
    leaves: int,
    bar_bits: float = RAW_BAR_BITS,
    preprocess: Mapping[str, Any] | None = None,
    own_images: NDArray[np.uint8] | None = None,
) -> TriggerPlan:
    """The plan for a task with input `shape` (C, H, W) and `classes` in order, one leaf of which passes `bar_bits`.

    With `own_images`, uint8 (leaves * t, C, H, W) and all different, those are registered by digest in place of
    rendered ones; they need as many a leaf as rendered ones would. Raises `UsageError` when they do not fit.
    """
    per_leaf = needed_per_leaf(len(classes), bar_bits=bar_bits)
    digests = None
    if own_images is not None:
        if own_images.dtype != np.uint8 or own_images.shape[1:] != shape or len(own_images) < leaves * per_leaf:
            raise UsageError(
                f"triggers: {leaves * per_leaf} uint8 images of shape {shape} are needed for {leaves} leaves, "
                f"found {own_images.dtype} {own_images.shape}"
            )
        digests = tuple(image_digest(image) for image in own_images[: leaves * per_leaf])
    return TriggerPlan(
        per_leaf=per_leaf,
        leaves=leaves,
        shape=shape,
        classes=tuple(classes),
        preprocess=dict(preprocess or {}),
        source="rendered" if digests is None else "owner",
        digests=digests,
    )


def image_digest(image: NDArray[np.uint8]) -> str:
    """Hex SHA-256 tensor digest of one uint8 image (C, H, W)."""
    return manifest.tensor_digest("image", "U8", image.shape, np.ascontiguousarray(image).tobytes()).hex()


def plan_of(registration: Registration) -> TriggerPlan | None:
    """The plan in a registration; None when it has no triggers. Raises `FormatError` for a malformed one."""
    fields = registration.triggers
    if fields is None:
        return None
    if sorted(fields) != sorted(FIELDS) or registration.classes is None:
        raise FormatError(f"registration: triggers need class names and exactly the fields {', '.join(FIELDS)}")
    shape, per_leaf, preprocess = fields["shape"], fields["perLeaf"], fields["preprocess"]
    if not isinstance(shape, list) or not all(type(size) is int for size in [*shape, per_leaf]):
        raise FormatError("registration: trigger shape and number are not integers")
    if not isinstance(preprocess, dict) or not all(_numbers(preprocess.get(key, [])) for key in ("mean", "std")):
        raise FormatError("registration: trigger preprocessing is malformed")
    try:
        return TriggerPlan(
            per_leaf=per_leaf,
            leaves=registration.leaves,
            shape=tuple(shape),
            classes=registration.classes,
            preprocess=preprocess,
            source=fields["source"],
            digests=registration.carriers,
        )
    except (UsageError, TypeError) as problem:
        raise FormatError(f"registration: {problem}") from problem


def required_plan(registration: Registration) -> TriggerPlan:
    """As `plan_of`; raises `UsageError` when the registration has no triggers."""
    plan = plan_of(registration)
    if plan is None:
        raise UsageError("this registration has no triggers: only weights can be tested against it")
    return plan


def _numbers(values: object) -> bool:
    return isinstance(values, list) and all(type(value) in (int, float) and isfinite(value) for value in values)
