"""Where a QR code lies in a ticket, and the search for the place where a layer's projection already agrees with it best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import CapacityError, FormatError
from ticketguard.masks import Bits, Mask

# Modules that a lower-level layer may agree less, as a share of all: its weights are pruned least (paper, V2).
PREFERENCE = 0.02
ERROR_LEVELS = "LMQH"


@dataclass(frozen=True, kw_only=True)
class Place:
    """All that reading a code needs: its layer, its upper left kernel (row = output, column = input channel) and its kind.

    `version`, `error` and `pattern` (QR version, error correction level and data mask) fix the size and every module that is
    the same in all codes of that kind. Law: `Place.from_json(p.to_json()) == p`.
    """

    layer: str
    row: int
    column: int
    version: int
    error: str
    pattern: int

    @property
    def size(self) -> int:
        """Modules along an edge."""
        return 17 + 4 * self.version

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in ("layer", "row", "column", "version", "error", "pattern")}

    @classmethod
    def from_json(cls, value: object) -> Place:
        """Read `to_json`'s result; raises `FormatError` for anything else."""
        if not isinstance(value, dict) or sorted(value) != sorted(cls.__annotations__):
            raise FormatError("QR place: expected layer, row, column, version, error and pattern")
        numbers = [value[name] for name in ("row", "column", "version", "pattern")]
        if not all(type(number) is int for number in numbers) or not isinstance(value["layer"], str):
            raise FormatError("QR place: row, column, version and pattern are whole numbers, layer is a name")
        place = cls(**value)
        known = 1 <= place.version <= 40 and 0 <= place.pattern <= 7 and place.error in tuple(ERROR_LEVELS)
        if not known or min(place.row, place.column) < 0:
            raise FormatError("QR place: version, pattern, error level or position out of range")
        return place


def project(kept: Bits) -> Bits:
    """A mask as output x input channels: is the kernel non-empty?"""
    return np.asarray(kept.reshape(*kept.shape[:2], -1).any(axis=2))


def agreement(projection: Bits, modules: Bits, free: Bits) -> NDArray[np.int64]:
    """How many free modules each position of the code shares with `projection`, by FFT cross-correlation.

    `projection` is O x I, `modules` and `free` s x s (True: dark; True: carries data). Returns int64 (O - s + 1) x (I - s + 1).
    """
    # scipy.fft takes a tenth of a second to import, and verifying never searches.
    from scipy import fft

    # Dark data modules count +1 on a non-empty kernel, light ones -1; adding the light ones turns that into agreements.
    template = np.where(free, np.where(modules, 1, -1), 0).astype(np.float32)
    size = modules.shape[0]
    rows, columns = projection.shape
    shape = (fft.next_fast_len(rows, real=True), fft.next_fast_len(columns, real=True))
    # Single precision is exact here: counts are below 32,000 and rounded, errors stay below 0.01.
    spectrum = fft.rfft2(projection.astype(np.float32), shape) * np.conj(fft.rfft2(template, shape))
    # Cyclic wrapping only reaches positions where the code would overhang, and those are cut off.
    correlation = fft.irfft2(spectrum, shape)[: rows - size + 1, : columns - size + 1]
    return np.asarray(np.rint(correlation).astype(np.int64) + int((free & ~modules).sum()))


def search(mask: Mask, candidates: Mapping[str, Bits], modules: Bits, free: Bits) -> tuple[str, int, int, float]:
    """The layer, row, column and share of agreeing modules of the best position over the `candidates` (name -> projection).

    Of layers within `PREFERENCE` of the best the lowest-level one wins (the order of `mask`); within a layer the first of the
    best positions. Raises `CapacityError` when no layer is wide enough.
    """
    size = modules.shape[0]
    total = int(free.sum())
    found: list[tuple[str, int, int, float]] = []
    for name in mask:
        if name not in candidates or min(candidates[name].shape) < size:
            continue
        matches = agreement(candidates[name], modules, free)
        row, column = np.unravel_index(int(matches.argmax()), matches.shape)
        found.append((name, int(row), int(column), float(matches.max()) / total))
    if not found:
        raise CapacityError(
            f"no convolution has {size} x {size} kernels and the edges to hold this QR code: choose a lower version, "
            "a shorter text, or the edge code"
        )
    best = max(share for *_, share in found)
    return next(place for place in found if place[3] >= best - PREFERENCE)
