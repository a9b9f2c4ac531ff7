"""`ticketguard inspect`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ticketguard.bundle import ENVELOPE_LIMIT, Bundle
from ticketguard.claims import (
    canonical,
    envelope,
    hpke,
    keys,
    manifest,
    ownership,
    registration,
    reveal,
    statements,
    timestamps,
    vault,
    withdrawal,
)
from ticketguard.claims import license as licences
from ticketguard.claims.registration import Registration
from ticketguard.claims.reveal import Reveal
from ticketguard.claims.streams import SECRET_BYTES
from ticketguard.commands.common import PATH, PEM, json_option, print_json
from ticketguard.commands.overview import overview
from ticketguard.commands.precious import warn_of_secrets
from ticketguard.errors import FormatError, named
from ticketguard.masks import Mask
from ticketguard.storage.atomic import is_folder, is_there, read_bytes, read_start
from ticketguard.storage.hostile import visible
from ticketguard.storage.suspects import read_any
from ticketguard.storage.tensors import TensorFile
from ticketguard.tickets import open_ticket

# Characters of one value; a list of class names may be long.
MOST_SHOWN = 1 << 16
# Characters of a list that stays on one line.
SHORT_LIST = 100
STAMP_SUFFIX = ".tsr"
# No date: one that no trusted authority asserts is the claimant's word.
UNVERIFIED_STAMP = "time stamp (RFC 3161), not verified: that takes the root certificate that you trust"

# Statements that can be shown, with the strict reader of each; a verdict is as long as its case, and read by `judge --check`.
READERS: dict[str, Callable[[bytes], object] | None] = {
    registration.NAME: registration.parse,
    ownership.NAME: ownership.parse,
    reveal.NAME: reveal.parse,
    licences.NAME: licences.parse,
    withdrawal.NAME: withdrawal.parse,
    "verdict": None,
}


@click.command()
@click.argument("path", type=PATH)
@click.option("--all", "everything", is_flag=True, help="Of a signed folder, every field of every file.")
@json_option
def command(path: Path, everything: bool, as_json: bool) -> None:
    """Show what a ticket, a model, a registration, a claim, a key or a signed folder holds; no secret is needed.

    Of a signed or public folder: who claims it, and whether its files agree with each other; with --all (and --json)
    every field of them.

    Example:  ticketguard inspect signed/
    """
    signed = is_folder(path) and is_there(Bundle(path).registration)
    if signed:
        bundle = Bundle(path)
        known = (bundle.registration, bundle.withdrawal, bundle.ticket, bundle.model, bundle.claim)
        stamps = (bundle.registration_stamp, bundle.claim_stamp)
        files = [item for item in (*known, *stamps) if is_there(item)] + bundle.license_files()
    else:
        files = [path]
    documents = {str(file): _document(file) for file in files}
    warn_of_secrets(path)
    if as_json:
        print_json(documents)
        return
    if signed and not everything:
        click.echo(
            "\n".join([str(path), *("  " + visible(line, most=MOST_SHOWN) for line in overview(bundle, documents))])
        )
        click.echo("  every field of every file: --all")
        return
    for name, document in documents.items():
        try:
            lines = list(_fields(document, "  "))
        except RecursionError as problem:
            raise FormatError(f"{name}: what it says of itself is nested too deeply to be shown") from problem
        click.echo("\n".join([name, *lines]))


def _document(path: Path) -> dict[str, Any]:
    if path.name.endswith(".json"):
        return _statement(path)
    if path.suffix == STAMP_SUFFIX:
        data = read_bytes(path, limit=timestamps.TOKEN_LIMIT)
        return {"type": UNVERIFIED_STAMP, "sha256 of the file": hashlib.sha256(data).hexdigest()}
    if not is_folder(path) and (key := _key(path)) is not None:
        return key
    tensors = read_any(path)
    ticket = open_ticket(tensors, where=str(path))
    if not ticket.mask and not tensors.metadata.get("ticketguard"):
        return _weights(tensors)
    # Counted in several ways, and so read from the file once.
    mask = Mask(dict(ticket.mask))
    return {
        "type": ticket.kind,
        "architecture": ticket.architecture.name or "unknown",
        "prunable weights": mask.size,
        "edges": mask.kept,
        "sparsity": round(mask.sparsity, 5),
        "layers": {
            name: f"{tuple(bits.shape)}, {int(bits.sum())} kept ({bits.mean():.1%})" for name, bits in mask.items()
        },
        "provenance": dict(ticket.provenance),
        "sha256 of the manifest": manifest.digest(manifest.manifest(tensors)),
    }


def _weights(tensors: TensorFile) -> dict[str, Any]:
    """Weights alone, as a thief has them: no masks, and no record of ours but the one that `attack` leaves."""
    attack = tensors.metadata.get("attack")
    made = attack if isinstance(attack, dict) else {}
    network = made.get("architecture")
    return {
        "type": "weights",
        "architecture": str((network.get("name") if isinstance(network, dict) else None) or "unknown"),
        "attacked by": None if "label" not in made else str(made["label"]),
        "tensors": len(tensors),
        "values": sum(prod(tensors.info(name).shape) for name in tensors),
        "sha256 of the manifest": manifest.digest(manifest.manifest(tensors)),
    }


def _key(path: Path) -> dict[str, Any] | None:
    """What a file of `keygen` or the secret of a signed folder is, as far as it shows without a passphrase; None for others."""
    start = read_start(path, keys.SECRET_FILE_BYTES + 1)
    if vault.is_sealed(start):
        # A key file has one length; the secret of a signed folder is several times as long.
        what = "secret key of keygen" if len(start) == keys.SECRET_FILE_BYTES else "secret of a signed folder"
        return {"type": f"{what}, encrypted under a passphrase: never give it away"}
    if hpke.is_sealed(start):
        return {"type": "reveal or key mask, encrypted to a judge or a licensee"}
    if not start.startswith(PEM):
        return None
    if isinstance(keys.read_pem(path), X25519PublicKey):
        return {"type": "public encryption key (X25519)", "recipient id": hpke.recipient_id(hpke.load_public(path))}
    return {"type": "public key (Ed25519)", "key id": keys.load_public(path).keyid}


def _statement(path: Path) -> dict[str, Any]:
    """A signed statement of a known type, its signature verified under the key that it names."""
    opened = envelope.open_self_signed(read_bytes(path, limit=ENVELOPE_LIMIT), where=str(path))
    statement: Any = canonical.parse(opened.payload, where=str(path))
    kind = statement.get("predicateType")
    name = next((name for name in READERS if kind == statements.PREDICATE_URI.format(name=name)), None)
    if name is None:
        raise FormatError(f"{path}: a statement of type {str(kind)[:80]!r}, which this version does not know")
    with named(str(path)):
        predicate, reader = statements.predicate(statement, name), READERS[name]
        read = None if reader is None else reader(opened.payload)
    short = _summary(predicate, read) if isinstance(read, Registration) else predicate
    if isinstance(read, Reveal):
        # Whoever sees it can forge against the leaf, and what is on a screen is copied.
        short = {**predicate, "leaf": {**predicate["leaf"], "secret": f"{SECRET_BYTES} bytes, not shown"}}
    own = {
        "type": kind,
        "signature": f"good, key id {opened.keyid}",
        # By this other statements name it.
        "sha256 of the payload": hashlib.sha256(opened.payload).hexdigest(),
        "subjects": statements.subjects(statement),
    }
    # In this order, but what was computed here wins: a predicate may have fields of the same names.
    return {**own, **short, **own}


def _summary(predicate: dict[str, Any], registered: Registration) -> dict[str, Any]:
    """A registration's predicate with its long lists counted instead of listed."""
    layers = {
        entry.layer.name: f"{entry.layer.shape}, cells of {entry.layer.cell}, {entry.pairs} pairs per leaf"
        for entry in registered.table
    }
    short = {**predicate, "layers": layers}
    if registered.channel_groups is not None:
        short["symmetry"] = f"{len(registered.channel_groups.groups)} groups of interchangeable channels"
    return short


