"""Reading the public files of a case: what `judge`, `dispute` and `audit` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ticketguard.bundle import ENVELOPE_LIMIT, Bundle
from ticketguard.claims import envelope, hpke, ownership, reveal, timestamps
from ticketguard.claims.keys import PublicKey, SecretKey
from ticketguard.claims.reveal import Reveal
from ticketguard.claims.timestamps import Stamp
from ticketguard.errors import AuthenticityError, UsageError
from ticketguard.storage.atomic import read_bytes
from ticketguard.storage.suspects import read_any
from ticketguard.storage.tensors import read_tensors
from ticketguard.verify import transcript as transcripts
from ticketguard.verify.judge import Case, Check, digest_of

REGISTRATION_STAMP = "registration.tsr"
CLAIM_STAMP = "claim.tsr"


def read_case(
    public: Path,
    reveal_path: Path,
    *,
    suspect: Path | None = None,
    transcript: Path | None = None,
    controls: Sequence[Path] = (),
    roots: Path | None = None,
    key: SecretKey | None = None,
) -> Case:
    """The case of the folder `public` (registration, claim, released ticket and model), every signature verified.

    `key` decrypts a reveal that was encrypted to this judge; `roots` pins the authorities of time stamps.
    """
    bundle = Bundle(public)
    registered, payload = bundle.read_registration()
    signed_claim = envelope.open(
        read_bytes(bundle.claim, limit=ENVELOPE_LIMIT), registered.public_key, where=str(bundle.claim)
    )
    shown, shown_payload = read_reveal(reveal_path, registered.public_key, key)
    return Case(
        registration=registered,
        registration_payload=payload,
        claim=ownership.parse(signed_claim.payload),
        claim_payload=signed_claim.payload,
        reveal=shown,
        reveal_payload=shown_payload,
        reference=bundle.reference(registered),
        ticket=digest_of(read_tensors(bundle.ticket)),
        original=read_tensors(bundle.model),
        suspect=None if suspect is None else read_any(suspect),
        transcript=None if transcript is None else read_transcript(transcript),
        controls=tuple(read_any(path) for path in controls),
        stamp=read_stamp(public / REGISTRATION_STAMP, payload, roots),
    )


def read_reveal(path: Path, public: PublicKey, key: SecretKey | None) -> tuple[Reveal, bytes]:
    """A reveal signed by `public`, decrypted with `key` when it is sealed, and its exact payload."""
    data = read_bytes(path, limit=ENVELOPE_LIMIT)
    if hpke.is_sealed(data):
        if key is None:
            raise UsageError(f"{path}: encrypted to a judge; give that judge's secret key with --key")
        data = hpke.unseal(data, key, purpose="reveal", where=str(path))
    opened = envelope.open(data, public, where=str(path))
    shown = reveal.parse(opened.payload)
    if key is not None and shown.recipient not in (None, hpke.recipient_id(hpke.public_key(key))):
        raise AuthenticityError(f"{path}: made for another judge than the holder of this key")
    return shown, opened.payload


def read_transcript(path: Path) -> transcripts.Transcript:
    """A transcript file."""
    return transcripts.parse(read_bytes(path, limit=ENVELOPE_LIMIT))


def read_stamp(path: Path, payload: bytes, roots: Path | None) -> Stamp | None:
    """The time stamp beside a registration, when there is one and roots are pinned; an unpinned one says nothing."""
    if roots is None or not path.exists():
        return None
    return timestamps.read_stamp(path, payload, timestamps.load_roots(roots))


def show_checks(checks: Sequence[Check]) -> None:
    """Print every check on a line."""
    for check in checks:
        click.echo(f"  {'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
