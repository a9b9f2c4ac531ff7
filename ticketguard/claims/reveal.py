"""Reveals: one unused leaf, disclosed for one frozen suspect, one judge's nonce and a limited time (docs/protocol.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from ticketguard.claims import canonical, envelope, merkle, statements, streams
from ticketguard.claims.keys import PublicKey, SecretKey
from ticketguard.claims.opening import Opening, open_one
from ticketguard.claims.registration import Registration
from ticketguard.claims.secret import Secret
from ticketguard.errors import AuthenticityError, FormatError, UsageError

NAME = "reveal"
FORMAT = 1
KINDS = ("weights", "transcript")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
NONCE = re.compile(r"(?:[0-9a-f]{2}){16,64}")

SuspectKind = Literal["weights", "transcript"]


@dataclass(frozen=True, kw_only=True)
class Reveal:
    """A disclosed leaf and everything that it is good for.

    `registration`: hex SHA-256 of the payload; `beacon`: 32 bytes; `index`, `leaf`, `proof`: the leaf and its Merkle path;
    `kind`, `suspect`: what was frozen before the leaf was shown, a manifest or transcript digest (hex); `nonce`: the judge's,
    16 to 64 bytes in hex; `recipient`: id of the judge's encryption key or None; `expires`: UTC.
    Law: `parse(r.payload()) == r`.
    """

    public_key: PublicKey
    registration: str
    beacon: bytes
    index: int
    leaf: bytes
    proof: tuple[bytes, ...]
    kind: SuspectKind
    suspect: str
    nonce: str
    recipient: str | None
    expires: datetime

    def payload(self) -> bytes:
        """The in-toto statement as RFC 8785 JSON; its subject is the suspect."""
        predicate = {
            "format": FORMAT,
            "publicKey": statements.encode_bytes(self.public_key.spki),
            "registration": {"sha256": self.registration},
            "beacon": self.beacon.hex(),
            "leaf": {"index": self.index, "secret": self.leaf.hex(), "proof": [node.hex() for node in self.proof]},
            "kind": self.kind,
            "judge": {"nonce": self.nonce, "recipient": self.recipient},
            "expires": format_time(self.expires),
        }
        return canonical.encode(statements.statement([("suspect", self.suspect)], NAME, predicate))


def spend_leaf(
    secret: Secret, leaves: int, suspect: str, *, wanted: int | None = None, override: bool = False
) -> tuple[int, Secret]:
    """Choose a leaf to reveal for `suspect` (hex digest) and record it as used.

    The first unused leaf, or `wanted`. A used leaf is refused, even for the same suspect, unless `override`: whoever saw it can
    forge against it. The secret must be stored before the reveal leaves the owner.
    """
    index = wanted
    if index is None:
        index = next((j for j in range(leaves) if j not in secret.used), 0 if override else None)
    if index is None:
        raise UsageError(f"all {leaves} leaves have been revealed already; sign a new ticket, or say --override")
    if not 0 <= index < leaves:
        raise UsageError(f"there is no leaf {index}: the registration has {leaves}, numbered from 0")
    if index in secret.used and not override:
        raise UsageError(
            f"leaf {index} was revealed already, for suspect {secret.used[index][:16]}: choose another leaf, or say --override"
        )
    return index, secret.with_used(index, suspect)


def make(
    opening: Opening,
    index: int,
    key: SecretKey,
    *,
    kind: SuspectKind,
    suspect: str,
    nonce: str,
    expires: datetime,
    recipient: str | None = None,
) -> tuple[Reveal, bytes]:
    """Disclose leaf `index` of the owner's full `opening`: the reveal and its signed envelope."""
    registration = opening.registration
    if key.public.keyid not in registration.signers:
        raise AuthenticityError("this key did not sign the registration, so it cannot sign a reveal of it")
    commitments = [streams.commitment(opening.leaves[j], j) for j in range(registration.leaves)]
    reveal = Reveal(
        public_key=key.public,
        registration=hashlib.sha256(opening.payload).hexdigest(),
        beacon=opening.beacon,
        index=index,
        leaf=opening.leaves[index],
        proof=tuple(merkle.proof(commitments, index)),
        kind=kind,
        suspect=suspect,
        nonce=nonce,
        recipient=recipient,
        expires=expires,
    )
    payload = reveal.payload()
    parse(payload)
    return reveal, envelope.sign(payload, key)


