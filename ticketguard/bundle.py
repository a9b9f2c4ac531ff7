"""The signed folder: which file is what, and how its registration is opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims import envelope, manifest, ownership, registration
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.license import License, open_license
from ticketguard.claims.opening import Opening, open_all
from ticketguard.claims.ownership import OwnershipClaim
from ticketguard.claims.registration import Counts, Registration, frame_counts
from ticketguard.claims.secret import read_secret, require_same_registration, write_secret
from ticketguard.claims.withdrawal import open_withdrawal
from ticketguard.errors import AuthenticityError, UsageError
from ticketguard.signing import Registered
from ticketguard.storage.atomic import is_there, listed, make_folder, read_bytes, write_bytes
from ticketguard.storage.tensors import read_tensors
from ticketguard.tickets import Model, Ticket, read_ticket, write_ticket
from ticketguard.triggers.pictures import read_folder
from ticketguard.triggers.plan import plan_of

ENVELOPE_LIMIT = 4 << 20


@dataclass(frozen=True)
class Bundle:
    """Paths inside a signed folder. Only `secret` must never leave the owner."""

    folder: Path

    @property
    def ticket(self) -> Path:
        """The signed ticket: what may be released before training."""
        return self.folder / "ticket.safetensors"

    @property
    def registration(self) -> Path:
        """The registration's DSSE envelope: public."""
        return self.folder / "registration.dsse.json"

    @property
    def secret(self) -> Path:
        """The master secret, encrypted: the owner's."""
        return self.folder / "secret.tgs"

    @property
    def model(self) -> Path:
        """The trained signed model."""
        return self.folder / "model.safetensors"

    @property
    def claim(self) -> Path:
        """The ownership claim's DSSE envelope: public."""
        return self.folder / "claim.dsse.json"

    @property
    def withdrawal(self) -> Path:
        """The withdrawal's DSSE envelope, when the registration was withdrawn: public."""
        return self.folder / "withdrawal.dsse.json"

    @property
    def trigger_images(self) -> Path:
        """Folder with the owner's own trigger images, when those are registered: as secret as `secret`."""
        return self.folder / "trigger-images"

    def own_images(self, registered: Registration) -> NDArray[np.uint8] | None:
        """The owner's own trigger images, uint8 in pooled order; None when triggers are rendered, or there are none."""
        plan = plan_of(registered)
        return read_folder(self.trigger_images, plan.shape) if plan is not None and plan.source == "owner" else None

    @property
    def licenses(self) -> Path:
        """Folder with the envelope of every licence that was issued."""
        return self.folder / "licenses"

    def read_licenses(self) -> list[License]:
        """Every licence issued under this registration, verified, by file name. Empty when there are none."""
        registered, payload = self.read_registration()
        files = (
            [file for file in listed(self.licenses) if file.name.endswith(".dsse.json")]
            if is_there(self.licenses)
            else []
        )
        return [
            open_license(read_bytes(file, limit=ENVELOPE_LIMIT), payload, registered.public_key, where=str(file))
            for file in files
        ]

    def read_registration(self) -> tuple[Registration, bytes]:
        """The verified registration and its exact payload."""
        return read_registration(self.registration)

    def open(self, passphrase: str) -> Opening:
        """The owner's opening: registration and secret, checked against each other."""
        registered, payload = self.read_registration()
        self.require_standing(registered, payload)
        secret = read_secret(self.secret, passphrase)
        require_same_registration(secret, hashlib.sha256(payload).hexdigest())
        return open_all(registered, payload, secret.master, secret.beacon)

    def require_standing(self, registered: Registration, payload: bytes, *, given: Path | None = None) -> None:
        """Raise `AuthenticityError` when the registration was withdrawn: by a statement in the folder, or `given`."""
        paths = ([self.withdrawal] if is_there(self.withdrawal) else []) + ([] if given is None else [given])
        for path in paths:
            data = read_bytes(path, limit=ENVELOPE_LIMIT)
            found = open_withdrawal(data, registered, payload, where=str(path))
            raise AuthenticityError(
                f"{self.registration}: withdrawn by key {found.public_key.keyid[:16]} ({found.reason}); it proves nothing"
            )

    def read_ticket(self) -> Ticket:
        """The signed ticket."""
        return read_ticket(self.ticket)

    def write_model(self, model: Model) -> None:
        """Write the trained model beside its ticket."""
        write_ticket(self.model, model)

    def write_claim(self, key: SecretKey, model_path: Path | None = None) -> OwnershipClaim:
        """Sign the ownership claim over the trained model (by default `model`) and write it.

        Raises `AuthenticityError` when the key is not the registration's.
        """
        registered, payload = self.read_registration()
        if key.public.keyid not in registered.signers:
            raise AuthenticityError(
                f"this is not the key of {self.registration}, which is signed by {registered.public_key.keyid[:16]}"
            )
        self.require_standing(registered, payload)
        model = manifest.digest(manifest.manifest(read_tensors(model_path or self.model)))
        ticket = manifest.digest(manifest.manifest(read_tensors(self.ticket)))
        claim, signed = ownership.make(payload, owner=registered.owner, key=key, ticket=ticket, model=model)
        write_bytes(self.claim, signed)
        return claim

    def reference(self, registered: Registration) -> Counts:
        """The frame of the released ticket: the reference of alignment."""
        return frame_counts(self.read_ticket().mask, registered.layers)


def read_registration(path: Path) -> tuple[Registration, bytes]:
    """Read a registration file: envelope verified under the key it names, then parsed. Returns it with its payload bytes."""
    opened = envelope.open_self_signed(read_bytes(path, limit=ENVELOPE_LIMIT), where=str(path))
    return registration.parse(opened.payload), opened.payload


def write_registered(bundle: Bundle, registered: Registered, passphrase: str) -> None:
    """Write what registering made: the envelope, and the secret that belongs to it."""
    make_folder(bundle.folder)
    for path in (bundle.registration, bundle.secret):
        if is_there(path):
            raise UsageError(f"{path} exists already: signing never overwrites a signature; choose another folder")
    write_secret(bundle.secret, registered.secret, passphrase)
    write_bytes(bundle.registration, registered.envelope)