def _fields(value: dict[str, Any], indent: str) -> Iterator[str]:
    """The lines of a document, a field on each; what is empty is left out."""
    for key, item in value.items():
        if item is None or item in ("", [], {}):
            continue
        if isinstance(item, dict):
            yield indent + visible(key)
            yield from _fields(item, indent + "  ")
        elif isinstance(item, list) and not (_is_flat(item) and len(_line(item)) <= SHORT_LIST):
            yield indent + visible(key)
            yield from _items(item, indent + "  ")
        else:
            yield indent + visible(f"{key}: {_line(item)}", most=MOST_SHOWN)


def _items(items: list[Any], indent: str) -> Iterator[str]:
    """The lines of a list, an item on each; a table with more than plain values goes on below its own line."""
    for item in items:
        if isinstance(item, dict) and not _is_flat(list(item.values())):
            yield f"{indent}-"
            yield from _fields(item, indent + "  ")
        else:
            yield indent + visible(f"- {_line(item)}", most=MOST_SHOWN)


def _is_flat(items: list[Any]) -> bool:
    """Whether no item is itself a list or a table."""
    return not any(isinstance(item, dict | list) for item in items)


def _line(item: Any) -> str:
    """A plain value, a list or a table on one line."""
    if isinstance(item, dict):
        return ", ".join(f"{key}: {_line(value)}" for key, value in item.items() if value not in (None, "", [], {}))
    return ", ".join(map(_line, item)) if isinstance(item, list) else str(item)
