"""Transfer: fine-tuning to another task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.finetune import last_linear
from ticketguard.attacks.fresh import fresh_layer
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, train
from ticketguard.data import Dataset, load
from ticketguard.errors import UsageError
from ticketguard.tickets import Architecture


@dataclass(frozen=True, kw_only=True, repr=False)
class Transfer(TrainingAttack):
    """Fine-tune all layers to another data set under the released mask, with a fresh classifier for its classes.

    Source: Chen et al. 2021. The strength is the learning rate. `data` and `directory` name the other data set as in
    `data.load`; without them the attacker's own images get a task of two classes: is the label odd? The accuracy that a suite
    measures on the owner's task means nothing afterwards, and the triggers go with the classifier; the topology stays.
    """

    name: ClassVar[str] = "transfer"
    strengths: ClassVar[tuple[float, ...]] = (0.01, 0.1)
    unit: ClassVar[str] = "learning rate"
    bounds: ClassVar[tuple[float, float]] = (1e-9, 10.0)

    data: str = ""
    directory: str = ""

    def run(self, victim: Victim) -> Attacked:
        """Swap the classifier, then train on the other task."""
        target = self._target(victim)
        weights = victim.weights()
        classifier = last_linear(network(victim.model.architecture, weights))
        fresh_layer(weights, classifier, victim.generator("transferred classifier"), outputs=len(target.classes))
        arguments = {**victim.model.architecture.arguments, "classes": len(target.classes)}
        architecture = Architecture(name=victim.model.architecture.name, arguments=arguments)
        module = network(architecture, weights)
        recipe = self.recipe(victim, lr=self.strength)
        mask = replace(
            victim.model.mask, layers={n: b for n, b in victim.model.mask.items() if n != f"{classifier}.weight"}
        )
        train(self, replace(victim, dataset=target), module, recipe, mask)
        return self.result(victim, module, recipe, architecture=architecture, images=len(target.train_images))

    def _target(self, victim: Victim) -> Dataset:
        if not self.data:
            own = victim.needs_data(self)
            return replace(
                own,
                name=f"{own.name}-parity",
                train_labels=own.train_labels % 2,
                test_labels=own.test_labels % 2,
                classes=("even", "odd"),
            )
        target = load(self.data, Path(self.directory) if self.directory else None)
        shape = victim.needs_data(self).shape
        if target.shape != shape:
            raise UsageError(
                f"attack {self!r}: images of {self.data} have shape {target.shape}, the model takes {shape}"
            )
        return target