def parse(payload: bytes) -> Reveal:
    """Read a reveal's payload (its signature already verified). Raises `FormatError`."""
    parsed = canonical.parse(payload, where="reveal")
    predicate = statements.predicate(parsed, NAME)
    try:
        reveal = _from_predicate(predicate, statements.subjects(parsed))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as problem:
        raise FormatError(f"reveal: field missing or malformed ({type(problem).__name__}: {problem})") from problem
    if reveal.payload() != payload:
        raise FormatError("reveal: fields beyond version 1, of another type, or not in canonical form")
    return reveal


def _from_predicate(predicate: Mapping[str, Any], subjects: Mapping[str, str]) -> Reveal:
    if predicate["format"] != FORMAT:
        raise FormatError(f"reveal: format {ascii(predicate['format'])[:40]} is not known to this version")
    leaf, judge = predicate["leaf"], predicate["judge"]
    index = leaf["index"]
    if predicate["kind"] not in KINDS or type(index) is not int or not 0 <= index < 1 << 16 or len(leaf["proof"]) > 64:
        raise FormatError("reveal: the kind of suspect, the leaf's number or its proof is malformed")
    if not isinstance(judge["nonce"], str) or not NONCE.fullmatch(judge["nonce"]):
        raise FormatError("reveal: the judge's nonce is not 16 to 64 bytes in lower-case hexadecimal")
    if judge["recipient"] is not None and not statements.is_digest(judge["recipient"]):
        raise FormatError("reveal: the recipient is not a SHA-256 digest")
    if not statements.is_digest(predicate["registration"]["sha256"]):
        raise FormatError("reveal: the registration is not named by a SHA-256 digest")
    return Reveal(
        public_key=PublicKey.from_spki(statements.decode_bytes(predicate["publicKey"])),
        registration=predicate["registration"]["sha256"],
        beacon=_exactly_32(predicate["beacon"]),
        index=index,
        leaf=_exactly_32(leaf["secret"]),
        proof=tuple(_exactly_32(node) for node in leaf["proof"]),
        kind=predicate["kind"],
        suspect=subjects["suspect"],
        nonce=judge["nonce"],
        recipient=judge["recipient"],
        expires=parse_time(predicate["expires"]),
    )


def _exactly_32(text: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != 32:
        raise FormatError(f"reveal: a value of {len(data)} bytes where 32 belong")
    return data


def open_reveal(reveal: Reveal, registration: Registration, payload: bytes) -> Opening:
    """The judge's opening: key (or a successor), registration digest and Merkle proof checked; else `AuthenticityError`."""
    if reveal.public_key.keyid not in registration.signers:
        raise AuthenticityError("the reveal is signed by another key than the registration")
    if reveal.registration != hashlib.sha256(payload).hexdigest():
        raise AuthenticityError("the reveal belongs to another registration")
    if registration.beacon == "none" and reveal.beacon != streams.NO_BEACON:
        raise AuthenticityError("the reveal uses a beacon, the registration has none")
    return open_one(registration, payload, reveal.index, reveal.leaf, list(reveal.proof), reveal.beacon)


def require_valid(reveal: Reveal, *, kind: SuspectKind, suspect: str, nonce: str, now: datetime) -> None:
    """Raise `AuthenticityError` unless the reveal is for this suspect and nonce and has not expired at `now` (UTC)."""
    if (reveal.kind, reveal.suspect) != (kind, suspect):
        raise AuthenticityError(
            f"the reveal was made for {reveal.kind} {reveal.suspect[:16]}, this suspect is {kind} {suspect[:16]}"
        )
    if reveal.nonce != nonce:
        raise AuthenticityError("the reveal answers another nonce than this judge's")
    if now >= reveal.expires:
        raise AuthenticityError(f"the reveal expired at {format_time(reveal.expires)}")


def format_time(moment: datetime) -> str:
    """UTC as `2026-01-31T12:00:00Z`, whole seconds."""
    return moment.astimezone(UTC).strftime(TIME_FORMAT)


def parse_time(text: str) -> datetime:
    """The moment that `format_time` wrote. Raises `FormatError`."""
    try:
        moment = datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
    except (TypeError, ValueError) as problem:
        raise FormatError(f"{str(text)[:40]!r} is not a time such as 2026-01-31T12:00:00Z") from problem
    return moment
