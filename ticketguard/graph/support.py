"""A suspect's support: which of its weights count as edges when it was filled, fine-tuned densely or rescaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.cells import Layer
from ticketguard.tails import NEGLIGIBLE

ROUNDS = 12
# A weight this much smaller than its row's largest, after equilibration, changes nothing: noise laid over pruned positions.
INVISIBLE = 1e-5
# Such weights are looked for in layers with many more non-zero weights than edges, and cleared when there are enough of them.
CROWDED = 1.5
HIDDEN_SHARE = 0.1
# A row or input channel without a single edge shows nothing but noise, which equilibration makes as large as weights.
FULL = 0.9
Floats = NDArray[np.float64]


def suspect_support(weights: NDArray[Any], kept: int) -> NDArray[np.bool_]:
    """Non-zero positions of a layer's weights; only the `kept` largest, equilibrated, when there are more of them.

    NaN and infinity rank as the smallest non-zero values. Ties go to the earlier position, so the answer is exact.
    """
    support: NDArray[np.bool_] = np.asarray(weights) != 0
    if int(support.sum()) <= kept:
        return support
    scores = equilibrated(_finite(weights)).ravel()
    chosen = np.zeros(scores.size, dtype=np.bool_)
    if kept > 0:
        # Most scores are zero, which selection would wade through: the kept-th largest is sought among the others.
        present = scores[scores > 0]
        least = np.partition(present, present.size - kept)[present.size - kept] if present.size >= kept else 0.0
        above = scores > least
        ties = np.flatnonzero(scores == least)[: kept - int(above.sum())]
        chosen |= above
        chosen[ties] = True
    return np.asarray(chosen.reshape(support.shape) & support)


def cleared(layer: Layer, weights: NDArray[Any], reference_kept: int) -> NDArray[Any]:
    """A layer's weights with invisible ones set to zero; the same array when there are few of them.

    An attacker can lay noise of a billionth over all pruned positions, and rescale rows and inputs so that no threshold
    separates it. After equilibration it lies orders of magnitude below every edge of its row. Rows of nothing but noise stay.
    """
    magnitude = _finite(weights)
    present = magnitude > 0
    if int(present.sum()) <= CROWDED * _allowed(layer, weights, reference_kept):
        return weights
    scores = equilibrated(magnitude)
    largest = scores.reshape(len(scores), -1).max(axis=1)
    hidden = present & (scores < INVISIBLE * largest.reshape(-1, *(1,) * (scores.ndim - 1)))
    if int(hidden.sum()) < HIDDEN_SHARE * int(present.sum()):
        return weights
    return np.where(hidden, np.zeros((), dtype=np.asarray(weights).dtype), weights)


def without_full(support: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A cleared layer's support without rows and input channels that are nearly full: those had no edge, only noise."""
    kernels = support.reshape(support.shape[0], support.shape[1], -1)
    full_rows, full_inputs = kernels.mean(axis=(1, 2)) >= FULL, kernels.mean(axis=(0, 2)) >= FULL
    return np.asarray((kernels & ~full_rows[:, None, None] & ~full_inputs[None, :, None]).reshape(support.shape))


def _finite(weights: NDArray[Any]) -> Floats:
    # Signalling NaNs are invalid numbers before they are NaNs.
    with np.errstate(invalid="ignore"):
        magnitude = np.abs(np.asarray(weights, dtype=np.float64))
    return np.where(np.isfinite(magnitude), magnitude, 0.0)


def _allowed(layer: Layer, weights: NDArray[Any], reference_kept: int) -> int:
    """Edges that a version of `layer` may have: `reference_kept`, in proportion to its number of positions."""
    positions = int(np.prod(np.shape(weights), dtype=np.int64))
    return reference_kept if positions == layer.positions else -(-reference_kept * positions // layer.positions)


def equilibrated(magnitude: Floats) -> Floats:
    """Magnitudes (O, I, ...) divided by row and input-channel scales until each has the same root mean square.

    Rescaling rows or input channels by positive numbers changes nothing once the rounds have converged. Sums run along the
    first axis of contiguous arrays, which numpy adds in order: the result does not depend on the machine's vector width.
    """
    largest = magnitude.max(initial=0.0)
    if largest == 0.0:
        return magnitude
    scaled = magnitude / largest
    if np.any((magnitude > 0) & (scaled < NEGLIGIBLE)):
        scaled = _levelled(magnitude)
    rows, inputs = scaled.shape[0], scaled.shape[1] if scaled.ndim > 1 else 1
    kernels = np.ascontiguousarray((scaled * scaled).reshape(rows, inputs, -1).transpose(2, 0, 1))
    energy = np.add.reduce(kernels, axis=0)
    row_scale, input_scale = np.ones(rows), np.ones(inputs)
    turned = np.ascontiguousarray(energy.T)
    for _ in range(ROUNDS):
        row_scale = _inverse(np.add.reduce(turned * input_scale[:, None], axis=0))
        input_scale = _inverse(np.add.reduce(energy * row_scale[:, None], axis=0))
    shape = (rows, inputs) + (1,) * (scaled.ndim - 2) if scaled.ndim > 1 else (rows,)
    factor = np.sqrt(row_scale[:, None] * input_scale[None, :]).reshape(shape)
    return np.asarray(scaled * factor)


def _levelled(magnitude: Floats) -> Floats:
    """Magnitudes of too many scales for squares, divided by the largest of each row, then of each input channel."""
    flat = magnitude.reshape(len(magnitude), magnitude.shape[1] if magnitude.ndim > 1 else 1, -1)
    for axes in ((1, 2), (0, 2)):
        largest = flat.max(axis=axes, keepdims=True)
        flat = flat / np.where(largest > 0, largest, 1.0)
    return np.asarray(flat.reshape(magnitude.shape))


def _inverse(totals: Floats) -> Floats:
    """One over each total; 1 where it is zero."""
    return np.divide(1.0, totals, out=np.ones_like(totals), where=totals > 0)


def edges(layer: Layer, weights: NDArray[Any], reference_kept: int, *, was_cleared: bool = False) -> NDArray[np.bool_]:
    """Support of a suspect's version of `layer`, whose shape may be larger: `reference_kept` edges per registered position."""
    if was_cleared:
        shown = without_full(np.asarray(weights) != 0)
        weights = np.where(shown, weights, np.zeros((), dtype=np.asarray(weights).dtype))
    return suspect_support(weights, _allowed(layer, weights, reference_kept))
