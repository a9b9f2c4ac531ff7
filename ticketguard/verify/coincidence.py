"""Coincidence: whether a suspect has the very edges of an original, position by position, beyond what a mark moved there.

A frame can be hidden in a suspect, by edges in other cells, and a stolen ticket be fitted into another frame. The edges that do
the work then still lie where they lay in the original.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.registration import Registration
from ticketguard.graph.cells import Counts, Layer, cell_counts
from ticketguard.graph.support import suspect_support
from ticketguard.signatures.board import Weight
from ticketguard.tickets import Weights
from ticketguard.verify.aligned import align_suspect
from ticketguard.verify.suspect import effective_weights, locate

# A mark moved into somebody else's model makes 0.12 to 0.16; a model fitted into another frame keeps 0.78 (docs/design.md).
MOST_COINCIDENCE = 0.3
# A suspect's largest edges, in multiples of the original's number; and all: noise below and loud edges above hide nothing.
MULTIPLES = (1, 2, 4)
# Where counts leave less to chance than this share of the original's edges, nothing is measured.
LEAST_ROOM = 0.05


def coincidence(weights: Weights, original: Weights, registered: Registration, reference: Counts) -> float:
    """Edges of `original` that `weights` has in the same positions: 0 as by chance inside cells, 1 as many as counts allow.

    Chance and most are those of the two models' counts in every cell, so frames that differ are no difference. As stored or
    aligned to the original's frame, and of the suspect's largest edges or all, whichever is largest.
    """
    own = locate(effective_weights(original, registered.layers), registered.layers).weights
    effective = effective_weights(weights, registered.layers)
    views = (
        locate(effective, registered.layers).weights,
        align_suspect(effective, registered, reference).weights,
    )
    return max(
        (_of(view, own, registered.layers, multiple) for view in views for multiple in (*MULTIPLES, None)), default=0.0
    )


def _of(
    view: Mapping[str, Weight], own: Mapping[str, Weight], layers: Mapping[str, Layer], multiple: int | None
) -> float:
    shared, chance, most, edges = 0.0, 0.0, 0.0, 0
    for name in view.keys() & own.keys():
        layer = layers[name]
        kept = _values(own[name], layer) != 0
        values = _values(view[name], layer)
        found = suspect_support(values, layer.positions if multiple is None else multiple * int(kept.sum()))
        theirs, ours = cell_counts(layer, found), cell_counts(layer, kept)
        sizes = cell_counts(layer, np.ones(layer.shape, dtype=np.bool_))
        edges += int(kept.sum())
        shared += float((found & kept).sum())
        chance += float((theirs * ours / sizes).sum())
        most += float(np.minimum(theirs, ours).sum())
    room = most - chance
    return (shared - chance) / room if room > LEAST_ROOM * edges else 0.0


def _values(weight: Weight, layer: Layer) -> NDArray[np.float64]:
    return np.asarray(weight.gather(np.arange(layer.positions)), dtype=np.float64).reshape(layer.shape)
