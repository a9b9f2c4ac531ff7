"""Containment: whether one committed frame lies inside another, cell by cell, as what was pruned from it does.

Two frames that overlap may come from one ancestor. Signing keeps every cell's count and pruning only lowers it, while two
prunings of one ancestor each keep edges that the other dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.registration import Registration
from ticketguard.graph.cells import Counts, cell_counts
from ticketguard.tickets import Weights
from ticketguard.verify.aligned import align_suspect
from ticketguard.verify.suspect import effective_weights, locate

# Of the edges that would stick out by chance this share may. Measured (docs/design.md): 0 for pruned, signed and fine-tuned
# copies; 0.10 to 0.9 for prunings of one public ancestor, where chance is `LEAST_BY_CHANCE` and more and where it is half that.
MOST_OUTSIDE = 0.05
# In a frame so dense that almost anything of these counts would fit, fitting says nothing.
LEAST_BY_CHANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class Containment:
    """`outside`: the share of a frame's edges that exceed the counts of another's cells; `chance`: of random places, expected.

    Both are in [0, 1]; random places means that the other frame's cells are exchanged within their rows, or within their
    columns, whichever leaves fewer edges outside.
    """

    outside: float
    chance: float

    @property
    def holds(self) -> bool:
        """Whether next to nothing is outside, where chance would have left much there."""
        return self.chance >= LEAST_BY_CHANCE and self.outside <= MOST_OUTSIDE * self.chance


def containment(weights: Weights, registered: Registration, reference: Counts) -> Containment:
    """How far the frame of `weights` (their non-zero positions) lies inside a committed one; as stored or aligned, the better.

    Layers that are not found in `weights` are left out; what `weights` has in other layers is outside.
    """
    effective = effective_weights(weights, registered.layers)
    whole = sum(int(np.count_nonzero(weight.array())) for weight in effective.values())
    views = (
        locate(effective, registered.layers).weights,
        align_suspect(effective, registered, reference).weights,
    )
    found = []
    for view in views:
        edges, outside, chance = 0, 0, 0.0
        for name, weight in view.items():
            layer = registered.layers[name]
            values = np.asarray(weight.gather(np.arange(layer.positions))).reshape(layer.shape)
            counts = cell_counts(layer, values != 0)
            edges += int(counts.sum())
            outside += int(np.maximum(counts - reference[name], 0).sum())
            chance += min(_outside_by_chance(counts, reference[name]), _outside_by_chance(counts.T, reference[name].T))
        if edges:
            # Whoever registers one layer alone, whose pruning can be foreseen, has not registered the others.
            strange = max(0, whole - edges)
            found.append(Containment(outside=(outside + strange) / whole, chance=(chance + strange) / whole))
    return max(
        found, key=lambda one: (one.holds, one.chance - one.outside), default=Containment(outside=1.0, chance=1.0)
    )


def _outside_by_chance(counts: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Expected edges of `counts` in excess of `reference` when every row of the latter is in random order.

    E max(c - r, 0) is the sum over t >= 0 of P(c > t) P(r <= t), which needs no sample.
    """
    expected = 0.0
    for level in range(int(counts.max(initial=0))):
        expected += float((counts > level).sum(axis=1) @ (reference <= level).mean(axis=1))
    return expected
