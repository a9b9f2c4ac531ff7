"""Renaming: other names for every parameter, in another order in the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ticketguard.attacks.base import Attack, Attacked, Victim


@dataclass(frozen=True, kw_only=True, repr=False)
class Rename(Attack):
    """Store parameter number i, in shuffled order, under a name that says nothing. Costs nothing.

    Breaks verifiers that look layers up by name, and those that trust the order of a file.
    """

    name: ClassVar[str] = "rename"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)
    lossless: ClassVar[bool] = True

    def run(self, victim: Victim) -> Attacked:
        """Shuffle and rename everything."""
        weights = victim.weights()
        order = victim.generator(self.name).permutation(list(weights))
        names = {f"p{index:04d}": str(name) for index, name in enumerate(order)}
        return Attacked(
            weights={new: weights[old] for new, old in names.items()},
            architecture=victim.model.architecture,
            names=names,
        )
