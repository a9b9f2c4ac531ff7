"""The ownership claim: a signed statement, made after training, that names the model a registration led to."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from ticketguard.claims import canonical, envelope, statements
from ticketguard.claims.keys import PublicKey, SecretKey
from ticketguard.claims.registration import Registration
from ticketguard.errors import AuthenticityError, FormatError

NAME = "ownership-claim"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class OwnershipClaim:
    """Hex SHA-256 digests: `model` and `ticket` are manifests of the released files, `registration` the registered payload.

    Law: `parse(c.payload()) == c`. Dates are left out on purpose: whoever signs could write any; only a time stamp proves one.
    """

    owner: str
    public_key: PublicKey
    registration: str
    ticket: str
    model: str

    def payload(self) -> bytes:
        """The in-toto statement as RFC 8785 JSON; its subjects are the model and the ticket."""
        predicate = {
            "format": FORMAT,
            "owner": self.owner,
            "publicKey": statements.encode_bytes(self.public_key.spki),
            "registration": {"sha256": self.registration},
        }
        subjects = [("model", self.model), ("ticket", self.ticket)]
        return canonical.encode(statements.statement(subjects, NAME, predicate))


def make(
    registration_payload: bytes, *, owner: str, key: SecretKey, ticket: str, model: str
) -> tuple[OwnershipClaim, bytes]:
    """The claim and its signed envelope. Raises `FormatError` for a field that nobody could read back."""
    claim = OwnershipClaim(
        owner=owner,
        public_key=key.public,
        registration=hashlib.sha256(registration_payload).hexdigest(),
        ticket=ticket,
        model=model,
    )
    payload = claim.payload()
    parse(payload)
    return claim, envelope.sign(payload, key)


def parse(payload: bytes) -> OwnershipClaim:
    """Read a claim's payload (its signature already verified). Raises `FormatError`."""
    parsed = canonical.parse(payload)
    predicate = statements.predicate(parsed, NAME)
    subjects = statements.subjects(parsed)
    try:
        claim = OwnershipClaim(
            owner=predicate["owner"],
            public_key=PublicKey.from_spki(statements.decode_bytes(predicate["publicKey"])),
            registration=predicate["registration"]["sha256"],
            ticket=subjects["ticket"],
            model=subjects["model"],
        )
    except (KeyError, TypeError) as problem:
        raise FormatError(f"claim: field missing or malformed ({problem})") from problem
    if not statements.is_text(claim.owner):
        raise FormatError(f"claim: the owner is not a printable text of 1 to {statements.MOST_TEXT} characters")
    if not statements.is_digest(claim.registration) or claim.payload() != payload:
        raise FormatError("claim: fields beyond version 1, of another type, or not in canonical form")
    return claim


def require_registration(
    claim: OwnershipClaim, registration_payload: bytes, key: PublicKey, *, successors: Collection[str] = ()
) -> None:
    """Raise `AuthenticityError` unless the claim is about this registration and by its key, or by one of `successors` (ids)."""
    if claim.registration != hashlib.sha256(registration_payload).hexdigest():
        raise AuthenticityError("the claim names another registration")
    if claim.public_key != key and claim.public_key.keyid not in successors:
        raise AuthenticityError("the claim is signed by another key than the registration")


def require_same(claim: OwnershipClaim, registered: Registration, payload: bytes) -> None:
    """As `require_registration`, of a parsed registration and its payload; `AuthenticityError` for another owner, too."""
    require_registration(claim, payload, registered.public_key, successors=registered.signers)
    if claim.owner != registered.owner:
        raise AuthenticityError("the claim names another owner than the registration")
