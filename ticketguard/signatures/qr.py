"""V2, the paper's QR code in the topology: dark module = non-empty kernel, light module = empty kernel.

A QR code is readable by anyone who knows its place and proves nothing about chance or priority: it is a label, the edge code
is the evidence. Moves of the edge code stay inside kernels, so neither disturbs the other (code first, edge code second).
Needs the extra `ticketguard[qr]`: segno encodes, zxing-cpp decodes, independently of each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import CapacityError, FormatError, UsageError
from ticketguard.masks import Bits, Mask
from ticketguard.signatures import symbols
from ticketguard.signatures.position import Place, project, search
from ticketguard.signatures.symbols import ERROR, PATTERN, VERSION, Code, decode, encode

# Edges that make a kernel dark, tried in turn: embedding leaves dark kernels thick, pruning thins them, added edges come
# one at a time.
LEAST = (1, 2, 3)
# The share of the owner's own edges that the owner's threshold may give up.
GIVEN_UP = 0.1
# A layer is offered a code when it has this many edges per dark module, so that some are left outside the code.
EDGES_PER_DARK = 1.5
CAVEAT = (
    "a QR code is a label that anyone can write or copy: it proves nothing about chance or priority; the edge code does"
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A mask that carries a code. `agreed`: share of modules that were right before; `added`, `removed`: numbers of edges."""

    mask: Mask
    place: Place
    code: Code
    agreed: float
    added: int
    removed: int


def embed(
    mask: Mask,
    text: str,
    *,
    scores: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    version: int = VERSION,
    error: str = ERROR,
    pattern: int = PATTERN,
    place: Place | None = None,
    generator: np.random.Generator | None = None,
) -> Embedded:
    """Write `text` into the topology of `mask`; every layer keeps its number of edges exactly.

    `scores` (per parameter, the parameter's shape; magnitudes of the dense rewind weights, say) decides which positions of a
    kernel are filled first and which edges elsewhere are given up first; without it `generator` decides at random. `place`
    overrides the search. Edges freed by light modules thicken the thinnest dark ones, which is what survives pruning. Only
    layers with kernels of two positions or more are searched: elsewhere the edge code would move modules. Raises
    `CapacityError` when the text, or the code, does not fit.
    """
    if scores is None and generator is None:
        raise UsageError("embedding a QR code needs scores or a generator to choose positions by")
    if place is not None:
        version, error, pattern = place.version, place.error, place.pattern
    code = encode(text, version=version, error=error, pattern=pattern)
    if place is None:
        projections = {name: project(bits) for name, bits in mask.items() if _can_hold(bits, code)}
        layer, row, column, agreed = search(mask, projections, code.modules, code.free)
        place = Place(layer=layer, row=row, column=column, version=version, error=error, pattern=pattern)
    else:
        window = project(_window(mask, place))
        agreed = float((window == code.modules)[code.free].mean())
    bits = mask[place.layer]
    order = (
        np.abs(np.asarray(scores[place.layer], dtype=np.float64))
        if scores is not None
        else _random(generator, bits.shape)
    )
    changed = _write(bits, order, place, code)
    return Embedded(
        mask=Mask({name: changed if name == place.layer else array for name, array in mask.items()}),
        place=place,
        code=code,
        agreed=agreed,
        added=int((changed & ~bits).sum()),
        removed=int((bits & ~changed).sum()),
    )


def _can_hold(bits: Bits, code: Code) -> bool:
    """Kernels of two positions or more, enough edges for the dark modules, enough room for those of the light ones."""
    if bits.ndim < 3 or bits[0, 0].size < 2:
        return False
    dark, light = int((code.free & code.modules).sum()), int((code.free & ~code.modules).sum())
    edges = int(bits.sum())
    return bool(EDGES_PER_DARK * dark <= edges <= bits.size - light * bits[0, 0].size)


def _random(generator: np.random.Generator | None, shape: tuple[int, ...]) -> Floats:
    return generator.random(shape) if generator is not None else np.zeros(shape)


def _write(bits: Bits, order: Floats, place: Place, code: Code) -> Bits:
    """The layer with light modules emptied, dark ones filled and the layer's number of edges restored."""
    rows, columns = bits.shape[:2]
    kept = bits.reshape(rows, columns, -1).copy()
    order = order.reshape(kept.shape)
    inside = np.zeros((rows, columns), dtype=np.bool_)
    dark = np.zeros_like(inside)
    window = (slice(place.row, place.row + place.size), slice(place.column, place.column + place.size))
    inside[window] = code.free
    dark[window] = code.free & code.modules
    kept[inside & ~dark] = False
    budget = int(bits.sum()) - int(kept.sum())
    empty = dark & ~kept.any(axis=2)
    budget -= int(empty.sum())
    _fill(kept, order, np.argwhere(empty))
    if budget < 0:
        _give_up(kept, order, ~inside, -budget, place.layer)
    while budget > 0:
        counts = np.where(dark, kept.sum(axis=2), kept.shape[2])
        thinnest = np.argwhere(counts == counts.min())
        if counts.min() == kept.shape[2]:
            _take(kept, order, ~inside, budget, place.layer)
            break
        # The strongest candidates first, so that a part of a round is not the upper left corner.
        best = np.where(kept, -np.inf, order).max(axis=2)[thinnest[:, 0], thinnest[:, 1]]
        chosen = thinnest[np.argsort(-best, kind="stable")[:budget]]
        _fill(kept, order, chosen)
        budget -= len(chosen)
    return kept.reshape(bits.shape)


