"""Merkle trees of RFC 9162 section 2.1 over SHA-256: a root over the leaf commitments, and inclusion proofs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ticketguard.errors import AuthenticityError, UsageError


def leaf_hash(data: bytes) -> bytes:
    """Hash of one entry: SHA256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(entries: Sequence[bytes]) -> bytes:
    """MTH of the entries, 32 bytes; the hash of the empty string for none (RFC 9162 2.1.1)."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return leaf_hash(entries[0])
    split = _split(len(entries))
    return node_hash(root(entries[:split]), root(entries[split:]))


def proof(entries: Sequence[bytes], index: int) -> list[bytes]:
    """Inclusion path of entry `index`, from the leaf upwards (RFC 9162 2.1.3.1)."""
    if not 0 <= index < len(entries):
        raise UsageError(f"no leaf {index}: there are {len(entries)}")
    if len(entries) == 1:
        return []
    split = _split(len(entries))
    if index < split:
        return [*proof(entries[:split], index), root(entries[split:])]
    return [*proof(entries[split:], index - split), root(entries[:split])]


def verify(data: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raise `AuthenticityError` unless `path` proves that entry `index` of a tree of `size` under `root` is `data`.

    The algorithm of RFC 9162 2.1.3.2.
    """
    if not 0 <= index < size or any(len(node) != 32 for node in path):
        raise AuthenticityError(f"Merkle proof: leaf {index} of {size}, or its path, is malformed")
    position, last, value = index, size - 1, leaf_hash(data)
    for node in path:
        if last == 0:
            raise AuthenticityError("Merkle proof: the path is too long")
        if position & 1 or position == last:
            value = node_hash(node, value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            value = node_hash(value, node)
        position, last = position >> 1, last >> 1
    if last != 0 or value != root:
        raise AuthenticityError(f"Merkle proof: leaf {index} is not under the registered root")


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
