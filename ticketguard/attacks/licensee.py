"""Another licensee's copy: the owner's mark is in it by right, the fingerprint is somebody else's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.tuning import TrainingAttack, tune
from ticketguard.errors import UsageError
from ticketguard.masks import Mask
from ticketguard.signatures.edge import Moves, embed


@dataclass(frozen=True, kw_only=True, repr=False)
class LicenseeCopy(TrainingAttack):
    """Give the public fingerprint group another random content, as a copy for another licensee has, and train on.

    Group K of docs/protocol.md. The strength is the share of the group's cells in which an edge moves. Costs epochs. Breaks
    nothing: the copy still shows the owner's mark, so a match is right, and only `trace` can tell copies apart. A licensee
    who wants to lose his name does the same: it touches a fifth of the cells.
    """

    name: ClassVar[str] = "licensee-copy"
    strengths: ClassVar[tuple[float, ...]] = (0.5, 1.0)
    unit: ClassVar[str] = "share of the fingerprint cells that change"

    def run(self, victim: Victim) -> Attacked:
        """Move one edge in every chosen cell of the last group, values along; then tune under the new mask."""
        if not victim.leaked:
            raise UsageError(f"attack {self!r} needs the public layer table: run it through the suite")
        generator = victim.generator(self.name)
        weights, moved = victim.weights(), {}
        group = len(victim.leaked)
        for name, carriers in next(iter(victim.leaked.values())).items():
            layer, kept = carriers.layer, victim.model.mask[name].ravel()
            cells = np.arange(group, layer.full_cells, group + 1, dtype=np.int64)
            cells = cells[generator.random(len(cells)) < self.strength]
            positions = layer.positions_of(cells[:, None], np.arange(layer.cell)[None, :])
            # A random order of each cell's positions: its first edge moves to its first gap.
            shuffled = generator.permuted(positions, axis=1)
            edges = kept[shuffled]
            partly = edges.any(axis=1) & ~edges.all(axis=1)
            rows = np.flatnonzero(partly)
            source = shuffled[rows, edges[rows].argmax(axis=1)]
            target = shuffled[rows, (~edges[rows]).argmax(axis=1)]
            moved[name] = [Moves(source=source, target=target)]
            flat = weights[name].reshape(-1)
            flat[target] = flat[source]
            flat[source] = 0
        mask: Mask = embed(victim.model.mask, moved)
        return tune(self, victim, weights, mask)