def _fill(kept: Bits, order: Floats, kernels: NDArray[np.int64]) -> None:
    """Keep the best pruned position of each of `kernels` (row, column)."""
    rows, columns = kernels.T
    positions = np.where(kept, -np.inf, order)[rows, columns].argmax(axis=1)
    kept[rows, columns, positions] = True


def _give_up(kept: Bits, order: Floats, where: Bits, count: int, layer: str) -> None:
    """Prune the `count` lowest edges of the kernels `where`."""
    candidates = np.flatnonzero(kept & where[:, :, None])
    if len(candidates) < count:
        raise CapacityError(f"{layer}: the QR code needs {count} edges more than the layer has outside it")
    lowest = candidates[np.argsort(order.ravel()[candidates], kind="stable")[:count]]
    kept.reshape(-1)[lowest] = False


def _take(kept: Bits, order: Floats, where: Bits, count: int, layer: str) -> None:
    """Keep the `count` best pruned positions of the kernels `where`."""
    candidates = np.flatnonzero(~kept & where[:, :, None])
    if len(candidates) < count:
        raise CapacityError(f"{layer}: too dense to empty the light modules of a QR code and keep its number of edges")
    best = candidates[np.argsort(-order.ravel()[candidates], kind="stable")[:count]]
    kept.reshape(-1)[best] = True


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a suspect shows at a place. `picture`: modules (dark = True), fixed ones restored; `text`: None if unreadable.

    `wrong` is the share of data modules that differ from the true code, None when that is not known to the reader; `least`
    the number of edges from which a kernel is dark in this picture.
    """

    place: Place
    picture: Bits
    text: str | None
    wrong: float | None = None
    least: int = LEAST[0]
    note: str = CAVEAT


def read(
    weights: Mapping[str, NDArray[Any]],
    place: Place,
    *,
    threshold: float = 0.0,
    least: Sequence[int] = LEAST,
    truth: Code | None = None,
) -> Reading:
    """Read the code at `place` from `weights` (or masks) by parameter name; nothing about the true code is used.

    A weight counts as kept when its magnitude exceeds `threshold` (the paper's defence against added weights, 0 by default);
    NaN does not. A module is dark when its kernel keeps at least as many weights as `least` says: its entries are tried in turn
    until one decodes, and the first is shown when none does (`(1,)` is the paper's reading). `truth` only adds the share of
    wrong modules to the report. Raises `FormatError` when the layer is missing or smaller than the place says.
    """
    kept = np.abs(np.asarray(_window(weights, place))) > threshold
    counts = kept.reshape(place.size, place.size, -1).sum(axis=2)
    fixed = symbols.template(place.version, place.error, place.pattern)
    pictures = {edges: np.where(fixed.free, counts >= edges, fixed.modules) for edges in least}
    texts = ((edges, decode(picture)) for edges, picture in pictures.items())
    edges, text = next((found for found in texts if found[1] is not None), (least[0], None))
    picture = pictures[edges]
    wrong = None if truth is None else float((picture != truth.modules)[truth.free].mean())
    return Reading(place=place, picture=picture, text=text, wrong=wrong, least=edges)


def owner_threshold(weights: Mapping[str, NDArray[Any]], place: Place) -> float:
    """A threshold for `read` that only the owner knows: it drops the smallest tenth of the owner's own edges in that layer."""
    magnitudes = np.abs(np.asarray(weights[place.layer], dtype=np.float64))
    kept = magnitudes[magnitudes > 0]
    return float(np.quantile(kept, GIVEN_UP)) if kept.size else 0.0


def _window(weights: Mapping[str, NDArray[Any]], place: Place) -> NDArray[Any]:
    """The kernels under a code: size x size x kernel, booleans as they are, numbers as float64."""
    array: NDArray[Any] = np.asarray(weights[place.layer]) if place.layer in weights else np.empty(0)
    bottom, right = place.row + place.size, place.column + place.size
    if array.ndim < 2 or array.shape[0] < bottom or array.shape[1] < right:
        raise FormatError(
            f"{place.layer}: no layer of at least {bottom} x {right} channels, so no QR code can be read there"
        )
    window: NDArray[Any] = array[place.row : bottom, place.column : right]
    # Signalling NaNs are invalid numbers before they are NaNs.
    with np.errstate(invalid="ignore"):
        return window if window.dtype == np.bool_ else window.astype(np.float64)
