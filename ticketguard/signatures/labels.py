"""Tickets that carry a QR code: their weights follow the new mask, and their provenance says where the code lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError
from ticketguard.masks import Mask, spread
from ticketguard.signatures.position import Place
from ticketguard.signatures.qr import Embedded, embed
from ticketguard.tickets import Ticket

NOTE = "qr"


def label(
    ticket: Ticket,
    text: str,
    *,
    generator: np.random.Generator,
    rewind: Mapping[str, NDArray[Any]] | None = None,
    **options: Any,
) -> tuple[Ticket, Embedded]:
    """Write `text` into a ticket's topology, before the edge code is registered. Options: see `signatures.qr.embed`.

    With the dense `rewind` weights their magnitudes choose the positions, and new edges start from them; otherwise
    `generator` decides. The frame changes, so a registration must come after. Raises as `embed` does.
    """
    known = rewind if rewind is not None and all(name in rewind for name in ticket.mask) else None
    embedded = embed(ticket.mask, text, scores=known, generator=generator, **options)
    weights = place_weights(ticket.weights, ticket.mask, embedded, rewind=known, generator=generator)
    provenance = {**ticket.provenance, NOTE: embedded.place.to_json()}
    return replace(ticket, weights=weights, mask=embedded.mask, provenance=provenance), embedded


def place_of(ticket: Ticket) -> Place:
    """Where a ticket's QR code lies. Raises `FormatError` when it has none."""
    if NOTE not in ticket.provenance:
        raise FormatError("this ticket carries no QR code: sign it with --code qr")
    return Place.from_json(ticket.provenance[NOTE])


def place_weights(
    weights: Mapping[str, NDArray[Any]],
    before: Mask,
    embedded: Embedded,
    *,
    rewind: Mapping[str, NDArray[Any]] | None,
    generator: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """Weights on the embedded mask: emptied positions become zero, new edges take their `rewind` value.

    Where there is no rewind value (or it is zero) a new edge gets a normal one of the layer's own spread: an edge is never
    zero.
    """
    layer = embedded.place.layer
    values = np.array(weights[layer], copy=True)
    kept = embedded.mask[layer]
    new = kept & ~before[layer]
    fresh = generator.normal(0.0, spread(values, before[layer]) or 1e-3, int(new.sum()))
    if rewind is not None and layer in rewind:
        given = np.asarray(rewind[layer])[new]
        fresh = np.where(given != 0, given, fresh)
    values[new] = fresh.astype(values.dtype)
    values[~kept] = 0
    return {**weights, layer: values}
