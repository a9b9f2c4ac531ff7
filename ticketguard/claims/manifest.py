"""Manifests: what a set of named tensors is, whatever file holds it (docs/protocol.md, Digests of tensors).

A manifest is a list of {name, dtype, shape, sha256}, sorted by the UTF-8 bytes of the name; its digest is the subject
of a claim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ticketguard.claims import canonical
from ticketguard.claims.streams import lp, u32, u64
from ticketguard.errors import FormatError
from ticketguard.storage.tensors import TensorFile

TENSOR_LABEL = b"ticketguard/tensor/v1\0"
Entry = dict[str, Any]


def tensor_digest(name: str, dtype: str, shape: Sequence[int], raw: bytes | memoryview) -> bytes:
    """SHA-256 of `TENSOR_LABEL` || lp(name) || lp(dtype) || u32be(ndim) || u64be dims || lp(raw); 32 bytes.

    `raw` holds the little-endian C-order bytes. The container that held the tensor leaves no trace.
    """
    dims = b"".join(u64(int(size)) for size in shape)
    state = hashlib.sha256(TENSOR_LABEL + lp(name.encode()) + lp(dtype.encode()) + u32(len(shape)) + dims)
    state.update(u64(memoryview(raw).nbytes))
    state.update(raw)
    return state.digest()


def entry(name: str, dtype: str, shape: Sequence[int], raw: bytes | memoryview) -> Entry:
    """The manifest entry of one tensor."""
    sha256 = tensor_digest(name, dtype, shape, raw).hex()
    return {"name": name, "dtype": dtype, "shape": [int(size) for size in shape], "sha256": sha256}


def manifest(file: TensorFile) -> list[Entry]:
    """Sorted entries of every tensor of `file`."""
    return _sorted([entry(name, file.info(name).dtype, file.info(name).shape, file.raw(name)) for name in file])


def digest(entries: Sequence[Entry]) -> str:
    """Hex SHA-256 of the sorted entries as canonical JSON. Raises `FormatError` when a name occurs twice."""
    return hashlib.sha256(canonical.encode(_sorted(entries))).hexdigest()


def _sorted(entries: Sequence[Entry]) -> list[Entry]:
    if len({item["name"] for item in entries}) != len(entries):
        raise FormatError("manifest: a tensor name occurs twice")
    return sorted(entries, key=lambda item: str(item["name"]).encode())
