"""The header of a safetensors file: names, types, shapes and places, checked before any byte of data is believed.

Format: u64 little-endian length, a JSON object of that length, then the data. Stricter than the format asks: at most
16 MiB of header, 65,536 tensors and 8 dimensions, printable names, no key twice, no gap, no overlap, no byte left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from ticketguard.errors import FormatError, UsageError
from ticketguard.storage.documents import DIMENSION_LIMIT, ELEMENT_LIMIT, encode, parse_json
from ticketguard.storage.dtypes import STORED

HEADER_LIMIT = 16 << 20
TENSOR_LIMIT = 65_536
NAME_LIMIT = 512
METADATA_KEY = "__metadata__"
ENTRY_KEYS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Type (its safetensors name, e.g. F32) and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Number of bytes of the data."""
        return self.size * STORED[self.dtype].itemsize


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a header says: tensor name -> (info, first byte in the data part), and the metadata."""

    tensors: Mapping[str, tuple[TensorInfo, int]]
    metadata: Mapping[str, Any]


def parse_header(text: bytes, data_bytes: int, *, where: str) -> Header:
    """Check a header against the number of data bytes that follow it; `FormatError` names the first thing wrong."""
    document = parse_json(text, where=f"{where}: safetensors header") if text[:1] == b"{" else None
    if not isinstance(document, dict):
        raise FormatError(f"{where}: not a safetensors file: its header is not a JSON object")
    metadata = _metadata(document.pop(METADATA_KEY, {}), where)
    if len(document) > TENSOR_LIMIT:
        raise FormatError(f"{where}: {len(document)} tensors, at most {TENSOR_LIMIT} are read")
    tensors: dict[str, tuple[TensorInfo, int]] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in document.items():
        info, begin, end = _entry(name, entry, where)
        tensors[name] = info, begin
        spans.append((begin, end, name))
    place = 0
    for begin, end, name in sorted(spans):
        if begin != place:
            raise FormatError(f"{where}: tensor {shown(name)} overlaps another or leaves a gap; the file is damaged")
        place = end
    if place != data_bytes:
        raise FormatError(f"{where}: {data_bytes} bytes of data where the header describes {place}; is it complete?")
    return Header(tensors=tensors, metadata=metadata)


def build_header(
    infos: Mapping[str, TensorInfo], metadata: Mapping[str, Any], *, where: str
) -> tuple[bytes, list[str]]:
    """The first bytes of a file (length and JSON) and the order in which data follow.

    Names stand in the given order; data are laid out by falling element size, so that every tensor is aligned, which
    other readers rely on. Metadata values are JSON-encoded. Raises `UsageError` for what `parse_header` would refuse.
    """
    order = sorted(infos, key=lambda name: -STORED[infos[name].dtype].itemsize)
    places, place = {}, 0
    for name in order:
        places[name] = [place, place + infos[name].bytes]
        place += infos[name].bytes
    document: dict[str, Any] = {METADATA_KEY: {key: encode(value, where=where) for key, value in metadata.items()}}
    for name, info in infos.items():
        document[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": places[name]}
    text = encode(document, where=where).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise UsageError(f"{where}: names and metadata take more than {HEADER_LIMIT} bytes")
    try:
        parse_header(text, place, where=where)
    except FormatError as error:
        raise UsageError(f"{error} (such tensors cannot be written)") from error
    return len(text).to_bytes(8, "little") + text, order


def shown(name: object) -> str:
    """A hostile name, made safe for one line of a message: quoted, ASCII, at most 60 characters."""
    text = str(name)
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def _metadata(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise FormatError(f"{where}: {METADATA_KEY} must map names to strings")
    return {key: _parsed(item) for key, item in value.items()}


def _parsed(text: str) -> Any:
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"), where="")
    except FormatError:
        return text


def _entry(name: str, entry: object, where: str) -> tuple[TensorInfo, int, int]:
    """Type and shape of a tensor, and where its bytes begin and end in the data part."""
    if not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise FormatError(f"{where}: tensor name {shown(name)} is empty, too long or not printable")
    if not isinstance(entry, dict) or entry.keys() != ENTRY_KEYS:
        raise _bad_entry(where, name, "must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in STORED:
        raise _bad_entry(where, name, f"type {shown(dtype)} is not one this version reads")
    # With a size of zero too the others must be possible: their product is what strides are made of.
    if not _naturals(shape) or len(shape) > DIMENSION_LIMIT or prod(max(size, 1) for size in shape) > ELEMENT_LIMIT:
        raise _bad_entry(where, name, f"impossible shape, or more than {DIMENSION_LIMIT} dimensions")
    info = TensorInfo(dtype=dtype, shape=tuple(shape))
    if not _naturals(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != info.bytes:
        raise _bad_entry(where, name, "data_offsets do not agree with its type and shape")
    return info, offsets[0], offsets[1]


def _bad_entry(where: str, name: str, what: str) -> FormatError:
    return FormatError(f"{where}: tensor {shown(name)}: {what}")


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
