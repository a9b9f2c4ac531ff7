"""QR symbols: encoding with segno, decoding with zxing-cpp, and which modules the standard fixes (ISO/IEC 18004).

Both libraries come with the extra `ticketguard[qr]` and are imported on use: only tickets with a QR code need them.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np

from ticketguard.errors import CapacityError, UsageError
from ticketguard.masks import Bits
from ticketguard.signatures.position import ERROR_LEVELS

VERSION = 3
ERROR = "H"
PATTERN = 0
QUIET_ZONE = 4
PIXELS_PER_MODULE = 4
# segno's names of the modules that differ between two codes of one kind; all others are fixed by the standard.
DATA_TYPES = ("TYPE_DATA_DARK", "TYPE_DATA_LIGHT")
FORMAT_TYPES = ("TYPE_FORMAT_DARK", "TYPE_FORMAT_LIGHT")


@dataclass(frozen=True, kw_only=True)
class Code:
    """A QR symbol: `modules` (dark = True), and `free`, the modules that carry data (the rest is fixed by the standard)."""

    text: str
    modules: Bits
    free: Bits


def encode(text: str, *, version: int = VERSION, error: str = ERROR, pattern: int = PATTERN) -> Code:
    """Encode `text` as a QR code of exactly this version, error correction level and data mask.

    Raises `CapacityError` when the text does not fit and `UsageError` for a kind of code that does not exist.
    """
    segno = _library("segno")
    if not 1 <= version <= 40 or error not in tuple(ERROR_LEVELS) or not 0 <= pattern <= 7:
        raise UsageError(
            f"no QR code has version {version}, level {error!r}, pattern {pattern}: 1 to 40, L M Q H, 0 to 7"
        )
    if not text:
        raise UsageError("a QR code needs a text of at least one character")
    try:
        text.encode()
        symbol = segno.make_qr(text, version=version, error=error, mask=pattern, boost_error=False)
    except UnicodeEncodeError as problem:
        raise UsageError("the text of a QR code is not Unicode: bytes that are no UTF-8 are in it") from problem
    except segno.DataOverflowError as problem:
        raise CapacityError(
            f"a text of {len(text.encode())} bytes does not fit a QR code of version {version}-{error}: "
            "shorten it, or choose a higher version or a lower error correction level"
        ) from problem
    kinds = np.array([list(row) for row in symbol.matrix_iter(border=0, verbose=True)])
    data = np.isin(kinds, [getattr(segno.consts, name) for name in DATA_TYPES])
    labelled = np.isin(kinds, [getattr(segno.consts, name) for name in FORMAT_TYPES])
    modules = np.array([list(row) for row in symbol.matrix], dtype=np.bool_)
    # segno 1.6 labels one data module as format information, so the standard's own positions decide.
    return Code(text=text, modules=modules, free=data | (labelled & ~_format_positions(len(modules))))


def _format_positions(size: int) -> Bits:
    """Where ISO/IEC 18004 (figure 25) puts the two copies of the format information."""
    found = np.zeros((size, size), dtype=np.bool_)
    near = [0, 1, 2, 3, 4, 5, 7, 8]
    found[8, near] = found[near, 8] = True
    found[8, size - 8 :] = found[size - 7 :, 8] = True
    return found


@cache
def template(version: int, error: str, pattern: int) -> Code:
    """Some code of a kind: its fixed modules are those of all."""
    return encode("0", version=version, error=error, pattern=pattern)


def decode(picture: Bits) -> str | None:
    """The text of a QR picture (dark = True), by zxing-cpp after error correction; None when it cannot be read."""
    zxing = _library("zxingcpp")
    framed = np.pad(~picture, QUIET_ZONE, constant_values=True)
    image = np.kron(framed, np.ones((PIXELS_PER_MODULE, PIXELS_PER_MODULE), dtype=np.bool_)).astype(np.uint8) * 255
    found = zxing.read_barcodes(
        image,
        formats=zxing.BarcodeFormat.QRCode,
        try_rotate=False,
        try_downscale=False,
        try_invert=False,
        is_pure=True,
    )
    # A pure picture is always "found"; only `valid` says that error correction succeeded.
    return str(found[0].text) if found and found[0].valid else None


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise UsageError("QR codes need the extra libraries: pip install 'ticketguard[qr]'") from problem
