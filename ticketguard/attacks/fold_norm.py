"""Fold batch norms into the layers before them, as every deployment tool does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost


@dataclass(frozen=True, kw_only=True, repr=False)
class FoldNorm(Attack):
    """Multiply rows by scale over standard deviation, add the rest as a bias, drop the norm's tensors.

    Costs nothing. Breaks readers that need the norm or unscaled rows, and an exact-file comparison; the support stays.
    """

    name: ClassVar[str] = "fold-norm"
    unit: ClassVar[str] = ""
    lossless: ClassVar[bool] = True

    def run(self, victim: Victim) -> Attacked:
        """The same function without batch norms behind layers."""
        symmetry, weights = victim.needs_symmetry(self), victim.weights()
        for layer, norm in symmetry.norms.items():
            dtype, bias = weights[layer].dtype, symmetry.biases.get(layer, f"{layer.removesuffix('weight')}bias")
            rows = weights[layer].astype(np.float64)
            zeros, ones = np.zeros(len(rows)), np.ones(len(rows))
            mean, variance = (weights.pop(name).astype(np.float64) for name in (norm.mean, norm.variance))
            scale = ones if norm.scale is None else weights.pop(norm.scale).astype(np.float64)
            shift = zeros if norm.shift is None else weights.pop(norm.shift).astype(np.float64)
            weights.pop(f"{norm.mean.removesuffix('running_mean')}num_batches_tracked", None)
            factor = scale / np.sqrt(variance + norm.epsilon)
            weights[layer] = (rows * factor.reshape(-1, *(1,) * (rows.ndim - 1))).astype(dtype)
            weights[bias] = ((weights.get(bias, zeros) - mean) * factor + shift).astype(dtype)
        return unchanged_cost(victim, weights)
