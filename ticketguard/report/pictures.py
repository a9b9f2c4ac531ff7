"""Pictures inside a page: masks as small PNG data URIs, QR codes as SVG paths."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError
from ticketguard.storage.pictures import png_bytes

QUIET_ZONE = 4
# A page must stay small: larger layers are thinned to this many rows and columns.
LARGEST = 512


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with its words. `alt` says what it shows to those who cannot see it; either `png` (data URI) or `path` is set.

    `path`: SVG path data in a square of `size` modules, dark on light.
    """

    title: str
    alt: str
    width: int
    height: int
    png: str = ""
    path: str = ""


def mask_picture(name: str, counts: NDArray[np.integer]) -> Picture:
    """The frame of one layer: kept weights per cell (rows x cells, integers >= 0), darker = more.

    Raises `UsageError` when `counts` is not a matrix with at least one cell.
    """
    if counts.ndim != 2 or counts.size == 0 or counts.min() < 0:
        raise UsageError(f"{name}: a picture of a mask is drawn from a matrix of counts, not from shape {counts.shape}")
    thinned = counts[:: -(-counts.shape[0] // LARGEST), :: -(-counts.shape[1] // LARGEST)]
    most = int(counts.max())
    shades = 255 - np.asarray(thinned, dtype=np.int64) * 235 // max(most, 1)
    empty = float((counts == 0).mean())
    rows, columns = counts.shape
    left_out = "" if thinned.size == counts.size else f"; drawn thinned to {thinned.shape[0]} x {thinned.shape[1]}"
    return Picture(
        title=f"Kept weights per cell, {name}",
        alt=f"{rows} output channels by {columns} cells; {empty:.0%} of them are empty, the fullest keeps {most}{left_out}",
        width=thinned.shape[1],
        height=thinned.shape[0],
        png="data:image/png;base64," + base64.b64encode(png_bytes(shades.astype(np.uint8)[None])).decode("ascii"),
    )


def qr_picture(
    modules: NDArray[np.bool_],
    *,
    title: str = "QR code read from the topology",
    text: str | None,
) -> Picture:
    """A square of QR modules (dark = True) with its decoded `text` (None: unreadable)."""
    if modules.ndim != 2 or modules.shape[0] != modules.shape[1] or not len(modules):
        raise UsageError(f"a QR code is a square of modules, not {modules.shape}")
    size = len(modules) + 2 * QUIET_ZONE
    rows, columns = np.nonzero(modules)
    squares = zip((rows + QUIET_ZONE).tolist(), (columns + QUIET_ZONE).tolist(), strict=True)
    said = "it cannot be decoded" if text is None else f"it decodes to “{text}”"
    return Picture(
        title=title,
        alt=f"{len(modules)} x {len(modules)} modules; {said}",
        width=size,
        height=size,
        path="".join(f"M{column} {row}h1v1h-1z" for row, column in squares),
    )
