"""Masks: one bit per weight. A kept weight is an edge; a pruned one is stored as exact zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError, UsageError

Bits = NDArray[np.bool_]
# Weights whose spread is taken at a time.
SPREAD_PART = 1 << 22


@dataclass(frozen=True, eq=False, repr=False)
class Mask(Mapping[str, Bits]):
    """Kept positions of every prunable parameter: parameter name -> boolean array of the parameter's shape.

    Arrays are made read-only on construction. Layers keep the order they are given in, which is the order of
    registration tables and of frames. Equal masks have the same names in the same order, and the same arrays.
    """

    layers: Mapping[str, Bits]

    def __post_init__(self) -> None:
        frozen = {}
        for name, bits in self.layers.items():
            array = np.ascontiguousarray(bits)
            if array.dtype != np.bool_:
                raise FormatError(f"mask of {name}: expected booleans, found {array.dtype}")
            array = array.view()
            array.flags.writeable = False
            frozen[name] = array
        object.__setattr__(self, "layers", frozen)

    def __getitem__(self, name: str) -> Bits:
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return list(self) == list(other) and all(np.array_equal(bits, other[name]) for name, bits in self.items())

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} layers, {self.kept:,} of {self.size:,} weights kept)"

    @property
    def kept(self) -> int:
        """Number of edges: kept weights over all layers."""
        return sum(int(bits.sum()) for bits in self.layers.values())

    @property
    def size(self) -> int:
        """Number of prunable weights, kept or not."""
        return sum(bits.size for bits in self.layers.values())

    @property
    def density(self) -> float:
        """Share of prunable weights that are kept, in [0, 1]."""
        return self.kept / self.size if self.size else 1.0

    @property
    def sparsity(self) -> float:
        """One minus `density`."""
        return 1.0 - self.density


@dataclass(frozen=True, eq=False, repr=False)
class StoredMask(Mask):
    """A mask whose layers are made from a file each time they are asked for: never two of them in memory."""

    def __post_init__(self) -> None:
        """Nothing is read yet."""

    def __contains__(self, name: object) -> bool:
        """Whether there is such a layer; reads none."""
        return name in self.layers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} layers)"


def support(weights: Mapping[str, NDArray[np.generic]], names: Mapping[str, object] | list[str]) -> Mask:
    """Mask of the non-zero positions of `weights[name]` for every name; NaN and infinity count as kept."""
    return Mask({name: np.asarray(weights[name]) != 0 for name in names})


def zeroed(weights: Mapping[str, NDArray[Any]], mask: Mask) -> dict[str, NDArray[Any]]:
    """All of `weights`, with exact zeros wherever `mask` has pruned."""
    pruned = {name: np.where(bits, weights[name], np.zeros((), weights[name].dtype)) for name, bits in mask.items()}
    return {**weights, **pruned}


def spread(weights: NDArray[Any], kept: NDArray[np.bool_]) -> float:
    """Standard deviation of a layer's `kept` weights, in float64 and some millions at a time; 0.0 when none is kept."""
    flat, chosen = weights.reshape(-1), kept.reshape(-1)
    parts = [slice(start, start + SPREAD_PART) for start in range(0, len(flat), SPREAD_PART)]
    count = max(1, int(chosen.sum()))
    mean = sum(float(flat[part][chosen[part]].astype(np.float64).sum()) for part in parts) / count
    squares = sum(float(((flat[part][chosen[part]].astype(np.float64) - mean) ** 2).sum()) for part in parts)
    return float(np.sqrt(squares / count))


def keep_largest(scores: Mapping[str, NDArray[np.floating]], kept: int, *, within: Mask | None = None) -> Mask:
    """Mask of exactly the `kept` highest scores over all layers together (global pruning).

    `scores` holds one array of finite floats per layer. With `within`, only positions that it keeps can be kept.
    Ties are broken by position (earlier layer, then lower flat index, is kept first), so equal scores still give exactly
    `kept` edges. Raises `UsageError` when `kept` is negative or exceeds the number of candidates.
    """
    names = list(scores)
    flat = (
        np.concatenate([np.asarray(scores[name], dtype=np.float64).ravel() for name in names]) if names else np.empty(0)
    )
    candidates = (
        np.flatnonzero(np.concatenate([within[name].ravel() for name in names]))
        if within is not None
        else np.arange(flat.size)
    )
    if not 0 <= kept <= candidates.size:
        raise UsageError(f"cannot keep {kept} weights of {candidates.size}")
    order = candidates[np.argsort(-flat[candidates], kind="stable")[:kept]]
    chosen = np.zeros(flat.size, dtype=np.bool_)
    chosen[order] = True
    layers, start = {}, 0
    for name in names:
        shape = np.shape(scores[name])
        stop = start + int(np.prod(shape, dtype=np.int64))
        layers[name] = chosen[start:stop].reshape(shape)
        start = stop
    return Mask(layers)
