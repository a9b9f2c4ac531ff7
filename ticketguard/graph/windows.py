"""Kernels with zeros around them: the same function with more padding, in tensors of another shape.

A ring of zeros is one place for all kernels of a layer. But a thief can also move the output of a channel by some pixels, and
the kernels that read it the other way: then the kernel of output o and input i lies at a place that is o's plus i's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
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
# Share of a layer's weight that its windows have to hold: then one place for all kernels will do, and the layer counts as read.
WHOLE = 0.95
# Each round chooses all rows' places for the columns', then the columns' for the rows'; it takes two or three.
ROUNDS = 8
# Numbers that a search for every kernel's place may look at in a round: those of 512 x 512 kernels of 10 x 10.
MOST_LOOKED_AT = 1 << 24

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Where in the larger kernels of a layer those of size `kernel` lie: the corner of (o, i) is `rows[o] + columns[i]`.

    Both are int64 (channels, dimensions of a kernel); corners are clipped to `room`, the last one that has a whole kernel
    behind it. `together`: one corner for all, which holds `WHOLE` of the layer's weight; `held`: what the chosen ones hold.
    """

    kernel: Shape
    room: Shape
    rows: Indices
    columns: Indices
    together: bool
    held: float

    def cut(self, values: NDArray[Any]) -> NDArray[Any]:
        """The kernels (O, I, *kernel) out of larger ones."""
        flat, shape = values.reshape(-1), (*values.shape[:2], *self.kernel)
        found = np.empty(prod(shape), values.dtype)
        for start in range(0, found.size, PART):
            part = np.arange(start, min(start + PART, found.size), dtype=np.int64)
            found[part] = flat[self.moved(part, values.shape)]
        return found.reshape(shape)

    def moved(self, positions: Indices, whole: Shape) -> Indices:
        """Flat positions in a tensor of shape `whole` of flat `positions` in the kernels that are cut out of it."""
        row, column, *offsets = np.unravel_index(positions, (*whole[:2], *self.kernel))
        corners = np.clip(self.rows[row] + self.columns[column], 0, self.room).T
        inside = (offset + corner for offset, corner in zip(offsets, corners, strict=True))
        return np.asarray(np.ravel_multi_index((row, column, *inside), whole), dtype=np.int64)


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


def windows(weights: NDArray[Any], kernel: Shape) -> Windows:
    """Where in the dimensions beyond the second of `weights` kernels of size `kernel` hold most of their magnitude.

    At one place for all where that holds `WHOLE` of it, the first of equals. Else at one for each row plus one for each input
    channel, which are looked for in turns from there, and change for more only. Rows and input channels weigh alike, whatever
    their scale, which is free to choose: else one edge could outweigh all others. Values that are not finite count as nothing.
    It looks at the suspect alone.
    """
    kernels = weights.reshape(-1, *weights.shape[2:])
    own, room = weights.shape[2:], tuple(size - part for size, part in zip(weights.shape[2:], kernel, strict=True))
    count = max(1, PART // prod(own))
    parts = [slice(start, start + count) for start in range(0, len(kernels), count)]
    largest = np.zeros(len(kernels))
    for part in parts:
        largest[part] = _sizes(kernels[part]).reshape(-1, prod(own)).max(axis=1)
    scores = equilibrated(largest.reshape(weights.shape[:2])).ravel()
    factors = scores / (scores.max(initial=0.0) or 1.0) * STEPS
    divisors = np.where(largest > 0, largest, 1.0)

    def shares() -> Iterator[NDArray[np.float64]]:
        # Divided first: one over a subnormal number is too large for a float.
        for part in parts:
            each = (-1, *(1,) * len(own))
            yield np.floor(_sizes(kernels[part]) / divisors[part].reshape(each) * factors[part].reshape(each))

    steps = np.zeros(own)
    for share in shares():
        steps += share.sum(axis=0)
    sums, total = _sums(steps[None], kernel)[0], float(steps.sum())
    rows = np.tile(np.array(np.unravel_index(int(sums.argmax()), sums.shape), np.int64), (weights.shape[0], 1))
    columns = np.zeros((weights.shape[1], len(own)), np.int64)
    held = float(sums.max())
    together = held >= WHOLE * total
    if not together and _looked_at(weights.shape, room) <= MOST_LOOKED_AT:
        each = np.concatenate([_sums(share, kernel).reshape(len(share), -1) for share in shares()])
        held = _search(each.reshape(*weights.shape[:2], -1), room, rows, columns)
    return Windows(
        kernel=kernel,
        room=room,
        rows=rows,
        columns=columns,
        together=together,
        held=held / total if total else 1.0,
    )


def _sums(values: NDArray[np.float64], kernel: Shape) -> NDArray[np.float64]:
    """Sums over all windows of a kernel's size in the dimensions beyond the first, one dimension at a time."""
    for axis, size in enumerate(kernel, start=1):
        values = sliding_window_view(values, size, axis=axis).sum(axis=-1)
    return values


def _looked_at(shape: Shape, room: Shape) -> int:
    offsets = prod(2 * size + 1 for size in room)
    return max(prod(shape[:2]) * prod(size + 1 for size in room), max(shape[:2]) * offsets**2)


def _search(each: NDArray[np.float64], room: Shape, rows: Indices, columns: Indices) -> float:
    """Moves `rows` and `columns` until no round holds more; returns what is held.

    `each`: what a window at every place holds, by kernel (O, I, places): whole numbers, whose sums are exact.
    """
    # The shortest first: what is clipped to the same place holds the same.
    offsets = np.array(sorted(product(*(range(-size, size + 1) for size in room)), key=_length), np.int64)
    before = -1.0
    for _ in range(ROUNDS):
        _choose(each, room, offsets, rows, columns)
        held = _choose(each.transpose(1, 0, 2), room, offsets, columns, rows)
        if held <= before:
            break
        before = held
    return before


def _length(offset: tuple[int, ...]) -> int:
    return sum(part * part for part in offset)


def _choose(each: NDArray[np.float64], room: Shape, offsets: Indices, own: Indices, others: Indices) -> float:
    """Put each channel of the first axis where it holds most, given the `others`' places; returns what all hold.

    Channels of the other axis that lie at one place are added up first, so that offsets are tried on sums.
    """
    used, which = np.unique(others, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    starts = np.searchsorted(which.ravel()[order], np.arange(len(used)))
    together = np.add.reduceat(each[:, order], starts, axis=1)
    sizes = tuple(size + 1 for size in room)
    held = np.empty((len(own), len(offsets)))
    for number, offset in enumerate(offsets):
        places = np.ravel_multi_index(tuple(np.clip(offset + used, 0, room).T), sizes)
        held[:, number] = together[:, np.arange(len(used)), places].sum(axis=1)
    now = (own[:, None] == offsets).all(axis=2).argmax(axis=1)
    best = held.argmax(axis=1)
    index = np.arange(len(own))
    best = np.where(held[index, best] > held[index, now], best, now)
    own[:] = offsets[best]
    return float(held[index, best].sum())


def _sizes(weights: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        sizes = np.abs(weights.astype(np.float64))
    return np.where(np.isfinite(sizes), sizes, 0.0)
