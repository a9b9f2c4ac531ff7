"""Turn kernels: the network as it was, for images that are turned before it sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Predict, Victim
from ticketguard.data.dataset import Images, Labels


@dataclass(frozen=True, kw_only=True, repr=False)
class Turn(Attack):
    """Rotate all kernels by `strength` quarter turns, and every image before the network sees it.

    Costs nothing where strides and padding are symmetric, and next to nothing elsewhere. Breaks every mark that is read by the
    position inside a kernel; the verifier reads turned kernels too. A linear layer behind a flattening keeps its order, so a
    network with one loses accuracy.
    """

    name: ClassVar[str] = "turn"
    strengths: ClassVar[tuple[float, ...]] = (1.0, 2.0, 3.0)
    bounds: ClassVar[tuple[float, float]] = (1.0, 3.0)
    unit: ClassVar[str] = "quarter turns"

    def run(self, victim: Victim) -> Attacked:
        """The turned weights, behind a turn of the images."""
        quarters = round(self.strength)
        weights = {
            name: np.ascontiguousarray(np.rot90(array, quarters, (2, 3))) if array.ndim == 4 else array
            for name, array in victim.weights().items()
        }

        def front(predict: Predict, images: Images) -> Labels:
            return predict(np.ascontiguousarray(np.rot90(images, quarters, (2, 3))))

        return Attacked(weights=weights, architecture=victim.model.architecture, front=front)
