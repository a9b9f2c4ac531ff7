"""The owner's secret file: master secret, beacon and the record of used leaves, encrypted at rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ticketguard.claims import canonical, vault
from ticketguard.claims.statements import is_digest
from ticketguard.claims.streams import NO_BEACON, SECRET_BYTES
from ticketguard.errors import AuthenticityError, FormatError, StorageError
from ticketguard.storage.atomic import is_there, read_bytes, write_bytes

FORMAT = 1
LIMIT = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Secret:
    """What only the owner keeps. `registration` is the hex SHA-256 of the payload it belongs to.

    `used` maps a leaf number to the digest of the suspect it was revealed for: a leaf that was shown once can be forged
    against from then on, so it proves nothing about later suspects.
    """

    # Not in a log or a notebook that shows the value.
    master: bytes = field(repr=False)
    registration: str
    beacon: bytes = NO_BEACON
    used: Mapping[int, str] = field(default_factory=dict)

    def with_used(self, leaf: int, suspect: str) -> Secret:
        """The secret after `leaf` was revealed for `suspect`."""
        return replace(self, used={**self.used, leaf: suspect})


def write_secret(path: Path, secret: Secret, passphrase: str) -> None:
    """Encrypt and write the secret, mode 0600."""
    document = {
        "format": FORMAT,
        "master": secret.master.hex(),
        "registration": secret.registration,
        "beacon": secret.beacon.hex(),
        "used": {str(leaf): suspect for leaf, suspect in secret.used.items()},
    }
    write_bytes(path, vault.seal(canonical.encode(document), passphrase), mode=0o600)


def read_secret(path: Path, passphrase: str) -> Secret:
    """Read and decrypt a secret. Raises `AuthenticityError` for a wrong passphrase, `FormatError` for another file."""
    if not is_there(path):
        raise StorageError(
            f"{path}: there is no secret here; restore your backup: a lost secret is lost, and without it nothing can be proved"
        )
    plain = vault.unseal(read_bytes(path, limit=LIMIT), passphrase, where=str(path))
    document = canonical.parse(plain, where=str(path))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FormatError(f"{path}: not a ticketguard secret of a known version")
    try:
        found = Secret(
            master=bytes.fromhex(document["master"]),
            registration=document["registration"],
            beacon=bytes.fromhex(document["beacon"]),
            used={int(leaf): suspect for leaf, suspect in document["used"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise FormatError(f"{path}: the secret is malformed ({problem})") from problem
    if len(found.master) != SECRET_BYTES or len(found.beacon) != SECRET_BYTES or not is_digest(found.registration):
        raise FormatError(f"{path}: the secret is malformed (a field is not 32 bytes)")
    return found


def require_same_registration(secret: Secret, digest: str) -> None:
    """Raise `AuthenticityError` unless the secret belongs to the registration whose payload has this digest."""
    if secret.registration != digest:
        raise AuthenticityError("the secret belongs to another registration: it was made for another signing")
