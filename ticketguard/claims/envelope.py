"""DSSE envelopes: a signature over exact bytes, checked before those bytes are parsed (docs/protocol.md).

The envelope itself is canonical JSON with exactly one signature, so no byte of the file can change unnoticed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ticketguard.claims import canonical
from ticketguard.claims.keys import PublicKey, SecretKey
from ticketguard.claims.statements import decode_bytes, encode_bytes
from ticketguard.errors import AuthenticityError, FormatError

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Opened:
    """Verified bytes: the `payload`, the hex `keyid` that signed it and its `public` key."""

    payload: bytes
    keyid: str
    public: PublicKey


@dataclass(frozen=True)
class _Wrapper:
    payload: bytes
    keyid: str
    signature: bytes


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Pre-authentication encoding of DSSE v1: "DSSEv1" SP len(type) SP type SP len(payload) SP payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: SecretKey) -> bytes:
    """The envelope of `payload` under `key`, as canonical JSON."""
    signature = {"keyid": key.public.keyid, "sig": encode_bytes(key.sign(pae(payload)))}
    wrapper = {"payload": encode_bytes(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return canonical.encode(wrapper)


def open(envelope: bytes, public: PublicKey | None = None, *, where: str = "envelope") -> Opened:  # noqa: A001
    """Verify `envelope` and return its payload, still unparsed; `where` opens the error message.

    With `public` the envelope must be signed by that key. Without, see `open_self_signed`. Raises `FormatError` for
    anything but a canonical envelope, `AuthenticityError` when the key or the signature does not agree.
    """
    if public is None:
        return open_self_signed(envelope, where=where)
    return _verified(_unwrap(envelope, where), public, where)


def open_self_signed(envelope: bytes, *, where: str = "envelope") -> Opened:
    """Verify an envelope under the key that its own statement names as `predicate.publicKey`.

    The statement is read twice: untrusted for the key alone, and by the caller, from the returned bytes, after the
    signature over them held. It proves only that the holder of that key wrote it; who that is, the caller must know.
    """
    wrapper = _unwrap(envelope, where)
    untrusted = canonical.parse(wrapper.payload, where=where)
    named: Any = untrusted.get("predicate") if isinstance(untrusted, dict) else None
    if not isinstance(named, dict) or not isinstance(named.get("publicKey"), str):
        raise FormatError(f"{where}: the statement names no public key")
    try:
        public = PublicKey.from_spki(decode_bytes(named["publicKey"]))
    except FormatError as problem:
        raise FormatError(f"{where}: {problem}") from problem
    return _verified(wrapper, public, where)


def open_by(envelope: bytes, signers: Collection[str], *, where: str = "envelope") -> Opened:
    """As `open_self_signed`, by one of the keys whose ids are `signers`. Raises `AuthenticityError` for any other."""
    opened = open_self_signed(envelope, where=where)
    if opened.keyid not in signers:
        raise AuthenticityError(f"{where}: signed by key {opened.keyid[:16]!r}, which the registration does not name")
    return opened


def _unwrap(envelope: bytes, where: str) -> _Wrapper:
    parsed = canonical.parse(envelope, where=where)
    if not isinstance(parsed, dict) or set(parsed) != {"payload", "payloadType", "signatures"}:
        raise FormatError(f"{where}: not a DSSE envelope of exactly payload, payloadType and signatures")
    if parsed["payloadType"] != PAYLOAD_TYPE:
        raise FormatError(f"{where}: the payload type is not {PAYLOAD_TYPE}")
    signatures = parsed["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise FormatError(f"{where}: exactly one signature is expected")
    signature = signatures[0]
    if not isinstance(signature, dict) or set(signature) != {"keyid", "sig"} or not isinstance(signature["keyid"], str):
        raise FormatError(f"{where}: the signature has other fields than keyid and sig")
    if canonical.encode(parsed) != envelope:
        raise FormatError(f"{where}: the envelope is not in canonical form (RFC 8785)")
    try:
        return _Wrapper(decode_bytes(parsed["payload"]), signature["keyid"], decode_bytes(signature["sig"]))
    except FormatError as problem:
        raise FormatError(f"{where}: {problem}") from problem


def _verified(wrapper: _Wrapper, public: PublicKey, where: str) -> Opened:
    if wrapper.keyid != public.keyid:
        raise AuthenticityError(f"{where}: signed by key {wrapper.keyid[:16]!r}, expected {public.keyid[:16]!r}")
    try:
        public.verify(wrapper.signature, pae(wrapper.payload))
    except AuthenticityError as problem:
        raise AuthenticityError(f"{where}: {problem}") from problem
    return Opened(payload=wrapper.payload, keyid=wrapper.keyid, public=public)
