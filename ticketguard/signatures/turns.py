"""Turned kernels: a network whose kernels are all rotated or mirrored alike answers as before to images turned the same way.

It costs a thief nothing, and moves every weight inside its cell, where the carriers are: the frame, which counts a cell as a
whole, does not see it. So the ways to turn a square are read as well, each at its own charge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.cells import Layer
from ticketguard.signatures.board import Weight

Grid = NDArray[np.int64]

# Every way to lay a square on itself but leaving it, as it acts on the last two dimensions.
TURNS: Mapping[str, Callable[[Grid], Grid]] = {
    "rotated by 90 degrees": lambda grid: np.rot90(grid, 1, (-2, -1)),
    "rotated by 180 degrees": lambda grid: np.rot90(grid, 2, (-2, -1)),
    "rotated by 270 degrees": lambda grid: np.rot90(grid, 3, (-2, -1)),
    "mirrored left to right": lambda grid: grid[..., ::-1],
    "mirrored upside down": lambda grid: grid[..., ::-1, :],
    "mirrored along one diagonal": lambda grid: grid.swapaxes(-2, -1),
    "mirrored along the other diagonal": lambda grid: np.rot90(grid, 2, (-2, -1)).swapaxes(-2, -1),
}


@dataclass(frozen=True)
class Turned:
    """A weight read as if its kernels were turned: position o of a kernel shows what is stored at `places[o]` of it."""

    weight: Weight
    places: Grid

    def gather(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The values at flat positions of the registered layout."""
        offsets = positions % len(self.places)
        return self.weight.gather(positions - offsets + self.places[offsets])


def turned(weights: Mapping[str, Weight], layers: Mapping[str, Layer], turn: str) -> dict[str, Weight]:
    """The `weights` of registered `layers` with every kernel turned as `TURNS` says; those without kernels as they are."""
    moved = turned_places(layers, turn)
    return {name: Turned(weight, moved[name]) if name in moved else weight for name, weight in weights.items()}


def turned_places(layers: Mapping[str, Layer], turn: str) -> dict[str, Grid]:
    """By layer, for every place of a kernel, where what the turn puts there is stored; of layers that the turn leaves out none.

    A kernel of one dimension is only mirrored; one that is not square does not change places of its two dimensions.
    """
    found = {}
    for name, layer in layers.items():
        shape = layer.shape[2:]
        grid = np.arange(layer.kernel, dtype=np.int64).reshape(shape if len(shape) > 1 else (1, layer.kernel))
        places = TURNS[turn](grid)
        if layer.kernel > 1 and places.shape == grid.shape:
            found[name] = np.ascontiguousarray(places).ravel()
    return found
