"""Pad kernels: rings of zeros around every kernel, and as much more padding of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from ticketguard.attacks.base import Attack, Attacked, Victim
from ticketguard.errors import UsageError
from ticketguard.models import build


@dataclass(frozen=True, kw_only=True, repr=False)
class PadKernels(Attack):
    """Put `strength` rings of zeros around the kernels of every convolution that has some, and pad its input as much more.

    Costs nothing but time: the network computes the same function from tensors of another shape. Breaks every mark that is read
    by shape or position; the verifier looks for the kernel inside.
    """

    name: ClassVar[str] = "pad-kernels"
    strengths: ClassVar[tuple[float, ...]] = (1.0,)
    bounds: ClassVar[tuple[float, float]] = (1.0, 3.0)
    unit: ClassVar[str] = "rings of zeros"
    lossless: ClassVar[bool] = True

    def run(self, victim: Victim) -> Attacked:
        """The same function from larger kernels."""
        rings, weights = round(self.strength), victim.weights()

        def larger() -> nn.Module:
            module = build(victim.model.architecture)
            for name, child in module.named_modules():
                if isinstance(child, nn.Conv2d) and not isinstance(child.padding, str) and f"{name}.weight" in padded:
                    (top, left), (down, right) = child.padding, child.dilation
                    child.padding = (top + rings * down, left + rings * right)
            return module

        padded = {name for name, array in weights.items() if array.ndim == 4 and array.shape[2] * array.shape[3] > 1}
        if not padded:
            raise UsageError(f"attack {self!r}: this network has no kernels")
        for name in padded:
            weights[name] = np.pad(weights[name], ((0, 0), (0, 0), (rings, rings), (rings, rings)))
        return Attacked(weights=weights, architecture=victim.model.architecture, build=larger)
