"""Reading a suspect: its effective weights by normalized parameter name, never its mask buffers or its word (DESIGN 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.cells import Layer
from ticketguard.graph.groups import Symmetry
from ticketguard.graph.matching import PREFIX, match, same
from ticketguard.storage.tensors import TensorFile
from ticketguard.tickets import MASK_SUFFIX, Weights

ORIGINAL_SUFFIX = "_orig"


@dataclass(frozen=True, kw_only=True)
class Effective:
    """One effective weight: the product of the stored tensors `keys` (one, or `<p>_orig` and `<p>_mask`)."""

    source: Weights
    keys: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    def gather(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Weights at flat positions; only those pages of a file are read."""
        values = [_gather(self.source, key, positions) for key in self.keys]
        return values[0] if len(values) == 1 else values[0] * values[1]

    def array(self) -> NDArray[Any]:
        """The whole tensor."""
        values = [np.asarray(self.source[key]) for key in self.keys]
        return values[0] if len(values) == 1 else values[0] * values[1]


def _gather(source: Weights, key: str, positions: NDArray[np.int64]) -> NDArray[Any]:
    if isinstance(source, TensorFile):
        return source.gather(key, positions)
    return np.asarray(source[key]).reshape(-1)[positions]


def effective_weights(source: Weights) -> dict[str, Effective]:
    """All effective weights of a state dict, by name without wrapper prefixes, in stored order.

    `<p>` when it is stored; `<p>_orig` times `<p>_mask` for models in `torch.nn.utils.prune` form; `<p>_mask` alone for a
    bare mask file. A mask buffer beside a stored `<p>` is ignored: it may say anything.
    """
    names = list(source)
    found: dict[str, Effective] = {}
    present = set(names)
    for key in names:
        base = key
        keys: tuple[str, ...] = (key,)
        if key.endswith(ORIGINAL_SUFFIX):
            base = key.removesuffix(ORIGINAL_SUFFIX)
            if base in present:
                continue
            mask = base + MASK_SUFFIX
            keys = (key, mask) if mask in present and _shape(source, mask) == _shape(source, key) else (key,)
        elif key.endswith(MASK_SUFFIX):
            base = key.removesuffix(MASK_SUFFIX)
            if base in present or base + ORIGINAL_SUFFIX in present:
                continue
        clean = PREFIX.sub("", base)
        found.setdefault(
            clean if clean not in found else base, Effective(source=source, keys=keys, shape=_shape(source, key))
        )
    return found


def _shape(source: Weights, key: str) -> tuple[int, ...]:
    if isinstance(source, TensorFile):
        return tuple(source.info(key).shape)
    return tuple(np.shape(source[key]))


@dataclass(frozen=True, kw_only=True)
class Located:
    """The registered layers that a suspect shows under their own name and shape, and notes on the others."""

    weights: Mapping[str, Effective]
    notes: tuple[str, ...]


def locate(effective: Mapping[str, Effective], layers: Mapping[str, Layer]) -> Located:
    """Find registered layers of unchanged shape among a suspect's weights: by name, then by shape and order."""
    matched = match(list(layers.values()), Symmetry(), {name: weight.shape for name, weight in effective.items()})
    found = {
        name: effective[matched.names[name]]
        for name, layer in layers.items()
        if name in matched.names and same(layer.shape, effective[matched.names[name]].shape)
    }
    notes = []
    renamed = sum(name in found for name in matched.renamed)
    if renamed:
        notes.append(f"{renamed} layers matched by shape and order, not by name")
    if len(found) < len(layers):
        notes.append(f"{len(layers) - len(found)} of {len(layers)} registered layers were not found under their shape")
    return Located(weights=found, notes=tuple(notes))
