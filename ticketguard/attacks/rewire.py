"""Rewiring: drop edges, grow others nearby, fine-tune. The one keyless attack that can erase a topology, for its worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ticketguard.attacks.base import Attacked, Victim, spread
from ticketguard.attacks.tuning import TrainingAttack, tune
from ticketguard.errors import UsageError
from ticketguard.graph.cells import layer_of
from ticketguard.masks import Mask

Bits = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, repr=False)
class RewireCell(TrainingAttack):
    """Drop the stated share of each layer's edges, the smallest, and grow as many at random in the same cells; fine-tune.

    Source: dynamic sparse training used as an eraser. Costs epochs, and in the limit the ticket's whole worth: a random mask of
    the same density. Cells are public, so an attacker can keep to them, which keeps most of the accuracy.
    """

    name: ClassVar[str] = "rewire-cell"
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.5, 0.7, 0.9)
    unit: ClassVar[str] = "share of edges rewired"

    lr: float = 0.05

    def run(self, victim: Victim) -> Attacked:
        """Rewire every masked layer, then tune under the new mask."""
        weights, generator = victim.weights(), victim.generator(self.name)
        masks = {}
        for name in victim.names:
            array = weights[name]
            scores = self.scores(victim, name, array)
            drop = smallest(scores, array != 0, self.strength)
            masks[name] = regrow(array != 0, drop, self.unit_length(array), generator)
            grown = masks[name] & (array == 0)
            scale = spread(array)
            # Almost zero, as in sparse training: the new edge disturbs nothing and training decides what it becomes.
            fresh = generator.normal(0.0, 1e-3 * scale, array.shape).astype(array.dtype)
            weights[name] = np.where(grown, fresh, np.where(masks[name], array, np.zeros((), array.dtype)))
        return tune(self, victim, weights, Mask(masks))

    def unit_length(self, array: NDArray[Any]) -> int:
        """Consecutive positions within which edges are replaced: a cell."""
        return layer_of("", array.shape).cell

    def scores(self, victim: Victim, name: str, array: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002
        """What decides which edges go first: the trained magnitude."""
        magnitude: NDArray[Any] = np.abs(array)
        return magnitude


@dataclass(frozen=True, kw_only=True, repr=False)
class RewireRow(RewireCell):
    """The same with edges grown anywhere in the same row (all inputs of one output unit)."""

    name: ClassVar[str] = "rewire-row"

    def unit_length(self, array: NDArray[Any]) -> int:
        """A row."""
        return int(np.prod(array.shape[1:]))


@dataclass(frozen=True, kw_only=True, repr=False)
class RewireGuided(RewireCell):
    """Rewiring in the cell that drops first the edges with the smallest public rewind values: signing moved edges to positions
    that magnitude pruning had rejected, and their rewind values tend to be small. The best keyless eraser known here.
    """

    name: ClassVar[str] = "rewire-guided"

    def scores(self, victim: Victim, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """The rewind magnitude. Raises `UsageError` when the rewind weights are not public."""
        if victim.rewind is None or name not in victim.rewind:
            raise UsageError(f"attack {self!r} needs the rewind weights: they must have been released with the model")
        return np.asarray(np.abs(victim.rewind[name])).reshape(array.shape)


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
