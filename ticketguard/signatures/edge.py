"""The edge code: a signature in the topology of a ticket, moved edge by edge inside its cells (docs/protocol.md, Carriers).

A *pair* is two positions of one cell and a target bit. In a mask a pair is informative when exactly one of its positions is
kept; its value is "the first position is the kept one". Embedding moves the edge of every informative pair with the wrong
value to the other position, so no cell ever changes its count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.cells import Layer
from ticketguard.masks import Mask
from ticketguard.tails import NEGLIGIBLE

WORDS_PER_PAIR = 4
EQUILIBRATION_ROUNDS = 3

Positions = NDArray[np.int64]
Floats = NDArray[np.float64]

# What a pair of (equilibrated) difference d >= 0 weighs in a test of magnitudes. The first is for registrations that name it;
# what survives rewiring are the large edges, and what grew in place of the others lies off the bits, so squares hold more. The
# clips keep a few huge weights from being the whole sum (docs/design.md).
PAIR_WEIGHTS: dict[str, Callable[[Floats], Floats]] = {
    "magnitude": lambda d: np.minimum(d, 1.0),
    "squared-magnitude": lambda d: np.minimum(d, 3.0) ** 2,
}


class Words(Protocol):
    """A source of 64-bit words that is the same every time it is asked: a `claims.streams.Stream`."""

    def words(self, count: int) -> NDArray[np.uint64]:
        """The first `count` words."""
        ...


@dataclass(frozen=True, kw_only=True)
class Carriers:
    """The pairs of one leaf in one layer that were not dropped, in drawing order.

    `first` and `second` are flat weight positions (int64), `bits` the target: True when the edge belongs on `first`.
    No position occurs twice, within a leaf or (because leaves own disjoint groups of cells) across leaves.
    """

    layer: Layer
    leaf: int
    first: Positions
    second: Positions
    bits: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one suspect shows at the pairs of one leaf, over all layers that could be read, one entry per pair.

    `kept_first`, `kept_second`: the weights there are not zero; `sign`: +1 / -1 / 0 for |first| greater / less / equal
    |second|; `value`: the equilibrated difference of magnitudes (float64, >= 0); `bits`: the targets;
    `erased`: NaN or infinity at either position. Only `bits` depends on the secret's target bits.
    """

    bits: NDArray[np.bool_]
    kept_first: NDArray[np.bool_]
    kept_second: NDArray[np.bool_]
    sign: NDArray[np.int8]
    value: Floats
    erased: NDArray[np.bool_]

    @property
    def informative(self) -> NDArray[np.bool_]:
        """Pairs with exactly one kept position, erasures left out."""
        return np.asarray((self.kept_first != self.kept_second) & ~self.erased)

    def part(self, span: slice) -> Reading:
        """The entries of `span`."""
        return Reading(**{name: getattr(self, name)[span] for name in Reading.__annotations__})

    def support(self) -> tuple[int, int]:
        """`(n, matches)` of the support test: informative pairs, and those whose edge lies where the bit says."""
        chosen = self.informative
        return int(np.count_nonzero(chosen)), int(np.count_nonzero(chosen & (self.kept_first == self.bits)))

    def magnitude(self, test: str) -> tuple[Floats, NDArray[np.int8]]:
        """Weights (>= 0) and signs (+1 agrees with the target bit, -1 does not) of all pairs of unequal magnitude.

        `test`: a key of `PAIR_WEIGHTS`.
        """
        chosen = np.flatnonzero((self.sign != 0) & ~self.erased)
        agrees = (self.sign[chosen] > 0) == self.bits[chosen]
        return PAIR_WEIGHTS[test](self.value[chosen]), np.where(agrees, np.int8(1), np.int8(-1))


