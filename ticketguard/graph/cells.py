"""Cells and the frame: the public geometry of a ticket, which no signature ever changes (docs/protocol.md, Carriers)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError

DEFAULT_BLOCK = 8
# Positions that are counted at a time.
PART = 1 << 20

# Kept weights of every cell, by layer: int64 (rows, cells of a row).
Counts = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One prunable parameter as a matrix of `rows` output units by `fan_in` weights, cut into cells.

    `cell` is the number of consecutive positions in a full cell: the whole kernel of one (output, input) channel pair when a
    kernel has at least two positions, otherwise a block of consecutive inputs of one row. When `cell` does not divide
    `fan_in` the last cell of each row is shorter: it counts in the frame but carries nothing.
    """

    name: str
    shape: tuple[int, ...]
    cell: int

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or min(self.shape) < 1 or self.cell < 1:
            raise UsageError(f"layer {self.name}: a prunable parameter has at least two dimensions, found {self.shape}")

    @property
    def rows(self) -> int:
        """Number of output units."""
        return self.shape[0]

    @property
    def fan_in(self) -> int:
        """Number of weights of one output unit."""
        return prod(self.shape[1:])

    @property
    def positions(self) -> int:
        """Number of weights in the layer."""
        return prod(self.shape)

    @property
    def kernel(self) -> int:
        """Positions of one (output, input) kernel; 1 for linear layers and 1 x 1 convolutions."""
        return prod(self.shape[2:])

    @property
    def cells_per_row(self) -> int:
        """Cells of one row, a short last one included."""
        return -(-self.fan_in // self.cell)

    @property
    def full_cells(self) -> int:
        """Number of full cells in the layer; these are numbered row-major and carry pairs."""
        return self.rows * (self.fan_in // self.cell)

    def positions_of(self, cells: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat (C-order) weight indices of `offsets` inside full cells number `cells`; both int64 of one shape."""
        full = self.fan_in // self.cell
        return (cells // full) * self.fan_in + (cells % full) * self.cell + offsets


def layer_of(name: str, shape: tuple[int, ...], *, block: int = DEFAULT_BLOCK) -> Layer:
    """The layer of a parameter: cells are kernels when they have two positions or more, else blocks of `block` inputs."""
    kernel = prod(shape[2:])
    return Layer(name=name, shape=tuple(shape), cell=kernel if kernel >= 2 else min(block, prod(shape[1:])))


def cell_counts(layer: Layer, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Kept weights in every cell: int64 matrix of `rows` x `cells_per_row`. `kept` has the layer's shape."""
    matrix = np.asarray(kept).reshape(layer.rows, layer.fan_in)
    starts = np.arange(0, layer.fan_in, layer.cell)
    counts = np.empty((layer.rows, len(starts)), dtype=np.int64)
    # Numpy widens what it adds, so a large layer is counted some rows at a time.
    step = max(1, PART // max(1, layer.fan_in))
    for start in range(0, layer.rows, step):
        counts[start : start + step] = np.add.reduceat(matrix[start : start + step], starts, axis=1, dtype=np.int64)
    return counts
