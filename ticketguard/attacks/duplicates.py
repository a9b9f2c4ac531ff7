"""The duplicate-value eraser: find moved edges by values that occur twice, and move them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.graph.cells import Layer, layer_of
from ticketguard.signatures.edge import Positions
from ticketguard.tickets import Weights


@dataclass(frozen=True, kw_only=True, repr=False)
class DuplicateEraser(Attack):
    """Look inside every cell for two equal non-zero values in the released rewind (or trained) weights; where one belongs to an
    edge, move that edge to the other place.

    Source: our own attack on a naive embedding that moved the value along with the edge (it undid 528 of 528 moves). Costs
    nothing. Must find nothing on a properly signed ticket, where a new edge starts from its own rewind value.
    """

    name: ClassVar[str] = "duplicate-eraser"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def run(self, victim: Victim) -> Attacked:
        """Undo every move that a duplicate betrays."""
        weights = victim.weights()
        for name, (edge, place) in suspicious(victim.rewind or victim.model.weights, victim).items():
            flat = weights[name].ravel()
            flat[place], flat[edge] = flat[edge], 0
            weights[name] = flat.reshape(weights[name].shape)
        return unchanged_cost(victim, weights)


def suspicious(source: Weights, victim: Victim) -> dict[str, tuple[Positions, Positions]]:
    """By layer, flat positions of edges and of the places in their cells that show the same value in `source`."""
    found = {}
    for name, kept in victim.model.mask.items():
        if name in source and np.shape(source[name]) == kept.shape and kept.ndim >= 2:
            pairs = _pairs(np.asarray(source[name]).ravel(), kept.ravel(), layer_of(name, kept.shape))
            found[name] = pairs
    return found


def _pairs(values: np.ndarray, kept: np.ndarray, layer: Layer) -> tuple[Positions, Positions]:
    cells = np.arange(layer.full_cells)
    edges, places = [], []
    for shift in range(1, layer.cell):
        for offset in range(layer.cell):
            here = layer.positions_of(cells, np.full_like(cells, offset))
            there = layer.positions_of(cells, np.full_like(cells, (offset + shift) % layer.cell))
            same = (values[here] == values[there]) & (values[here] != 0) & kept[here] & ~kept[there]
            edges.append(here[same])
            places.append(there[same])
    return np.concatenate([np.empty(0, np.int64), *edges]), np.concatenate([np.empty(0, np.int64), *places])
