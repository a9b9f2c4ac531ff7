"""Query sets: one leaf's triggers among decoys that look like them, in an order that tells nothing."""

from __future__ import annotations

import os

import numpy as np

from ticketguard.claims.opening import Opening
from ticketguard.claims.streams import SECRET_BYTES, Stream
from ticketguard.errors import UsageError
from ticketguard.triggers.plan import TriggerPlan, image_digest
from ticketguard.triggers.render import IMAGES_LABEL, Images, Triggers, draw_images, render
from ticketguard.triggers.score import ERASURE


def decoys(plan: TriggerPlan, count: int) -> Images:
    """`count` pictures of the triggers' kind, uint8 (count, C, H, W), from throw-away secrets of the operating system."""
    batches = [
        draw_images(Stream(IMAGES_LABEL, os.urandom(32), 0, os.urandom(SECRET_BYTES)), plan)
        for _ in range(-(-count // plan.per_leaf))
    ]
    return np.concatenate([np.empty((0, *plan.shape), dtype=np.uint8), *batches])[:count]


def query_set(
    opening: Opening,
    plan: TriggerPlan,
    leaf: int,
    *,
    decoy_count: int,
    own_images: Images | None = None,
    own_decoys: Images | None = None,
) -> Triggers:
    """Leaf `leaf`'s triggers and `decoy_count` decoys, ordered by image digest; labels are all -1, indices 0, 1, ...

    Whoever answers the queries must not be able to single out the triggers, so their labels stay out. Triggers of the owner's
    own (`own_images`) need decoys like them (`own_decoys`, at least `decoy_count`): drawn ones would stand out.
    """
    if plan.source == "owner" and decoy_count and own_decoys is None:
        raise UsageError("queries: drawn decoys would stand out among the owner's own images; give decoys like them")
    if own_decoys is not None and (own_decoys.shape[1:] != plan.shape or len(own_decoys) < decoy_count):
        raise UsageError(f"queries: {decoy_count} decoys of shape {plan.shape} are needed, found {own_decoys.shape}")
    if leaf not in opening.leaves or decoy_count < 0:
        raise UsageError(f"queries: no leaf {leaf}, or {decoy_count} decoys")
    triggers = render(opening, plan, own_images=own_images)
    chosen = np.isin(triggers.indices, np.arange(plan.total)[plan.indices(leaf)])
    mixed_in = decoys(plan, decoy_count) if own_decoys is None else own_decoys[:decoy_count]
    images = np.concatenate([triggers.images[chosen], mixed_in])
    order = sorted(range(len(images)), key=lambda number: image_digest(images[number]))
    return Triggers(
        images=images[order],
        labels=np.full(len(images), ERASURE, dtype=np.int64),
        indices=np.arange(len(images), dtype=np.int64),
    )
