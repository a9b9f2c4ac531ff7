"""Which edges to drop and where to grow others, on plain arrays: the common part of the rewiring attacks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]


def smallest(scores: NDArray[Any], kept: Bits, share: float) -> Bits:
    """The stated share of the kept positions with the smallest scores, ties by position."""
    positions = np.flatnonzero(kept.ravel())
    order = np.argsort(scores.ravel()[positions], kind="stable")
    drop = np.zeros(kept.size, dtype=np.bool_)
    drop[positions[order[: round(share * positions.size)]]] = True
    return drop.reshape(kept.shape)


def regrow(kept: Bits, drop: Bits, unit: int, generator: np.random.Generator) -> Bits:
    """The mask after replacing dropped edges by random empty positions of the same unit, as far as it has empty ones.

    A unit is `unit` consecutive positions of a row; every unit keeps its count. A short last unit is padded.
    """
    rows = len(kept)
    width = kept[0].size
    pad = (0, -width % unit)
    cells = [np.pad(bits.reshape(rows, width), ((0, 0), pad)).reshape(-1, unit) for bits in (kept, drop)]
    inside = np.pad(np.ones((rows, width), np.bool_), ((0, 0), pad)).reshape(-1, unit)
    empty = inside & ~cells[0]
    moved = np.minimum(cells[1].sum(axis=1), empty.sum(axis=1))[:, None]
    grown = empty & (_rank(np.where(empty, generator.random(empty.shape), np.inf)) < moved)
    gone = cells[1] & (_rank(np.where(cells[1], generator.random(empty.shape), np.inf)) < moved)
    result: Bits = ((cells[0] & ~gone) | grown).reshape(rows, -1)[:, :width].reshape(kept.shape)
    return result


def _rank(keys: NDArray[Any]) -> NDArray[Any]:
    return np.argsort(np.argsort(keys, axis=1, kind="stable"), axis=1, kind="stable")
