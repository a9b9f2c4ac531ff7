"""fake3: an insider who knows the place of the QR code writes another code over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.signatures.labels import label, place_of

FORGED_BYTES = 6


@dataclass(frozen=True, kw_only=True, repr=False)
class Fake3(Attack):
    """Replace the owner's QR code by one with a random text, new kernels with fresh weights of the layer's own spread.

    Source: Chen et al. 2021 (V2). Needs a model with a QR code, whose place the insider reads from its provenance. The paper
    does not train afterwards; stack it with finetune to see what training repairs. The edge code outside the rewritten
    kernels stands.
    """

    name: ClassVar[str] = "fake3"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def run(self, victim: Victim) -> Attacked:
        """Overwrite. Raises `FormatError` when the model carries no QR code."""
        generator = victim.generator(self.name)
        text = generator.bytes(FORGED_BYTES).hex()
        forged, _ = label(victim.model, text, generator=generator, place=place_of(victim.model))
        return unchanged_cost(victim, forged.weights)
