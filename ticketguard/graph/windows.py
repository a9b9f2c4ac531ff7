"""Kernels with rings of zeros around them: the same function with more padding, in tensors of another shape."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ticketguard.graph.matching import Shape
from ticketguard.graph.support import equilibrated

# Sizes are rounded to this part of the largest before they are summed, so that sums are exact and equal on every machine.
STEPS = float(1 << 20)
# Weights that are looked at at a time.
PART = 1 << 20
# More positions than a padded kernel needs; a hostile one has as many as its file.
MOST_POSITIONS = 1 << 12


def kernel_within(shape: Shape, kernels: Iterable[Shape]) -> Shape | None:
    """The only one of `kernels` (dimensions beyond the second) that a tensor of `shape` can hold with room to spare.

    None where it has one of these sizes, can hold none or several, or is far too large.
    """
    own = shape[2:]
    fitting = {
        kernel
        for kernel in kernels
        if kernel and len(kernel) == len(own) and all(a <= b for a, b in zip(kernel, own, strict=True))
    }
    return fitting.pop() if len(fitting) == 1 and own not in fitting and prod(own) <= MOST_POSITIONS else None


def window(weights: NDArray[Any], kernel: Shape) -> tuple[int, ...]:
    """Where in the dimensions beyond the second of `weights` a window of the size of `kernel` holds most of their magnitude.

    Rows and input channels weigh alike, whatever their scale, which is free to choose: else one edge could outweigh all others.
    Of equal windows the first. Values that are not finite count as nothing. It looks at the suspect alone.
    """
    kernels = weights.reshape(-1, *weights.shape[2:])
    count = max(1, PART // prod(weights.shape[2:]))
    parts = [slice(start, start + count) for start in range(0, len(kernels), count)]
    largest = np.zeros(len(kernels))
    for part in parts:
        largest[part] = _sizes(kernels[part]).reshape(-1, prod(weights.shape[2:])).max(axis=1)
    scores = equilibrated(largest.reshape(weights.shape[:2])).ravel()
    factors = np.divide(
        scores / (scores.max(initial=0.0) or 1.0), largest, out=np.zeros_like(largest), where=largest > 0
    )
    steps = np.zeros(weights.shape[2:], dtype=np.int64)
    for part in parts:
        shares = _sizes(kernels[part]) * factors[part].reshape(-1, *(1,) * (weights.ndim - 2))
        steps += np.floor(shares * STEPS).sum(axis=0).astype(np.int64)
    sums = sliding_window_view(steps, kernel).sum(axis=tuple(range(-len(kernel), 0)))
    return tuple(int(place) for place in np.unravel_index(int(sums.argmax()), sums.shape))


def _sizes(weights: NDArray[Any]) -> NDArray[np.float64]:
    sizes = np.abs(weights.astype(np.float64))
    return np.where(np.isfinite(sizes), sizes, 0.0)
