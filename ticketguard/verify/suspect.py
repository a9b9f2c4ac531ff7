"""Reading a suspect: its effective weights by normalized parameter name, never its mask buffers or its word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.registration import Registration
from ticketguard.evidence import UNREAD
from ticketguard.graph.axes import Order, stored_orders, turned
from ticketguard.graph.cells import Layer
from ticketguard.graph.codes import QUANTIZED, less, zero_points
from ticketguard.graph.groups import Axis, Symmetry, length
from ticketguard.graph.matching import PREFIX, Shape, match, same, trimmed
from ticketguard.graph.windows import WHOLE, Windows, kernel_within, windows
from ticketguard.storage.dtypes import NAMES
from ticketguard.storage.header import shown
from ticketguard.storage.suspects import others_in
from ticketguard.storage.tensors import TensorFile
from ticketguard.tickets import MASK_SUFFIX, Weights, shape_of

ORIGINAL_SUFFIX = "_orig"
# Unread tensors that a note names.
MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Effective:
    """One effective weight: the stored tensor `keys[0]`, 0 wherever `keys[1]` is, if there is one (`<p>_orig` and `<p>_mask`).

    Factors other than 0 and 1 in a mask are not applied: they would say what the weights are, which is not a mask's to say.
    What is stored is transposed by `axes` (None: it is stored in our order). Of that the part of `shape` that `windows`
    show is the weight (None: all of it), and positions count in there.
    """

    source: Weights
    keys: tuple[str, ...]
    shape: Shape
    axes: Order | None = None
    windows: Windows | None = None

    @cached_property
    def _zeros(self) -> NDArray[Any] | None:
        """The code of zero in each row (our order of axes) where quantized weights are stored; else None."""
        if _type(self.source, self.keys[0]) not in QUANTIZED:
            return None
        codes = np.asarray(self.source[self.keys[0]])
        found = zero_points(codes if self.axes is None else codes.transpose(self.axes))
        return found if found.any() else None

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    def gather(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Weights at flat positions; only those pages of a file are read, but once all of a quantized tensor."""
        stored = self._stored(positions)
        key, *masks = self.keys
        if self._zeros is None:
            values = _gather(self.source, key, stored)
        else:
            codes = np.asarray(self.source[key]).reshape(-1)[stored]
            values = less(codes, self._zeros[positions // prod(self.shape[1:])])
        return _masked(values, *(_gather(self.source, mask, stored) for mask in masks))

    def array(self) -> NDArray[Any]:
        """The whole tensor."""
        values, *masks = (np.asarray(self.source[key]) for key in self.keys)
        if self.axes is not None:
            values, *masks = (np.ascontiguousarray(each.transpose(self.axes)) for each in (values, *masks))
        if self._zeros is not None:
            values = less(values, self._zeros.reshape(-1, *(1,) * (values.ndim - 1)))
        values = _masked(values, *masks)
        return values if self.windows is None else self.windows.cut(values)

    def has_factors(self, positions: NDArray[np.int64] | None) -> bool:
        """Whether its mask holds anything but 0 and 1, at flat positions or (None) anywhere: more than is read of it here."""
        if len(self.keys) == 1:
            return False
        key = self.keys[1]
        mask = self.source[key] if positions is None else _gather(self.source, key, self._stored(positions))
        return bool(((mask != 0) & (mask != 1)).any())

    def _stored(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat positions in what is stored."""
        if self.axes is None and self.windows is None:
            return positions
        stored = shape_of(self.source, self.keys[0])
        whole = stored if self.axes is None else turned(stored, self.axes)
        if self.windows is not None:
            positions = self.windows.moved(positions, whole)
        return positions if self.axes is None else _stored_positions(positions, whole, self.axes)


def _masked(values: NDArray[Any], mask: NDArray[Any] | None = None) -> NDArray[Any]:
    return values if mask is None else np.where(mask != 0, values, values.dtype.type(0))


def _stored_positions(positions: NDArray[np.int64], shape: Shape, axes: Order) -> NDArray[np.int64]:
    """Flat positions in what is stored, of flat `positions` in `shape`, to which `axes` transposes it."""
    stored = [0] * len(shape)
    places = list(np.unravel_index(positions, shape))
    found = places.copy()
    for ours, theirs in enumerate(axes):
        stored[theirs], found[theirs] = shape[ours], places[ours]
    return np.asarray(np.ravel_multi_index(tuple(found), tuple(stored)), dtype=np.int64)


def _gather(source: Weights, key: str, positions: NDArray[np.int64]) -> NDArray[Any]:
    if isinstance(source, TensorFile):
        return source.gather(key, positions)
    return np.asarray(source[key]).reshape(-1)[positions]


def effective_weights(source: Weights, layers: Mapping[str, Layer] | None = None) -> dict[str, Effective]:
    """All effective weights of a state dict, by name without wrapper prefixes, in stored order.

    Where the shapes of the registered `layers` show that another framework stored them (`graph.axes`), its weights are turned:
    unless a layer stands under its own name as we store it, larger or smaller, so that others only seem to be those layers.

    Kernels that are larger than the registered ones are cut (`graph.windows`).

    `<p>` when it is stored; `<p>_orig` under `<p>_mask` for models in `torch.nn.utils.prune` form; `<p>_mask` alone for a
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
            keys = (key, mask) if mask in present and shape_of(source, mask) == shape_of(source, key) else (key,)
        elif key.endswith(MASK_SUFFIX):
            base = key.removesuffix(MASK_SUFFIX)
            if base in present or base + ORIGINAL_SUFFIX in present:
                continue
        clean = PREFIX.sub("", base)
        found.setdefault(
            clean if clean not in found else base,
            Effective(source=source, keys=keys, shape=shape_of(source, key)),
        )
    for rank, axes in _orders_of(found, layers or {}).items():
        found |= {
            name: replace(weight, shape=turned(weight.shape, axes), axes=axes)
            for name, weight in found.items()
            if len(weight.shape) == rank
        }
    return found if layers is None else _windowed(found, layers)


def _windowed(found: Mapping[str, Effective], layers: Mapping[str, Layer]) -> dict[str, Effective]:
    """The weights, kernels larger than those of the layer of their name cut to where most of their weight lies.

    Those of no layer's name only in files that lack a layer's: else they are what they were in the registered network.
    """
    named = {PREFIX.sub("", name): {layer.shape[2:]} for name, layer in layers.items()}
    renamed = not named.keys() <= found.keys()
    sizes = {layer.shape[2:] for layer in layers.values() if layer.kernel > 1} if renamed else set()
    cut = {}
    for name, weight in found.items():
        kernel = kernel_within(weight.shape, named.get(name, sizes))
        if kernel is not None:
            shape = (*weight.shape[:2], *kernel)
            cut[name] = replace(weight, shape=shape, windows=windows(weight.array(), kernel))
    return {**found, **cut}


def _orders_of(found: Mapping[str, Effective], layers: Mapping[str, Layer]) -> dict[int, Order]:
    """By rank the transposition that turns weights into ours, of ranks that are stored in another order."""
    shapes = {name: weight.shape for name, weight in found.items()}
    orders = stored_orders([layer.shape for layer in layers.values()], shapes.values())
    if not orders:
        return {}
    matched = match(list(layers.values()), Symmetry(), shapes)
    named = [
        (layer.shape, shapes[matched.names[name]])
        for name, layer in layers.items()
        if name in matched.names and name not in matched.renamed
    ]
    return {
        rank: axes
        for rank, axes in orders.items()
        if all(same(ours, turned(stored, axes)) for ours, stored in named if len(stored) == rank)
    }


def _type(source: Weights, key: str) -> str | None:
    """The element type by its name in safetensors files; None for one that these cannot hold."""
    return source.info(key).dtype if isinstance(source, TensorFile) else NAMES.get(np.asarray(source[key]).dtype)


@dataclass(frozen=True, kw_only=True)
class Located:
    """The registered layers that a suspect shows under their own name and shape, and notes on the others.

    `matched`: also those of another shape, which alignment reads.
    """

    weights: Mapping[str, Effective]
    matched: Mapping[str, Effective]
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
    if any(weight.axes is not None for weight in found.values()):
        notes.append("weights are stored with their axes in another order, and were turned")
    inner = [weight.windows for weight in found.values() if weight.windows is not None]
    if inner:
        notes.append(f"{len(inner)} layers have larger kernels, and were read where most of their weight lies")
    if len(found) < len(layers):
        notes.append(f"{len(layers) - len(found)} of {len(layers)} registered layers were not found under their shape")
    everything = {name: effective[matched.names[name]] for name in layers if name in matched.names}
    apart = [each.windows for each in everything.values() if each.windows is not None and not each.windows.together]
    if apart:
        notes.append(
            f"{UNREAD}{len(apart)} layers of larger kernels as a whole; no one place holds {WHOLE:.0%} of their weight, and "
            f"places for each channel hold {min(each.held for each in apart):.0%}"
        )
    return Located(weights=found, matched=everything, notes=tuple(notes))


def unread(
    source: Weights,
    effective: Mapping[str, Effective],
    matched: Mapping[str, Effective],
    registered: Registration,
    sample: Callable[[str], NDArray[np.int64]],
) -> list[str]:
    """Tensors of a suspect's file that have the shape of a layer with carriers and are not among the `matched` ones.

    The same sizes in another order count too, and those with neighbours put together, as of a flattened kernel. A stolen copy
    may lie there, beside a decoy. Left out are parameters of the
    registered network that carry nothing, by name and channels, and masks that say no more than the weight beside them, as far
    as that is read: at the `sample` of its layer, whole only where it is none. Of all others shapes are enough. Masks of the
    `matched` ones count where they hold factors.
    """
    shapes = {_unordered(shape) for entry in registered.table if entry.pairs for shape in _regrouped(entry.layer.shape)}
    layers = {key: name for name, weight in matched.items() for key in weight.keys}
    found = [
        key
        for key in source
        if key not in layers
        and _unordered(shape_of(source, key)) in shapes
        and not _is_plain_mask(source, key, registered, layers, sample)
    ]
    if found:
        plain = _plain_parameters(effective, registered)
        found = [key for key in found if key not in plain]
    if isinstance(source, TensorFile):
        found += [name for name, shape in others_in(source) if _unordered(shape) in shapes]
    for name, weight in matched.items():
        positions = sample(name)
        # A layer of another size is read aligned, all of it.
        as_registered = weight.size == registered.layers[name].positions
        if len(positions) and weight.has_factors(positions if as_registered else None):
            found.append(weight.keys[1])
    return found


def _plain_parameters(effective: Mapping[str, Effective], registered: Registration) -> set[str]:
    """Keys of the parameters of the registered network that carry nothing, as many channels to each as were registered."""
    known = (registered.channel_groups or Symmetry()).axes
    sizes = {PREFIX.sub("", name): _channels_of(axes) for name, axes in known.items() if name not in registered.layers}
    return {
        key
        for name in sizes.keys() & effective.keys()
        if effective[name].shape[: len(sizes[name])] == sizes[name]
        for key in effective[name].keys
    }


def _channels_of(axes: Sequence[Axis | None]) -> tuple[int, ...]:
    """Leading sizes of a parameter: 1 without channels (a depthwise filter's inputs), 0, which no weight has, where it ends."""
    return (*(1 if axis is None else length(axis) for axis in axes), *(0,) * (2 - len(axes)))


def _unordered(shape: Shape) -> Shape:
    """What a shape has in common with those of the same weights in other orders."""
    return trimmed(tuple(sorted(shape, reverse=True)))


def _regrouped(shape: Shape) -> Iterator[Shape]:
    """A shape, and the others that the same numbers have once neighbouring axes are put together."""
    for joined in product((False, True), repeat=len(shape) - 1):
        sizes = [shape[0]]
        for size, join in zip(shape[1:], joined, strict=True):
            sizes[-1:] = [sizes[-1] * size] if join else [sizes[-1], size]
        yield tuple(sizes)


def unread_note(names: list[str]) -> str:
    """What a report says of them, and what to do."""
    listed = ", ".join(shown(name) for name in names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    what = "1 tensor of a registered shape" if len(names) == 1 else f"{len(names)} tensors of registered shapes"
    return f"{UNREAD}{what} ({listed}); give each set of weights as a file of its own, without optimizer state"


def _is_plain_mask(
    source: Weights,
    key: str,
    registered: Registration,
    layers: Mapping[str, str],
    sample: Callable[[str], NDArray[np.int64]],
) -> bool:
    """A mask beside a stored weight, 1 exactly where that is not zero: it holds nothing that the weight does not show."""
    base = key.removesuffix(MASK_SUFFIX)
    if base == key or base not in source or shape_of(source, base) != shape_of(source, key):
        return False
    layer = registered.layers.get(layers.get(base, ""))
    if layer is not None and prod(shape_of(source, key)) == layer.positions:
        positions = sample(layer.name)
        return np.array_equal(_gather(source, key, positions), _gather(source, base, positions) != 0)
    return np.array_equal(np.asarray(source[key]), np.asarray(source[base]) != 0)
