"""The few lines that `inspect` shows of a folder: who claims what, and whether its files agree with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ticketguard.bundle import ENVELOPE_LIMIT, Bundle
from ticketguard.claims import envelope, reveal, withdrawal
from ticketguard.claims.registration import Registration
from ticketguard.errors import AuthenticityError, TicketguardError
from ticketguard.storage.atomic import is_there, listed, read_bytes

PAYLOAD, MANIFEST = "sha256 of the payload", "sha256 of the manifest"


def overview(bundle: Bundle, documents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines on a signed or public folder; `documents`: what `inspect` read, every signature verified, by path."""
    registered, payload = bundle.read_registration()
    own = documents[str(bundle.registration)]
    lines = [
        f"claimant: {registered.owner}, key id {registered.public_key.keyid}",
        f"registration: sha256 {own[PAYLOAD]}, signed by that key",
    ]
    claim = documents.get(str(bundle.claim))
    lines.append(
        "claim: none" if claim is None else f"claim: sha256 {claim[PAYLOAD]}, {_about(claim, own, registered.signers)}"
    )
    for name, path in (("ticket", bundle.ticket), ("model", bundle.model)):
        found = documents.get(str(path))
        lines.append(
            f"{name}: none" if found is None else f"{name}: sha256 {found[MANIFEST]}, {_claimed(name, found, claim)}"
        )
    stamps = [path.name for path in (bundle.registration_stamp, bundle.claim_stamp) if str(path) in documents]
    unverified = ", not verified: that takes the root certificate that you trust"
    lines.append(f"time stamps: {' and '.join(stamps) + unverified if stamps else 'none'}")
    lines.append(_withdrawn(bundle.withdrawal, registered, payload))
    lines.append(f"leaves: {registered.leaves}; {_revealed(bundle, registered, payload)}")
    if licences := bundle.license_files():
        lines.append(f"licences: {len(licences)}")
    return lines


def _about(claim: Mapping[str, Any], registration: Mapping[str, Any], signers: tuple[str, ...]) -> str:
    """Who signed the claim, and whether it names this registration."""
    keyid = str(claim["signature"]).rpartition(" ")[2]
    signed = "signed by that key" if keyid == signers[0] else "signed by a successor's key"
    if keyid not in signers:
        signed = f"SIGNED BY ANOTHER KEY, {keyid}"
    named = claim["registration"].get("sha256") == registration[PAYLOAD]
    return f"{signed}, {'about this registration' if named else 'ABOUT ANOTHER REGISTRATION'}"


def _claimed(name: str, found: Mapping[str, Any], claim: Mapping[str, Any] | None) -> str:
    if claim is None:
        return "claimed nowhere"
    return "as claimed" if claim["subjects"].get(name) == found[MANIFEST] else "NOT THE CLAIMED ONE"


def _withdrawn(path: Path, registered: Registration, payload: bytes) -> str:
    if not is_there(path):
        return "withdrawn: no statement of that here"
    try:
        found = withdrawal.open_withdrawal(read_bytes(path, limit=ENVELOPE_LIMIT), registered, payload, where=path.name)
    except AuthenticityError as problem:
        return f"withdrawn: not by {problem}"
    return f"WITHDRAWN by key {found.public_key.keyid}: {found.reason}"


def _revealed(bundle: Bundle, registered: Registration, payload: bytes) -> str:
    """How many leaves the reveals in the folder disclose; the full count is in the owner's secret alone."""
    leaves = {leaf for path in listed(bundle.folder) for leaf in _leaves(path, registered, payload)}
    count = f"{len(leaves)} revealed by files of this folder" if leaves else "no reveal in this folder"
    kept = f"{bundle.secret.name} is here, and" if is_there(bundle.secret) else "the owner's secret"
    return f"{count} ({kept} keeps the count, under its passphrase)"


def _leaves(path: Path, registered: Registration, payload: bytes) -> Iterator[int]:
    """The leaf that a reveal discloses, one that a judge of this registration would open."""
    if not path.name.endswith(".json"):
        return
    try:
        opened = envelope.open_by(read_bytes(path, limit=ENVELOPE_LIMIT), registered.signers, where=str(path))
        shown = reveal.parse(opened.payload)
        reveal.open_reveal(shown, registered, payload)
    except TicketguardError:
        # Whatever else lies in the folder is none of this summary's business.
        return
    yield shown.index
