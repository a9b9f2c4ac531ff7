"""Rewiring: drop edges, grow others nearby, fine-tune. The one keyless attack that can erase a topology, for its worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.regrowing import regrow, smallest
from ticketguard.attacks.tuning import TrainingAttack, tune
from ticketguard.errors import UsageError
from ticketguard.graph.cells import layer_of
from ticketguard.masks import Mask, spread


@dataclass(frozen=True, kw_only=True, repr=False)
class RewireCell(TrainingAttack):
    """Drop the stated share of each layer's edges, the smallest, and grow as many at random in the same cells; fine-tune.

    Source: dynamic sparse training used as an eraser. Costs epochs, and in the limit the ticket's whole worth: a random mask of
    the same density. Cells are public, so an attacker can keep to them, which keeps most of the accuracy.
    `start`: spread of the new edges' first values, as a share of the kept weights' spread.
    """

    name: ClassVar[str] = "rewire-cell"
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.5, 0.7, 0.9)
    unit: ClassVar[str] = "share of edges rewired"

    lr: float = 0.05
    # Almost zero, as in sparse training: the new edge disturbs nothing and training decides what it becomes.
    start: float = 1e-3

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
            fresh = generator.normal(0.0, self.start * spread(array, array != 0), array.shape).astype(array.dtype)
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


@dataclass(frozen=True, kw_only=True, repr=False)
class RewireLoud(RewireCell):
    """Rewiring in the cell whose new edges start as large as the kept ones: aimed at the magnitude test, which believes large
    edges. What it adds is noise that training has to undo: see what it costs on a network that needs its capacity.
    """

    name: ClassVar[str] = "rewire-loud"

    start: float = 1.0
