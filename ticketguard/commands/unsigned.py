"""Reading a ticket that is to be signed: the file, what options say about it, and what goes with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.bundle import Bundle
from ticketguard.errors import FormatError, UsageError
from ticketguard.storage.atomic import is_folder, is_there
from ticketguard.storage.documents import read_object
from ticketguard.storage.suspects import read_any
from ticketguard.tickets import Architecture, Model, Ticket, open_ticket, task_of
from ticketguard.triggers.pictures import read_folder

if TYPE_CHECKING:
    from ticketguard.data import Dataset

REWIND = "rewind.safetensors"


def read_unsigned(path: Path, arch: str | None) -> Ticket:
    """A ticket, model or bare state dict with masks (or with zeros where it was pruned), with `arch` filled in."""
    beside = Bundle(path if is_folder(path) else path.parent).ticket
    if is_folder(path) and is_there(beside):
        raise UsageError(f"{path}: a folder; name the ticket that is to be signed: {beside}")
    ticket = open_ticket(read_any(path), where=str(path))
    if isinstance(ticket, Model) and path != beside and is_there(beside):
        raise UsageError(f"{path}: a trained model with its ticket beside it; sign the ticket, then train: {beside}")
    if not ticket.mask:
        raise FormatError(f"{path}: no masks (<parameter>_mask tensors): this is not a ticket; find makes one")
    own = ticket.architecture.name
    if arch is not None and own not in (None, arch):
        raise UsageError(f"--arch {arch}: {path} names its own network, {own}: leave --arch out")
    if arch is not None and own is None:
        ticket = replace(ticket, architecture=Architecture(name=arch))
    return ticket


def with_task(ticket: Ticket, dataset: Dataset) -> Ticket:
    """The ticket with a data set's classes and input; refused when it says others of its own: its triggers would not fit."""
    said, told = task_of(ticket), replace(ticket, provenance={**ticket.provenance, **dataset.task()})
    task = task_of(told)
    if said is not None and task is not None and (said.shape != task.shape or said.classes not in ((), task.classes)):
        raise UsageError(
            f"data set {dataset.name}: the ticket names another task, images of shape {said.shape} in classes "
            f"{', '.join(said.classes)[:80]}"
        )
    return told


def labelled(
    ticket: Ticket, text: str, keyid: str, rewind: dict[str, NDArray[Any]] | None, **kind: int | str | None
) -> Ticket:
    """The ticket with a QR code in its topology, of the `kind` (version, error) that was asked for.

    Its random choices hang on the key id, which is public: so both halves of a split signing make the same ticket.
    """
    from ticketguard.signatures.labels import label

    generator = np.random.default_rng(int(keyid[:16], 16))
    chosen = {name: value for name, value in kind.items() if value is not None}
    return label(ticket, text, generator=generator, rewind=rewind, **chosen)[0]


def own_images(ticket: Ticket, folder: Path, no_triggers: bool) -> NDArray[np.uint8]:
    """The owner's own trigger images, of the shape that the ticket's task has."""
    task = task_of(ticket)
    if no_triggers or task is None or not task.classes:
        raise UsageError("--trigger-images needs a ticket with a task of known classes, and triggers: see --data")
    return read_folder(folder, task.shape)


def declared_input(ticket: Ticket, path: Path, no_triggers: bool) -> dict[str, Any]:
    """The service input of a JSON file; what its fields may say is checked with the plan."""
    task = task_of(ticket)
    if no_triggers or task is None or not task.classes:
        raise UsageError("--service-input needs a ticket with a task of known classes, and triggers: see --data")
    return read_object(path)


def rewind_weights(ticket_path: Path, given: Path | None) -> dict[str, NDArray[Any]] | None:
    """Dense rewind weights by parameter name, from a state dict or from the file that `find` leaves beside its
    ticket.
    """
    from ticketguard import api

    path = given or ticket_path.with_name(REWIND)
    if given is None and not is_there(path):
        return None
    return api.read_rewind(path)