def group_cells(layer: Layer, group: int, groups: int) -> int:
    """Number of full cells c of `layer` with c mod `groups` == `group`."""
    return max(0, -(-(layer.full_cells - group) // groups))


def draw(layer: Layer, pairs: int, *, leaf: int, groups: int, stream: Words) -> Carriers:
    """Draw the `pairs` pairs of `leaf` in `layer` from its stream: per pair a cell of its group, two positions, a bit.

    A pair that touches a position of an earlier draw, kept or dropped, is dropped with its bit. Four words a pair.
    """
    cells = group_cells(layer, leaf, groups)
    if cells == 0 or pairs == 0 or layer.cell < 2:
        empty = np.empty(0, dtype=np.int64)
        return Carriers(layer=layer, leaf=leaf, first=empty, second=empty, bits=np.empty(0, dtype=np.bool_))
    words = stream.words(WORDS_PER_PAIR * pairs).reshape(pairs, WORDS_PER_PAIR)
    cell = (leaf + groups * (words[:, 0] % np.uint64(cells))).astype(np.int64)
    a = (words[:, 1] % np.uint64(layer.cell)).astype(np.int64)
    b = (a + 1 + (words[:, 2] % np.uint64(layer.cell - 1)).astype(np.int64)) % layer.cell
    bits = (words[:, 3] % np.uint64(2)).astype(np.bool_)
    first, second = layer.positions_of(cell, a), layer.positions_of(cell, b)
    fresh = _first_touch(np.stack([first, second], axis=1), layer.positions)
    return Carriers(layer=layer, leaf=leaf, first=first[fresh], second=second[fresh], bits=bits[fresh])


def _first_touch(touched: Positions, size: int) -> NDArray[np.bool_]:
    """Draws (rows of two positions below `size`) none of whose positions occurs in an earlier row."""
    draws = np.arange(len(touched))
    if size <= 1 << 22:
        # Writing rows in reverse order leaves at every position the number of the earliest draw that touches it.
        earliest = np.empty(size, dtype=np.int64)
        earliest[touched[::-1].ravel()] = np.repeat(draws[::-1], 2)
        owner = earliest[touched]
    else:
        flat = touched.ravel()
        _, first_index, inverse = np.unique(flat, return_index=True, return_inverse=True)
        owner = (first_index // 2)[inverse].reshape(touched.shape)
    return np.asarray((owner == draws[:, None]).all(axis=1))


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Where equilibration finds the row and the input channel of every position, for the pairs of several `Carriers` in turn.

    `rows` and `columns`: numbers of row and input channel, int64 (2, n), first positions above second ones, counted on from one
    `Carriers` to the next, which share none; `row_sizes`, `column_sizes`: positions of each, float64; `starts`: where each
    `Carriers` that has a pair begins.
    """

    rows: Positions
    columns: Positions
    row_sizes: Floats
    column_sizes: Floats
    starts: Positions


def bins_of(several: Sequence[Carriers]) -> Bins:
    """The bins of the pairs of `several`, one after the other."""
    used = [carriers for carriers in several if len(carriers.first)]
    rows, columns = [np.empty((2, 0), np.int64)], [np.empty((2, 0), np.int64)]
    row, column = 0, 0
    for carriers in used:
        layer, positions = carriers.layer, np.stack([carriers.first, carriers.second])
        rows.append(positions // layer.fan_in + row)
        columns.append((positions % layer.fan_in) // layer.kernel + column)
        row, column = row + layer.rows, column + layer.fan_in // layer.kernel
    joined, crossed = np.concatenate(rows, axis=1), np.concatenate(columns, axis=1)
    lengths = [len(carriers.first) for carriers in used]
    return Bins(
        rows=joined,
        columns=crossed,
        row_sizes=np.bincount(joined.ravel(), minlength=row).astype(np.float64),
        column_sizes=np.bincount(crossed.ravel(), minlength=column).astype(np.float64),
        starts=np.cumsum([0, *lengths[:-1]], dtype=np.int64) if lengths else np.empty(0, np.int64),
    )


def read_values(bits: NDArray[np.bool_], values: NDArray[Any], bins: Bins) -> Reading:
    """Read a suspect's `values` (2, n) at pairs with target `bits` (n,).

    NaN and infinity are erasures. Magnitudes are equilibrated from these values alone: rows and input channels are divided by
    their root mean square, a few rounds, so that a lossless rescaling of the network changes nothing.
    """
    # Signalling NaNs are invalid numbers before they are NaNs.
    with np.errstate(invalid="ignore"):
        magnitudes = np.abs(np.asarray(values, dtype=np.float64))
    erased = np.asarray(~np.isfinite(magnitudes).all(axis=0))
    if erased.any():
        magnitudes[:, erased] = 0.0
    kept = magnitudes > 0
    difference = np.subtract(*_equilibrate(magnitudes, bins))
    return Reading(
        bits=bits,
        kept_first=kept[0],
        kept_second=kept[1],
        sign=np.sign(difference).astype(np.int8),
        value=np.abs(difference),
        erased=erased,
    )


def _equilibrate(values: Floats, bins: Bins) -> Floats:
    """Divide by the RMS of rows and of input channels, `EQUILIBRATION_ROUNDS` times; an all-zero one keeps scale 1."""
    if values.shape[1] == 0:
        return values
    # The largest magnitude first: squares of weights rescaled by 1e200 would overflow.
    largest = np.maximum.reduceat(values.max(axis=0), bins.starts)
    lengths = np.diff(np.append(bins.starts, values.shape[1]))
    scaled = values / np.repeat(np.where(largest > 0, largest, 1.0), lengths)
    if np.any((values > 0) & (scaled < NEGLIGIBLE)):
        scaled = _levelled(values, scaled, bins, lengths)
    # What is zero stays zero and adds nothing to a sum: in most suspects that is most of the values.
    there = np.flatnonzero(scaled > 0)
    present = scaled.ravel()[there]
    axes = [(bins.rows.ravel()[there], bins.row_sizes), (bins.columns.ravel()[there], bins.column_sizes)]
    for _ in range(EQUILIBRATION_ROUNDS):
        for index, sizes in axes:
            total = np.bincount(index, weights=present * present, minlength=len(sizes))
            rms = np.sqrt(np.divide(total, sizes, out=np.ones(len(sizes)), where=total > 0))
            present = present / rms[index]
    equilibrated = np.zeros(scaled.size)
    equilibrated[there] = present
    return equilibrated.reshape(scaled.shape)


def _levelled(values: Floats, scaled: Floats, bins: Bins, lengths: Positions) -> Floats:
    """`scaled`, but layers that span too many scales for squares divided by the largest of each row, then of each channel.

    After that every row and every input channel that has a value has a 1, and what is `NEGLIGIBLE` beside it becomes 0.
    """
    layers = np.repeat(np.arange(len(lengths)), lengths)
    wide = np.zeros(len(lengths), dtype=np.bool_)
    wide[layers[((values > 0) & (scaled < NEGLIGIBLE)).any(axis=0)]] = True
    there = wide[layers]
    part = values[:, there]
    for index, sizes in ((bins.rows[:, there], bins.row_sizes), (bins.columns[:, there], bins.column_sizes)):
        largest = np.zeros(len(sizes))
        np.maximum.at(largest, index.ravel(), part.ravel())
        part = part / np.where(largest > 0, largest, 1.0)[index]
    part[part < NEGLIGIBLE] = 0.0
    scaled[:, there] = part
    return scaled


@dataclass(frozen=True, kw_only=True)
class Moves:
    """Edges that an embedding moves in one layer: flat positions `source` -> `target` (int64, equal length)."""

    source: Positions
    target: Positions


def moves(carriers: Carriers, kept: NDArray[np.bool_]) -> Moves:
    """The moves that give every informative pair of `carriers` in the mask `kept` its target value."""
    flat = kept.ravel()
    at_first, at_second = flat[carriers.first], flat[carriers.second]
    wrong = (at_first != at_second) & (at_first != carriers.bits)
    from_first = at_first[wrong]
    first, second = carriers.first[wrong], carriers.second[wrong]
    return Moves(source=np.where(from_first, first, second), target=np.where(from_first, second, first))


def embed(mask: Mask, moved: Mapping[str, list[Moves]]) -> Mask:
    """The mask after all moves. Cell counts, and so the frame, stay as they are."""
    return Mask({name: moved_bits(bits, moved.get(name, [])) for name, bits in mask.items()})


def moved_bits(bits: NDArray[np.bool_], moved: Sequence[Moves]) -> NDArray[np.bool_]:
    """One layer of a mask after its moves."""
    flat = bits.ravel().copy()
    for move in moved:
        flat[move.source] = False
        flat[move.target] = True
    return flat.reshape(bits.shape)
