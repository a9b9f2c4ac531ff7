"""Withdrawals: a signed statement that a registration no longer counts (`withdrawal/v1`).

Signed by the registration's key, or by a successor that it names: whoever can sign for a registration can end it. It carries no
date, because whoever signs could write any: a withdrawn registration counts for nothing, whenever it was withdrawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ticketguard.claims import canonical, envelope, statements
from ticketguard.claims.keys import PublicKey, SecretKey
from ticketguard.claims.registration import Registration
from ticketguard.errors import AuthenticityError, FormatError, named

NAME = "withdrawal"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """`public_key` (who withdraws) ends the `registration` (hex SHA-256 of its payload), for a `reason` in words.

    Law: `parse(w.payload()) == w`.
    """

    public_key: PublicKey
    registration: str
    reason: str

    def payload(self) -> bytes:
        """The in-toto statement as RFC 8785 JSON; its subject is the registration."""
        predicate = {
            "format": FORMAT,
            "publicKey": statements.encode_bytes(self.public_key.spki),
            "reason": self.reason,
        }
        return canonical.encode(statements.statement([("registration", self.registration)], NAME, predicate))


def make(registered: Registration, payload: bytes, key: SecretKey, *, reason: str) -> tuple[Withdrawal, bytes]:
    """The withdrawal of a registration with this exact payload, and its envelope.

    Raises `AuthenticityError` when `key` may not sign for it, `FormatError` for a reason that is no printable text.
    """
    if key.public.keyid not in registered.signers:
        raise AuthenticityError("a registration is withdrawn by its own key or by a successor that it names")
    made = Withdrawal(
        public_key=key.public, registration=hashlib.sha256(payload).hexdigest(), reason=" ".join(reason.split())
    )
    statement = made.payload()
    parse(statement)
    return made, envelope.sign(statement, key)


def parse(payload: bytes) -> Withdrawal:
    """Read a withdrawal's payload (its signature already verified). Raises `FormatError`."""
    parsed = canonical.parse(payload, where="withdrawal")
    predicate = statements.predicate(parsed, NAME)
    try:
        found = Withdrawal(
            public_key=PublicKey.from_spki(statements.decode_bytes(predicate["publicKey"])),
            registration=statements.subjects(parsed)["registration"],
            reason=predicate["reason"],
        )
    except KeyError as problem:
        raise FormatError(f"withdrawal: field missing ({problem})") from problem
    if not statements.is_text(found.reason):
        raise FormatError(f"withdrawal: the reason is not a printable text of 1 to {statements.MOST_TEXT} characters")
    if found.payload() != payload:
        raise FormatError("withdrawal: fields beyond version 1, of another type, or not in canonical form")
    return found


def open_withdrawal(data: bytes, registered: Registration, payload: bytes, *, where: str) -> Withdrawal:
    """Verify and read a withdrawal of this registration. Raises `AuthenticityError` for a stranger's or another one's."""
    opened = envelope.open_self_signed(data, where=where)
    with named(where):
        found = parse(opened.payload)
    if found.registration != hashlib.sha256(payload).hexdigest():
        raise AuthenticityError(f"{where}: withdraws another registration")
    if opened.keyid not in registered.signers:
        raise AuthenticityError(f"{where}: signed by a key that cannot withdraw this registration")
    return found
