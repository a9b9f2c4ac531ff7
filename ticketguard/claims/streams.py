"""Streams: everything secret comes from one 32-byte master secret, and everything hangs on the binder (docs/protocol.md).

HKDF (RFC 5869) separates the owner's secrets; SHAKE256 (FIPS 202) makes the judged streams, because a malicious
claimant knows the seed and the stream must still be a random oracle. Every stream's prefix holds the binder, so it
depends on every registered parameter.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from ticketguard.errors import FormatError, UsageError

SECRET_BYTES = 32
NO_BEACON = bytes(32)
LABEL = b"ticketguard/v1/"


def u32(value: int) -> bytes:
    """Big-endian 4 bytes."""
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    """Big-endian 8 bytes."""
    return value.to_bytes(8, "big")


def lp(data: bytes) -> bytes:
    """`data` with its length in front as u64be."""
    return u64(len(data)) + data


def master_secret() -> bytes:
    """A new master secret: 32 bytes of the operating system's generator."""
    return os.urandom(SECRET_BYTES)


def leaf(master: bytes, spki: bytes, j: int) -> bytes:
    """Leaf `j` of the secret, 32 bytes: HKDF-SHA256(master, salt = SHA256(spki), info = label "leaf" || u32be(j))."""
    if len(master) != SECRET_BYTES:
        raise FormatError(f"master secret: {len(master)} bytes, expected {SECRET_BYTES}")
    info = LABEL + b"leaf" + u32(j)
    return HKDF(hashes.SHA256(), SECRET_BYTES, salt=hashlib.sha256(spki).digest(), info=info).derive(master)


def commitment(secret_leaf: bytes, j: int) -> bytes:
    """What the Merkle tree holds for leaf `j`: SHA256("ticketguard/v1/commitment" || u32be(j) || leaf), 32 bytes.

    The leaf has 256 bits of entropy, so this hides it.
    """
    return hashlib.sha256(LABEL + b"commitment" + u32(j) + secret_leaf).digest()


def binder(payload: bytes, beacon: bytes = NO_BEACON) -> bytes:
    """B: SHA256("ticketguard/v1/binder" || SHA256(registration payload) || beacon); the beacon has 32 bytes."""
    if len(beacon) != 32:
        raise FormatError(f"beacon: {len(beacon)} bytes, expected 32")
    return hashlib.sha256(LABEL + b"binder" + hashlib.sha256(payload).digest() + beacon).digest()


@dataclass(frozen=True)
class Stream:
    """S_j(label) = SHAKE256(lp("ticketguard/v1/" + label) || B || u32be(j) || leaf_j), read from its start every time.

    `label`: what the stream is for; `binder`: B, 32 bytes; `j`: leaf number; `leaf`: the leaf's 32 secret bytes.
    """

    label: str
    binder: bytes
    j: int
    leaf: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.binder) != 32 or len(self.leaf) != SECRET_BYTES:
            raise FormatError(f"stream {self.label}: binder and leaf have 32 bytes each")

    def bytes(self, count: int) -> bytes:
        """The first `count` bytes."""
        prefix = lp(LABEL + self.label.encode()) + self.binder + u32(self.j) + self.leaf
        return hashlib.shake_256(prefix).digest(count)

    def words(self, count: int) -> NDArray[np.uint64]:
        """The first `count` big-endian 64-bit words, uint64."""
        return np.frombuffer(self.bytes(8 * count), dtype=">u8").astype(np.uint64)

    def below(self, n: int, count: int) -> NDArray[np.int64]:
        """`count` uniform integers in [0, n), int64, by rejection.

        Words of 2^64 - (2^64 mod n) and more are skipped, the rest are taken mod n. Raises `UsageError` when n is out
        of range.
        """
        if not 1 <= n < 1 << 63:
            raise UsageError(f"cannot draw integers below {n}")
        largest = np.uint64((1 << 64) - (1 << 64) % n - 1)
        asked = count + 16
        while True:
            words = self.words(asked)
            accepted = words[words <= largest]
            if len(accepted) >= count:
                return (accepted[:count] % np.uint64(n)).astype(np.int64)
            asked *= 2
