"""Query sets: one leaf's triggers among decoys that look like them, in an order that tells nothing."""

from __future__ import annotations

import os

import numpy as np

from ticketguard.claims.opening import Opening
from ticketguard.claims.streams import SECRET_BYTES, Stream
from ticketguard.errors import UsageError
from ticketguard.triggers.plan import TriggerPlan, image_digest
from ticketguard.triggers.render import IMAGES_LABEL, Images, Triggers, draw_images, render


def decoys(plan: TriggerPlan, count: int) -> Images:
    """`count` pictures of the triggers' kind, uint8 (count, C, H, W), from throw-away secrets of the operating system."""
    batches = [
        draw_images(Stream(IMAGES_LABEL, os.urandom(32), 0, os.urandom(SECRET_BYTES)), plan)
        for _ in range(-(-count // plan.per_leaf))
    ]
    return np.concatenate([np.empty((0, *plan.shape), dtype=np.uint8), *batches])[:count]


def query_set(opening: Opening, plan: TriggerPlan, leaf: int, *, decoy_count: int) -> Triggers:
    """Leaf `leaf`'s triggers and `decoy_count` decoys, ordered by image digest; labels are all -1, indices 0, 1, ...

    Whoever answers the queries must not be able to single out the triggers, so their labels stay out.
    """
    if plan.source != "rendered":
        raise UsageError(
            "queries: decoys look like rendered triggers, these are the owner's own images; mix them by hand"
        )
    if leaf not in opening.leaves or decoy_count < 0:
        raise UsageError(f"queries: no leaf {leaf}, or {decoy_count} decoys")
    triggers = render(opening, plan)
    chosen = np.isin(triggers.indices, np.arange(plan.total)[plan.indices(leaf)])
    images = np.concatenate([triggers.images[chosen], decoys(plan, decoy_count)])
    order = sorted(range(len(images)), key=lambda number: image_digest(images[number]))
    return Triggers(
        images=images[order],
        labels=np.full(len(images), -1, dtype=np.int64),
        indices=np.arange(len(images), dtype=np.int64),
    )
