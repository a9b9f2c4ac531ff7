"""Suspects: whatever file somebody hands us, read by what is in it and not by what it is called."""

from __future__ import annotations

from pathlib import Path

from ticketguard.errors import FormatError
from ticketguard.storage.atomic import is_folder, read_start
from ticketguard.storage.header import HEADER_LIMIT
from ticketguard.storage.onnxfile import read_onnx
from ticketguard.storage.tensors import INDEX_SUFFIX, UNREAD, Shapes, TensorFile, read_tensors
from ticketguard.storage.torchfile import read_torch

ONNX_SUFFIX = ".onnx"
# An ONNX model begins with its IR version: field 1, a number.
ONNX_START = b"\x08"
# A safetensors file begins with the length of its header in 8 bytes, and its header with a brace.
START_BYTES = 9
SAFETENSORS_SUFFIX = ".safetensors"
# The first bytes of an archive of torch.save, and of a pickle (its form before PyTorch 1.6).
TORCH_STARTS = (b"PK\x03\x04", b"\x80")


def read_any(path: Path) -> TensorFile:
    """The tensors of a safetensors file, a sharded checkpoint (index or folder), a .pt or .pth file, or an ONNX model.

    Raises `StorageError` when nothing can be read there, and `FormatError` when it is none of these.
    """
    path = Path(path)
    if is_folder(path) or path.name.endswith((SAFETENSORS_SUFFIX, INDEX_SUFFIX)):
        return read_tensors(path)
    start = read_start(path, START_BYTES)
    if _looks_like_safetensors(start):
        return read_tensors(path)
    if path.name.endswith(ONNX_SUFFIX) or start.startswith(ONNX_START):
        return read_onnx(path)
    if start.startswith(TORCH_STARTS):
        return read_torch(path)
    raise FormatError(f"{path}: neither a safetensors file nor PyTorch weights (.pt, .pth) nor an ONNX model")


def others_in(file: TensorFile) -> Shapes:
    """Names and shapes of tensors with rows and columns that lie in the suspect's file and were left out of `file`.

    Of one safetensors file everything is read; one that says otherwise of itself is taken at its word.
    """
    said = file.metadata.get(UNREAD)
    rows = said if isinstance(said, list) else []
    return [
        (str(row[0]), tuple(row[1]))
        for row in rows
        if isinstance(row, list | tuple) and len(row) == 2 and _is_shape(row[1])
    ]


def _is_shape(value: object) -> bool:
    return isinstance(value, list | tuple) and all(type(size) is int for size in value)


def _looks_like_safetensors(start: bytes) -> bool:
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= HEADER_LIMIT
