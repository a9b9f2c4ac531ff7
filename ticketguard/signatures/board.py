"""All pairs of all open leaves, laid out once so that many suspects can be read fast: one gather for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ticketguard.signatures.edge import Bins, Carriers, Positions, Reading, bins_of, read_values

# Positions of a layer at which a second tensor is compared: one that differs in a hundredth of them is surely found.
SAMPLE = 2048
# Layouts that are kept for suspects without some of the layers.
MOST_PARTS = 4


class Weight(Protocol):
    """One weight tensor that can be read at flat positions."""

    def gather(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The values at `positions`."""
        ...


@dataclass(frozen=True)
class Board:
    """The carriers of one registration by leaf and layer name (`signatures.carriers.all_carriers`), ready to be read.

    Nothing here depends on a suspect. A reading by a board equals the readings of its carriers one by one, bit for bit.
    """

    carriers: Mapping[int, Mapping[str, Carriers]]

    @cached_property
    def _whole(self) -> _Layout:
        return _layout(self.carriers)

    @property
    def pairs(self) -> int:
        """Number of pairs of all leaves and layers."""
        return len(self._whole.bits)

    def sample(self, layer: str) -> NDArray[np.int64]:
        """Some positions of a layer that are read, around `SAMPLE` at most, as secret as all of them; none for other layers."""
        positions = self._whole.positions.get(layer, np.empty(0, np.int64))
        return positions[:: max(1, len(positions) // SAMPLE)]

    def read(self, weights: Mapping[str, Weight]) -> dict[int, Reading]:
        """Readings by leaf, over the layers that the suspect has: layer name -> weight in the registered layout."""
        layout, values = self._gathered(weights)
        found = read_values(layout.bits, values, layout.bins)
        return {leaf: found.part(span) for leaf, span in layout.spans.items()}

    @cached_property
    def _parts(self) -> dict[frozenset[str], _Layout]:
        """Layouts of suspects that lack layers, by what they have: one suspect is read in several ways."""
        return {}

    def support(self, weights: Mapping[str, Weight], places: Mapping[str, Positions]) -> dict[int, tuple[int, int]]:
        """`Reading.support` by leaf, of weights whose kernels are turned (`turns.turned_places`); faster than `read`."""
        layout = self._present(weights)
        kept = np.empty(2 * len(layout.bits), np.bool_)
        erased = np.zeros_like(kept)
        for name, positions in layout.positions.items():
            if name in places:
                kernels, offsets = layout.in_kernels(name, len(places[name]))
                positions = kernels + places[name][offsets]
            values, slots = weights[name].gather(positions), layout.slots[name]
            kept[slots] = values != 0
            finite = np.isfinite(values)
            if not finite.all():
                erased[slots] = ~finite
        first, second = kept.reshape(2, -1)
        informative = (first != second) & ~erased.reshape(2, -1).any(axis=0)
        right = informative & (first == layout.bits)
        return {
            leaf: (int(np.count_nonzero(informative[span])), int(np.count_nonzero(right[span])))
            for leaf, span in layout.spans.items()
        }

    def _gathered(self, weights: Mapping[str, Weight]) -> tuple[_Layout, NDArray[np.float64]]:
        """The pairs that the suspect has, and its values there (2, n)."""
        layout = self._present(weights)
        flat = np.empty(2 * len(layout.bits))
        # Signalling NaNs, which a hostile file may hold, are invalid numbers before they are NaNs.
        with np.errstate(invalid="ignore"):
            for name, positions in layout.positions.items():
                flat[layout.slots[name]] = weights[name].gather(positions)
        return layout, flat.reshape(2, -1)

    def _present(self, weights: Mapping[str, Weight]) -> _Layout:
        """The layout of the layers that the suspect has."""
        if all(name in weights for name in self._whole.positions):
            return self._whole
        names = frozenset(name for layers in self.carriers.values() for name in layers if name in weights)
        if names not in self._parts:
            if len(self._parts) >= MOST_PARTS:
                del self._parts[next(iter(self._parts))]
            self._parts[names] = _layout(
                {
                    leaf: {name: drawn for name, drawn in layers.items() if name in names}
                    for leaf, layers in self.carriers.items()
                }
            )
        return self._parts[names]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """`positions` to gather by layer, and the `slots` their values go to in a flat (2, n) array; pairs by leaf in `spans`."""

    positions: Mapping[str, Positions]
    slots: Mapping[str, Positions]
    bits: NDArray[np.bool_]
    bins: Bins
    spans: Mapping[int, slice]
    _in_kernels: dict[str, tuple[Positions, Positions]] = field(default_factory=dict)

    def in_kernels(self, layer: str, kernel: int) -> tuple[Positions, Positions]:
        """Where the kernel of each position of a layer begins, and its place in there; worked out once."""
        if layer not in self._in_kernels:
            places = self.positions[layer] % kernel
            self._in_kernels[layer] = self.positions[layer] - places, places
        return self._in_kernels[layer]


def _layout(carriers: Mapping[int, Mapping[str, Carriers]]) -> _Layout:
    ordered = [drawn for layers in carriers.values() for drawn in layers.values()]
    total = sum(len(drawn.first) for drawn in ordered)
    positions: dict[str, list[NDArray[np.int64]]] = {}
    slots: dict[str, list[NDArray[np.int64]]] = {}
    spans, start = {}, 0
    for leaf, layers in carriers.items():
        begin = start
        for name, drawn in layers.items():
            where = np.arange(start, start + len(drawn.first), dtype=np.int64)
            if len(where):
                positions.setdefault(name, []).extend([drawn.first, drawn.second])
                slots.setdefault(name, []).extend([where, where + total])
            start += len(where)
        spans[leaf] = slice(begin, start)
    return _Layout(
        positions={name: np.concatenate(parts) for name, parts in positions.items()},
        slots={name: np.concatenate(parts) for name, parts in slots.items()},
        bits=np.concatenate([np.empty(0, np.bool_), *(drawn.bits for drawn in ordered)]),
        bins=bins_of(ordered),
        spans=spans,
    )
