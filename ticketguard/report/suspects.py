"""Pictures of a suspect for its page: the frames of its largest registered layers, and its QR code where one is registered."""

from __future__ import annotations

import numpy as np

from ticketguard.claims.registration import Registration
from ticketguard.errors import TicketguardError
from ticketguard.graph.cells import cell_counts
from ticketguard.report.pictures import Picture, mask_picture, qr_picture
from ticketguard.signatures import qr
from ticketguard.signatures.position import Place
from ticketguard.tickets import Weights
from ticketguard.verify.suspect import effective_weights, locate

# Reading a layer whole takes time and memory: larger ones are not drawn.
MOST_POSITIONS = 1 << 23
LAYERS = 2


def pictures_of(weights: Weights, registered: Registration) -> list[Picture]:
    """What a suspect's registered layers look like as stored; empty when none was found under its shape."""
    effective = effective_weights(weights, registered.layers)
    located = locate(effective, registered.layers).weights
    fitting = [
        layer for name, layer in registered.layers.items() if name in located and layer.positions <= MOST_POSITIONS
    ]
    largest = sorted(fitting, key=lambda layer: -layer.rows * layer.cells_per_row)[:LAYERS]
    pictures = [
        mask_picture(layer.name, cell_counts(layer, located[layer.name].array().reshape(layer.shape) != 0))
        for layer in registered.layers.values()
        if layer in largest
    ]
    if registered.qr is not None:
        place = Place.from_json(dict(registered.qr))
        if place.layer in located:
            pictures += _label({place.layer: located[place.layer].array()}, place)
    return pictures


def _label(weights: Weights, place: Place) -> list[Picture]:
    """The picture of the QR code; none when it cannot be read here, because a page must not fail for a label."""
    try:
        reading = qr.read({name: np.asarray(weights[name]) for name in weights}, place)
    except TicketguardError:
        return []
    return [qr_picture(reading.picture, title=f"QR code in {place.layer} ({reading.note})", text=reading.text)]
