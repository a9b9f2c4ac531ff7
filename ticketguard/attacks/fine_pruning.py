"""Fine-pruning: remove the filters that clean data leave silent, then fine-tune."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, tune
from ticketguard.masks import Mask, zeroed
from ticketguard.training.batches import Normalizer, pixels_on

PROBES = 512


@dataclass(frozen=True, kw_only=True, repr=False)
class FinePruning(TrainingAttack):
    """Zero the stated share of every masked layer's output units, those of least mean response to clean images; fine-tune.

    Source: Liu et al. 2018, against backdoors, which live in units that clean data do not use. Costs accuracy and epochs. Takes
    the carriers of whole rows, and triggers if they have units of their own.
    """

    name: ClassVar[str] = "fine-pruning"
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.5)
    unit: ClassVar[str] = "share of output units pruned"

    def run(self, victim: Victim) -> Attacked:
        """Measure, prune rows, tune."""
        weights = victim.weights()
        masks = {}
        for name, response in self.responses(victim).items():
            silent = np.argsort(response, kind="stable")[: int(self.strength * response.size)]
            bits = np.array(victim.model.mask[name])
            bits[silent] = False
            masks[name] = bits
        mask = Mask(masks)
        return tune(self, victim, zeroed(weights, mask), mask)

    def responses(self, victim: Victim) -> dict[str, NDArray[Any]]:
        """Mean absolute output of every unit of every masked layer over clean training images."""
        data = victim.needs_data(self)
        module = network(victim.model.architecture, victim.model.weights)
        found: dict[str, NDArray[Any]] = {}

        def watch(name: str) -> Any:
            def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
                # Before as many axes of places as the kernel has; a linear layer has none.
                axis = output.ndim - (victim.model.mask[name].ndim - 1)
                others = [dim for dim in range(output.ndim) if dim != axis]
                found[name] = output.abs().mean(dim=others).numpy()

            return hook

        for name in victim.names:
            module.get_submodule(name.rpartition(".")[0]).register_forward_hook(watch(name))
        cpu = torch.device("cpu")
        with torch.inference_mode():
            module(Normalizer(data.mean, data.std, cpu)(pixels_on(data.train_images[:PROBES], cpu)))
        return {name: found[name] for name in victim.names}
