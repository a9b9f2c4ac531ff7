"""The schedule: triggers and decoys in an order from the stream, so that a service cannot tell which queries
count.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.opening import Opening
from ticketguard.errors import UsageError
from ticketguard.triggers.plan import MOST_PER_LEAF, TriggerPlan, image_digest
from ticketguard.triggers.render import Images, draw_images, render

ORDER_LABEL = "probe/order/"
DECOYS_LABEL = "probe/decoys/"
MOST_REPEATS = 9


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What a schedule follows from, beside the opening: recorded in the transcript's first line.

    `salt`: hex text that makes this session's order its own; `decoys`: number of decoy images; `repeats`: how often
    every image is asked (twice or more shows inconsistent services); `own_decoys`: decoys are the caller's images,
    not drawn.
    """

    salt: str
    decoys: int
    repeats: int = 1
    own_decoys: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.salt, str) or not 8 <= len(self.salt) <= 64 or not self.salt.isalnum():
            raise UsageError("schedule: the salt is 8 to 64 letters and digits")
        numbers = (self.decoys, self.repeats)
        if not all(type(number) is int for number in numbers) or type(self.own_decoys) is not bool:
            raise UsageError("schedule: decoys and repeats are integers")
        if not 0 <= self.decoys <= MOST_PER_LEAF or not 1 <= self.repeats <= MOST_REPEATS:
            raise UsageError(f"schedule: up to {MOST_PER_LEAF} decoys, 1 to {MOST_REPEATS} repeats")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Queries in order.

    `images` uint8 (m, C, H, W) and their hex `digests`: triggers first, then decoys; `targets` int64 (t,) for the
    triggers; `order` int64 (m * repeats,): which image each query shows. `scope`: "pooled" or the one revealed leaf.
    """

    images: Images
    digests: tuple[str, ...]
    targets: NDArray[np.int64]
    order: NDArray[np.int64]
    scope: str
    classes: tuple[str, ...]
    parameters: Parameters

    @cached_property
    def copies(self) -> dict[int, tuple[int, ...]]:
        """The queries that show each image, in order; images in the order in which they are first asked."""
        found: dict[int, list[int]] = {}
        for number, image in enumerate(self.order.tolist()):
            found.setdefault(image, []).append(number)
        return {image: tuple(numbers) for image, numbers in found.items()}

    @cached_property
    def triggers(self) -> tuple[int, ...]:
        """The images that are triggers, in the order of their last copies."""
        asked = (image for image in self.copies if image < len(self.targets))
        return tuple(sorted(asked, key=lambda image: self.copies[image][-1]))

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the image digests in the order they are asked."""
        return hashlib.sha256("".join(self.digests[image] for image in self.order).encode()).hexdigest()


def one_leaf(opening: Opening, leaf: int | None) -> Opening:
    """The opening restricted to one leaf, so that a probe burns no other; unchanged for None."""
    if leaf is None:
        return opening
    if leaf not in opening.leaves:
        raise UsageError(f"leaf {leaf} is not open: choose one of {', '.join(map(str, sorted(opening.leaves)))}")
    return replace(opening, leaves={leaf: opening.leaves[leaf]})


def make_schedule(
    opening: Opening,
    plan: TriggerPlan,
    parameters: Parameters,
    *,
    own_images: Images | None = None,
    own_decoys: Images | None = None,
) -> Schedule:
    """Triggers of the open leaves and decoys, shuffled by the first open leaf's stream.

    Decoys are drawn like triggers, from another stream, unless the caller's own are given (uint8, same shape,
    different from every trigger); with natural-looking triggers of the owner's, give natural-looking decoys.
    """
    triggers = render(opening, plan, own_images=own_images)
    leaves = sorted(opening.leaves)
    if 1 < len(leaves) < plan.leaves:
        raise UsageError("a probe uses one leaf or all of them")
    if parameters.own_decoys:
        decoys = _checked(own_decoys, parameters.decoys, plan)
    elif parameters.decoys:
        drawn = replace(plan, per_leaf=parameters.decoys, leaves=1, source="rendered", digests=None)
        decoys = draw_images(opening.stream(DECOYS_LABEL + parameters.salt, leaves[0]), drawn)
    else:
        decoys = np.empty((0, *plan.shape), dtype=np.uint8)
    images = np.concatenate([triggers.images, decoys])
    digests = tuple(image_digest(image) for image in images)
    if len(set(digests)) != len(digests):
        raise UsageError("schedule: an image occurs twice among triggers and decoys")
    keys = opening.stream(ORDER_LABEL + parameters.salt, leaves[0]).words(len(images) * parameters.repeats)
    return Schedule(
        images=images,
        digests=digests,
        targets=triggers.labels,
        order=np.argsort(keys, kind="stable").astype(np.int64) % len(images),
        scope="pooled" if len(leaves) == plan.leaves else f"leaf {leaves[0]}",
        classes=plan.classes,
        parameters=parameters,
    )


def _checked(decoys: Images | None, count: int, plan: TriggerPlan) -> Images:
    if decoys is None or decoys.dtype != np.uint8 or decoys.shape != (count, *plan.shape):
        found: Any = None if decoys is None else decoys.shape
        raise UsageError(f"schedule: {count} decoy images uint8 of shape {plan.shape} are needed, found {found}")
    return decoys
