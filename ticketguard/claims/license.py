"""Licences: a signed statement that a fingerprinted copy of a ticket was given to a named licensee (`license/v1`)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from ticketguard.claims import canonical, envelope, statements
from ticketguard.claims.keys import PublicKey, SecretKey
from ticketguard.errors import AuthenticityError, FormatError

NAME = "license"
FORMAT = 1
SERIAL = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class License:
    """Who got which copy. `serial` (32 hex digits) selects the codeword; it tells nobody but the owner anything.

    `copy`: manifest digest of the copy; `code`: kind, bits and collusion of the fingerprint; `key_mask`: SHA-256 of the
    encrypted key mask when the copy is locked, else None. Law: `parse(x.payload()) == x`.
    """

    owner: str
    public_key: PublicKey
    registration: str
    licensee: str
    serial: str
    copy: str
    kind: str
    bits: int
    collusion: int
    key_mask: str | None = None

    def payload(self) -> bytes:
        """The in-toto statement as RFC 8785 JSON; its subject is the copy."""
        predicate = {
            "format": FORMAT,
            "owner": self.owner,
            "publicKey": statements.encode_bytes(self.public_key.spki),
            "registration": {"sha256": self.registration},
            "licensee": self.licensee,
            "serial": self.serial,
            "fingerprint": {"kind": self.kind, "bits": self.bits, "collusion": self.collusion},
            "keyMask": None if self.key_mask is None else {"sha256": self.key_mask},
        }
        return canonical.encode(statements.statement([("copy", self.copy)], NAME, predicate))


def sign(issued: License, key: SecretKey) -> bytes:
    """The licence's envelope. Raises `AuthenticityError` when `key` is not the owner's, `FormatError` for a bad field."""
    if key.public != issued.public_key:
        raise AuthenticityError("a licence is signed by the key of the registration")
    payload = issued.payload()
    parse(payload)
    return envelope.sign(payload, key)


def parse(payload: bytes) -> License:
    """Read a licence's payload (its signature already verified). Raises `FormatError`."""
    parsed = canonical.parse(payload)
    predicate = statements.predicate(parsed, NAME)
    try:
        issued = _from(predicate, statements.subjects(parsed))
    except (KeyError, TypeError, ValueError) as problem:
        raise FormatError(f"licence: field missing or malformed ({problem})") from problem
    if not statements.is_text(issued.licensee):
        raise FormatError("licence: the licensee is not a printable text of 1 to 512 characters")
    good = (
        statements.is_text(issued.owner)
        and isinstance(issued.serial, str)
        and SERIAL.fullmatch(issued.serial) is not None
        and type(issued.bits) is int
        and type(issued.collusion) is int
        and statements.is_digest(issued.registration)
        and (issued.key_mask is None or statements.is_digest(issued.key_mask))
    )
    if not good or issued.payload() != payload:
        raise FormatError("licence: fields beyond version 1, of another type, or not in canonical form")
    return issued


def open_license(data: bytes, registration_payload: bytes, key: PublicKey, *, where: str) -> License:
    """Verify and read a licence of this registration.

    Raises `AuthenticityError` for another owner's or registration's, `FormatError` for what is no licence; both name `where`.
    """
    opened = envelope.open(data, key, where=where)
    try:
        issued = parse(opened.payload)
    except FormatError as problem:
        raise FormatError(f"{where}: {problem}") from problem
    if issued.registration != hashlib.sha256(registration_payload).hexdigest() or issued.public_key != key:
        raise AuthenticityError(f"{where}: a licence under another registration")
    return issued


def _from(predicate: dict[str, Any], subjects: dict[str, str]) -> License:
    code, locked = predicate["fingerprint"], predicate["keyMask"]
    return License(
        owner=predicate["owner"],
        public_key=PublicKey.from_spki(statements.decode_bytes(predicate["publicKey"])),
        registration=predicate["registration"]["sha256"],
        licensee=predicate["licensee"],
        serial=predicate["serial"],
        copy=subjects["copy"],
        kind=code["kind"],
        bits=code["bits"],
        collusion=code["collusion"],
        key_mask=None if locked is None else locked["sha256"],
    )
