"""The plainest control: a model that has nothing to do with the victim. A match would be a false accusation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.controls import Control
from ticketguard.attacks.fresh import fresh_network
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import train
from ticketguard.masks import keep_largest, zeroed
from ticketguard.training import weights_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Unrelated(Control):
    """An independent model of the same architecture, recipe and density: trained dense, pruned by magnitude, trained on."""

    name: ClassVar[str] = "unrelated"

    def run(self, victim: Victim) -> Attacked:
        """Nothing of the victim is used but its architecture and density."""
        recipe = self.recipe(victim)
        module = fresh_network(victim, victim.model.architecture, "fresh network")
        train(self, victim, module, recipe, None)
        weights = weights_of(module)
        scores = {name: np.abs(weights[name].astype(np.float64)) for name in victim.names}
        mask = keep_largest(scores, victim.model.mask.kept)
        module = network(victim.model.architecture, zeroed(weights, mask))
        train(self, victim, module, recipe, mask)
        return self.result(victim, module, recipe, epochs=2.0 * recipe.epochs)
