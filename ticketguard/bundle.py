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
from ticketguard.claims.registration import Registration, frame_counts
from ticketguard.claims.secret import Secret, read_secret, require_same_registration, write_secret
from ticketguard.claims.streams import NO_BEACON
from ticketguard.claims.withdrawal import open_withdrawal
from ticketguard.errors import AuthenticityError, FormatError, StorageError, UsageError, named
from ticketguard.graph.cells import Counts
from ticketguard.masks import Mask
from ticketguard.signing import Embedded, Registered, embed
from ticketguard.storage.atomic import exclusive, is_folder, is_there, listed, make_folder, read_bytes, write_bytes
from ticketguard.storage.tensors import read_tensors
from ticketguard.tickets import Model, Ticket, Weights, open_ticket, read_ticket, write_ticket
from ticketguard.triggers.pictures import read_folder
from ticketguard.triggers.plan import plan_of

ENVELOPE_LIMIT = 4 << 20


@dataclass(frozen=True, init=False)
class Bundle:
    """Paths inside a signed folder. Only `secret` must never leave the owner."""

    folder: Path

    def __init__(self, folder: Path | str) -> None:
        object.__setattr__(self, "folder", Path(folder))

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
    def registration_stamp(self) -> Path:
        """The time stamp of the registration, when it has one: public."""
        return self.folder / "registration.tsr"

    @property
    def claim_stamp(self) -> Path:
        """The time stamp of the claim, when it has one: public."""
        return self.folder / "claim.tsr"

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

    def holds(self, path: Path) -> bool:
        """Whether `path` is the place of a file of this folder, a licence or an own trigger image, by its name alone."""
        own = (self.ticket, self.registration, self.secret, self.model, self.claim, self.withdrawal)
        stamps = (self.registration_stamp, self.claim_stamp)
        return path in own or path in stamps or path.parent in (self.licenses, self.trigger_images)

    @property
    def public(self) -> tuple[Path, ...]:
        """Every file that others may see, whether it is there or not."""
        weights = (self.ticket, self.model)
        stamps = (self.registration_stamp, self.claim_stamp)
        return (self.registration, self.claim, *weights, *stamps, self.withdrawal)

    def published(self) -> list[Path]:
        """The public files that are there, once they are known to be what a judge needs.

        Raises `UsageError` where one that every judge needs is missing, or is not the one that the claim is about, and
        `AuthenticityError` for a claim by another key, owner or registration, and for a ticket with another frame.
        """
        registered, payload = self.read_registration()
        for path, maker in ((self.ticket, "sign"), (self.model, "train"), (self.claim, "claim")):
            if not is_there(path):
                raise UsageError(f"{path}: no such file, and every judge needs it: run `ticketguard {maker}` first")
        claim, _ = self.read_claim()
        try:
            ownership.require_same(claim, registered, payload)
        except AuthenticityError as problem:
            raise AuthenticityError(f"{self.claim}: {problem}: a judge would refuse it") from problem
        for path, wanted in ((self.ticket, claim.ticket), (self.model, claim.model)):
            if manifest.digest(manifest.manifest(read_tensors(path))) != wanted:
                raise UsageError(
                    f"{path}: not the {path.stem} that {self.claim} is about: a judge would refuse the claim"
                )
        if registration.frame_digest(self.reference(registered)) != registered.frame:
            raise AuthenticityError(
                f"{self.ticket}: its frame is not the registered one: a judge would refuse the claim"
            )
        return [path for path in self.public if is_there(path)]

    def license_files(self) -> list[Path]:
        """The envelopes in `licenses`, by name. Empty when there are none."""
        if not is_there(self.licenses):
            return []
        return [file for file in listed(self.licenses) if file.name.endswith(".dsse.json")]

    def read_licenses(self) -> list[License]:
        """Every licence issued under this registration, verified, by file name. Empty when there are none."""
        registered, payload = self.read_registration()
        return [
            open_license(read_bytes(file, limit=ENVELOPE_LIMIT), payload, registered.public_key, where=str(file))
            for file in self.license_files()
        ]

    def read_registration(self) -> tuple[Registration, bytes]:
        """The verified registration and its exact payload. Raises `UsageError` for what is no signed folder."""
        self.require_folder()
        if is_folder(self.folder) and not is_there(self.registration):
            raise UsageError(f"{self.folder}: not a signed folder: it has no {self.registration.name}")
        return read_registration(self.registration)

    def require_folder(self) -> None:
        """Raise `UsageError` where a file stands in the folder's place."""
        if is_there(self.folder) and not is_folder(self.folder):
            raise UsageError(f"{self.folder}: a file, where a signed folder is expected: name the folder")

    def open(self, passphrase: str) -> Opening:
        """The owner's opening: registration and secret, checked against each other."""
        return self.unlock(passphrase)[0]

    def unlock(self, passphrase: str) -> tuple[Opening, Secret]:
        """As `open`, with the secret itself: for who spends a leaf of it, or draws more from its master."""
        registered, payload = self.read_registration()
        self.require_standing(registered, payload)
        if not is_there(self.secret):
            raise StorageError(
                f"{self.folder}: no {self.secret.name}. A public folder is judged with `ticketguard judge`, and a reveal from "
                "its owner; if this is your own folder, restore your backup: a lost secret is lost"
            )
        secret = read_secret(self.secret, passphrase)
        require_same_registration(secret, hashlib.sha256(payload).hexdigest())
        return open_all(registered, payload, secret.master, secret.beacon), secret

    def require_standing(self, registered: Registration, payload: bytes, *, given: Path | None = None) -> None:
        """Raise `AuthenticityError` when the registration was withdrawn: by a statement in the folder, or `given`."""
        paths = ([self.withdrawal] if is_there(self.withdrawal) else []) + ([] if given is None else [given])
        for path in paths:
            data = read_bytes(path, limit=ENVELOPE_LIMIT)
            found = open_withdrawal(data, registered, payload, where=str(path))
            raise AuthenticityError(
                f"{self.registration}: withdrawn by key {found.public_key.keyid[:16]} ({found.reason}); it proves nothing"
            )

    def require_trained(self, model: Path) -> None:
        """Raise `UsageError` where there is no `model` yet: the trained one, or another that somebody names in its place."""
        if model == self.model and is_there(self.ticket) and not is_there(model):
            raise UsageError(
                f"{model}: no trained model yet: run `ticketguard train {self.folder}` first, or name one by --model"
            )

    def read_ticket(self) -> Ticket:
        """The signed ticket."""
        return read_ticket(self.ticket)

    def read_mask(self) -> Mask:
        """The masks of the signed ticket, each read when it is asked for."""
        return open_ticket(read_tensors(self.ticket), where=str(self.ticket)).mask

    def embed(
        self, ticket: Ticket, passphrase: str, *, rewind: Weights | None = None, without_stamp: bool = False
    ) -> Embedded:
        """Embed for the registration that is here already, and write the signed ticket beside it: see `signing.embed`.

        Raises `UsageError` for one that was made to be stamped and is not yet, unless `without_stamp`.
        """
        # The beacon of a stamp may not come in between, nor another signing.
        with exclusive(self.folder):
            if is_there(self.ticket):
                raise UsageError(f"{self.ticket} exists already: signing never overwrites a signature")
            opening, secret = self.unlock(passphrase)
            if opening.registration.beacon != "none" and secret.beacon == NO_BEACON and not without_stamp:
                raise UsageError(
                    f"{self.registration} is registered for a time stamp (--beacon {opening.registration.beacon}) and has "
                    "none: run ticketguard timestamp first; once edges are embedded the bar stays at "
                    f"{opening.rule().bar_bits:g} (--without-stamp accepts that)"
                )
            embedded = embed(ticket, opening, rewind=rewind)
            write_ticket(self.ticket, embedded.ticket)
        return embedded

    def write_model(self, model: Model) -> None:
        """Write the trained model beside its ticket."""
        write_ticket(self.model, model)

    def read_claim(self) -> tuple[OwnershipClaim, bytes]:
        """The claim, its signature verified under the registration's key or a successor's, and its exact payload."""
        registered, _ = self.read_registration()
        data = read_bytes(self.claim, limit=ENVELOPE_LIMIT)
        payload = envelope.open_by(data, registered.signers, where=str(self.claim)).payload
        with named(str(self.claim)):
            return ownership.parse(payload), payload

    def require_not_claimed(self, path: Path) -> None:
        """Raise `UsageError` when the model at `path`, which is about to be replaced, is the one that the claim is about."""
        if not is_there(self.claim) or not is_there(path):
            return
        claim, _ = self.read_claim()
        try:
            found = manifest.digest(manifest.manifest(read_tensors(path)))
        except FormatError:
            # Whatever it is, it is no model, and so not the claimed one.
            return
        if found == claim.model:
            raise UsageError(f"{path} is the model that {self.claim} is about: write another one with --out")

    def write_claim(self, key: SecretKey, model_path: Path | None = None) -> OwnershipClaim:
        """Sign the ownership claim over the trained model (by default `model`) and write it.

        Raises `AuthenticityError` when the key is not the registration's, and `UsageError` where it would replace a claim about
        another model, or lie beside the time stamp of another claim.
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
        # Not while `timestamp` puts a stamp beside the old one.
        with exclusive(self.folder):
            self._require_replaceable(claim)
            write_bytes(self.claim, signed)
        return claim

    def _require_replaceable(self, claim: OwnershipClaim) -> None:
        """Raise `UsageError` where `claim` would replace one about another model, or lie beside the stamp of another."""
        if is_there(self.claim) and (old := self.read_claim()[0]).model != claim.model:
            raise UsageError(
                f"{self.claim} is about another model, sha256 {old.model[:16]}: before you claim this one, move it away, and "
                f"{self.claim_stamp.name} with it"
            )
        # A stamp holds the SHA-256 of what it dates; whether it is a good stamp is another matter.
        digest = hashlib.sha256(claim.payload()).digest()
        if is_there(self.claim_stamp) and digest not in read_bytes(self.claim_stamp, limit=ENVELOPE_LIMIT):
            raise UsageError(
                f"{self.claim_stamp} dates another claim than this one: move it and {self.claim.name} away together first"
            )

    def reference(self, registered: Registration) -> Counts:
        """The frame of the released ticket: the reference of alignment."""
        return frame_counts(self.read_mask(), registered.layers)


def read_registration(path: Path) -> tuple[Registration, bytes]:
    """Read a registration file: envelope verified under the key it names, then parsed. Returns it with its payload bytes."""
    opened = envelope.open_self_signed(read_bytes(path, limit=ENVELOPE_LIMIT), where=str(path))
    with named(str(path)):
        return registration.parse(opened.payload), opened.payload


def write_registered(bundle: Bundle, registered: Registered, passphrase: str) -> None:
    """Write what registering made: the envelope, and the secret that belongs to it."""
    make_folder(bundle.folder)
    # Two at once would leave the registration of one beside the secret of the other.
    with exclusive(bundle.folder):
        # A ticket too: it may be the very one that is signed, and the signed one goes there.
        for path in (bundle.registration, bundle.secret, bundle.ticket):
            if is_there(path):
                raise UsageError(f"{path} exists already: signing never overwrites a signature; choose another folder")
        write_secret(bundle.secret, registered.secret, passphrase)
        write_bytes(bundle.registration, registered.envelope)
