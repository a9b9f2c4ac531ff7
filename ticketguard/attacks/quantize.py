"""Weight quantization: half precision, bfloat16, and symmetric integers per output channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost

HALF = 16


@dataclass(frozen=True, kw_only=True, repr=False)
class Quantize(Attack):
    """Round weights to the given number of bits: 16 is IEEE half precision, 2 to 8 symmetric integers per output channel.

    What deployment does. Costs accuracy below 5 bits. Small weights round to zero, which takes their carriers, as magnitude
    pruning does.
    """

    name: ClassVar[str] = "quantize"
    strengths: ClassVar[tuple[float, ...]] = (16.0, 8.0, 6.0, 5.0, 4.0)
    unit: ClassVar[str] = "bits per weight"
    bounds: ClassVar[tuple[float, float]] = (2.0, 16.0)

    def run(self, victim: Victim) -> Attacked:
        """Quantize every weight of two or more dimensions, and store it as floats again."""
        weights = victim.weights()
        for name, array in weights.items():
            if array.ndim >= 2:
                half = self.strength >= HALF
                weights[name] = array.astype(np.float16) if half else per_channel(array, round(self.strength))
        return unchanged_cost(victim, weights)


@dataclass(frozen=True, kw_only=True, repr=False)
class BrainFloat(Attack):
    """Round every weight to bfloat16 (8 bits of precision). Costs next to nothing, and breaks nothing."""

    name: ClassVar[str] = "bf16"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def run(self, victim: Victim) -> Attacked:
        """Round by way of torch, which rounds to nearest, ties to even."""
        rounded = {
            name: torch.from_numpy(array).bfloat16().float().numpy() if array.ndim >= 2 else array
            for name, array in victim.weights().items()
        }
        return unchanged_cost(victim, rounded)


def per_channel(array: NDArray[Any], bits: int) -> NDArray[Any]:
    """`array` rounded to symmetric integers of `bits` bits with one scale per first index, as floats."""
    top = 2 ** (bits - 1) - 1
    peak = np.abs(array).reshape(len(array), -1).max(axis=1).reshape(-1, *[1] * (array.ndim - 1))
    scale = np.where(peak > 0, peak / top, 1.0)
    rounded: NDArray[Any] = (np.rint(array / scale) * scale).astype(array.dtype)
    return rounded
