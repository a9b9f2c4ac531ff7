"""`ticketguard sign`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from ticketguard.bundle import Bundle, write_registered
from ticketguard.claims import keys
from ticketguard.claims.registration import Registration
from ticketguard.commands.common import PATH, json_option, passphrase, print_json, refuse_idle
from ticketguard.commands.training_options import load_data
from ticketguard.commands.unsigned import (
    REWIND,
    declared_input,
    labelled,
    own_images,
    read_unsigned,
    rewind_weights,
    with_task,
)
from ticketguard.errors import AuthenticityError, UsageError
from ticketguard.graph.cells import DEFAULT_BLOCK
from ticketguard.signatures.capacity import DEFAULT_LEAVES, DEFAULT_SPEND
from ticketguard.signing import rule_of
from ticketguard.storage.hostile import visible
from ticketguard.tickets import Ticket, Weights
from ticketguard.triggers.pictures import write_folder
from ticketguard.triggers.plan import plan_of

if TYPE_CHECKING:
    from ticketguard.signatures.capacity import Plan
    from ticketguard.signing import Embedded, Registered

# Parameters that --register-only has settled.
SETTLED = {
    "spend", "leaves", "block", "beacon", "no_triggers", "trigger_images", "service_input", "successor_paths",
}  # fmt: skip

# A QR code without --qr-text shows the start of the owner's key id.
QR_DIGITS = 12
QR_NOTE = (
    "the QR code is a label that read-qr shows; it proves nothing about chance or priority: verify tests the edge code"
)


@click.command()
@click.argument("ticket_path", metavar="TICKET", type=PATH)
@click.option("--key", "key_path", type=PATH, required=True, help="The owner's secret key, from keygen.")
@click.option("--owner", help="Who signs, as it should read in the registration.")
@click.option("--out", type=PATH, required=True, help="The signed folder to write.")
@click.option(
    "--spend", type=float, default=DEFAULT_SPEND, show_default=True, help="Share of edges that signing may move."
)
@click.option(
    "--leaves",
    type=int,
    default=DEFAULT_LEAVES,
    show_default=True,
    help="Parts of the secret that can be revealed one by one.",
)
@click.option(
    "--block",
    type=int,
    default=DEFAULT_BLOCK,
    show_default=True,
    help="Inputs per cell where kernels are 1 x 1; M for N:M.",
)
@click.option("--arch", help="Architecture of a ticket that does not name its own: a name or package.module:callable.")
@click.option(
    "--rewind", "rewind_path", type=PATH, help=f"Dense rewind weights; by default {REWIND} beside TICKET, if any."
)
@click.option("--data", help="Data set whose classes and input the triggers take, for a ticket that does not say.")
@click.option("--data-dir", type=PATH, help="Folder that holds the data set.")
@click.option(
    "--trigger-images", type=PATH, help="Folder of your own trigger images, natural-looking say; drawn without it."
)
@click.option(
    "--service-input",
    type=PATH,
    help="JSON file to commit: range, layout, size, channels of the services that you will probe (docs/probing.md).",
)
@click.option("--no-triggers", is_flag=True, help="Register no triggers: only weights can be tested later.")
@click.option(
    "--beacon", type=click.Choice(["none", "rfc3161"]), default="none", show_default=True, help="Time-stamp policy."
)
@click.option(
    "--code",
    "codes",
    type=click.Choice(["edge", "qr"]),
    multiple=True,
    default=["edge"],
    help="qr: also write a QR code into the topology, as a label (needs ticketguard[qr]). The edge code is always there.",
)
@click.option("--qr-text", help="Text of the QR code; by default the first 12 digits of the key id.")
@click.option(
    "--qr-version", type=click.IntRange(1, 40), help="Size of the QR code: 17 + 4 v modules a side; by default 3."
)
@click.option("--qr-error", type=click.Choice(["L", "M", "Q", "H"]), help="Its error correction level; by default H.")
@click.option(
    "--successor",
    "successor_paths",
    type=PATH,
    multiple=True,
    help="Public key (PEM) that may sign in place of this one later, or withdraw the registration; repeatable.",
)
@click.option("--register-only", is_flag=True, help="Stop after the registration, so that it can be time-stamped.")
@click.option(
    "--registration", "registered_path", type=PATH, help="Embed for this registration, made by --register-only."
)
@click.option(
    "--without-stamp", is_flag=True, help="Embed without the time stamp that was registered for: the bar stays high."
)
@json_option
def command(
    ticket_path: Path,
    key_path: Path,
    owner: str | None,
    out: Path,
    rewind_path: Path | None,
    arch: str | None,
    data: str | None,
    data_dir: Path | None,
    no_triggers: bool,
    trigger_images: Path | None,
    service_input: Path | None,
    register_only: bool,
    registered_path: Path | None,
    without_stamp: bool,
    codes: tuple[str, ...],
    qr_text: str | None,
    qr_version: int | None,
    qr_error: str | None,
    successor_paths: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Register a ticket and embed the owner's signature in its topology.

    Every parameter, and the frame of the ticket, is committed and signed before a single bit of the signature exists.
    Then edges move inside their cells: no row, column or kernel changes its count.

    Example:  ticketguard sign run/ticket.safetensors --key owner.key --owner "Example Lab" --out signed/
    """
    _require_order(register_only, registered_path, without_stamp, options["beacon"])
    ticket = read_unsigned(ticket_path, arch)
    if data is None:
        refuse_idle({"data_dir"}, "goes with --data: here it has no effect")
    else:
        ticket = with_task(ticket, load_data(data, data_dir, None))
    rewind = rewind_weights(ticket_path, rewind_path)
    bundle, word = Bundle(out), passphrase()
    key = keys.load_secret(key_path, word)
    keyid = key.public.keyid
    notes = _signed_before(ticket)
    embedded: Embedded | None
    plan: Plan | None = None
    if "qr" in codes:
        ticket = labelled(ticket, qr_text or keyid[:QR_DIGITS], keyid, rewind, version=qr_version, error=qr_error)
        options["qr"] = ticket.provenance["qr"]
        notes = (*notes, QR_NOTE)
    elif qr_text is not None or qr_version is not None or qr_error is not None:
        raise UsageError("--qr-text, --qr-version and --qr-error are those of a QR code: give --code qr as well")
    if registered_path is not None:
        registration = _settled(registered_path, out, owner, keyid)
        if arch is not None:
            _require_symmetry(ticket, registration, arch, where=bundle.registration)
        embedded = bundle.embed(ticket, word, rewind=rewind, without_stamp=without_stamp)
    else:
        if not owner:
            raise UsageError("--owner is missing: say who signs, as it should read in the registration")
        options["successors"] = successors_of(keyid, successor_paths)
        if trigger_images is not None:
            options["own_images"] = own_images(ticket, trigger_images, no_triggers)
        if service_input is not None:
            options["service_input"] = declared_input(ticket, service_input, no_triggers)
        chosen = {"owner": owner, "triggers": not no_triggers, **options}
        registered, embedded, told = _register(bundle, ticket, key, word, rewind, register_only, chosen)
        registration, plan, notes = registered.registration, registered.plan, (*told, *notes)
        keep_images(bundle, registration, options.get("own_images"))
    _report(bundle, registration, embedded, plan, notes, as_json)


def _signed_before(ticket: Ticket) -> tuple[str, ...]:
    """A note that names the registration that the ticket says it is signed by; none when it names none."""
    note = ticket.provenance.get("signed")
    earlier = note.get("registration") if isinstance(note, Mapping) else None
    if not isinstance(earlier, str):
        return ()
    return (
        f"the ticket is signed already, for the registration with SHA-256 {visible(earlier[:16])}: this mark moves edges over "
        "that one, which loses bits by it",
    )


def _require_order(register_only: bool, registered_path: Path | None, without_stamp: bool, beacon: str) -> None:
    """Raise `UsageError` unless the options name one of the ways to sign: in one step, or either half of it.

    A registration with a beacon is stamped between the halves.
    """
    if register_only and registered_path is not None:
        raise UsageError("--register-only and --registration are the two halves of signing: give one of them")
    stampless = beacon == "none" or register_only
    if registered_path is None and stampless:
        refuse_idle(
            {"without_stamp"}, "goes with --registration, or --beacon rfc3161 in one step: here it has no effect"
        )
    if registered_path is None and not stampless and not without_stamp:
        raise UsageError(
            f"--beacon {beacon}: the time stamp comes before the edges move: sign --register-only, timestamp, then "
            "sign --registration (--without-stamp embeds now, and the bar stays high)"
        )


def _register(
    bundle: Bundle,
    ticket: Ticket,
    key: keys.SecretKey,
    word: str,
    rewind: Weights | None,
    register_only: bool,
    chosen: Mapping[str, Any],
) -> tuple[Registered, Embedded | None, tuple[str, ...]]:
    """Register `ticket`, embed unless `register_only`, and write what was made; with notes for the owner."""
    from ticketguard import api

    if register_only:
        registered, notes = api.register(ticket, key, **chosen)
        write_registered(bundle, registered, word)
        return registered, None, notes
    signed = api.sign(ticket, key, rewind=rewind, **chosen)
    signed.write(bundle.folder, word)
    return signed.registered, signed.embedded, signed.notes


def _settled(registered_path: Path, out: Path, owner: str | None, keyid: str) -> Registration:
    """The registration to embed for, which key `keyid` signed, once nothing that it settled is said again."""
    refuse_idle(SETTLED, "is settled by the registration: leave it out with --registration")
    registration, _ = _registered_bundle(registered_path, out).read_registration()
    if owner not in (None, registration.owner):
        raise UsageError(f"--owner: the registration names {registration.owner!r}: leave it out")
    if keyid != registration.public_key.keyid:
        raise AuthenticityError(f"{registered_path}: this key did not sign the registration, so it cannot embed for it")
    return registration


def _require_symmetry(ticket: Ticket, registration: Registration, arch: str, *, where: Path) -> None:
    """Raise `UsageError` unless the ticket's network has the symmetry that was registered: alignment goes by that one."""
    from ticketguard import api

    if api.symmetry_for(ticket)[0] != registration.channel_groups:
        raise UsageError(
            f"--arch {arch}: {where} has the channel groups of another network, or of none: "
            "give the --arch that it was registered with, or leave it out"
        )


def successors_of(own: str, paths: tuple[Path, ...]) -> list[str]:
    """Key ids of the successors: other keys than the one that signs, each named once."""
    found: list[str] = []
    for path in paths:
        keyid = keys.load_public(path).keyid
        if keyid == own:
            raise UsageError(
                f"--successor {path}: this is the key that signs; a backup of itself would be lost with it"
            )
        if keyid in found:
            raise UsageError(f"--successor {path}: this key is named twice")
        found.append(keyid)
    return found


def keep_images(bundle: Bundle, registered: Registration, images: NDArray[np.uint8] | None) -> None:
    """Keep the registered ones of the owner's images in the signed folder: training and probing need them."""
    plan = plan_of(registered)
    if images is not None and plan is not None:
        write_folder(bundle.trigger_images, images[: plan.total])


def _registered_bundle(registered_path: Path, out: Path) -> Bundle:
    bundle = Bundle(registered_path.parent)
    if bundle.registration.resolve() != registered_path.resolve() or out.resolve() != bundle.folder.resolve():
        raise UsageError(
            f"--registration {registered_path}: give the registration inside the folder --out that --register-only wrote"
        )
    return bundle


def _after(bits_after: Mapping[float, float]) -> str:
    """Bits by the share of edges that random pruning took."""
    return ", ".join(f"{share:.0%}: {float(bits):,.0f}" for share, bits in bits_after.items() if share)


def _report(
    bundle: Bundle,
    registered: Registration,
    embedded: Embedded | None,
    plan: Plan | None,
    notes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print what was written: the registration, and what `embedded` moved; and what was planned, for a new registration."""
    owner, keyid = registered.owner, registered.public_key.keyid
    document: dict[str, Any] = {"signed": str(bundle.folder), "owner": owner, "keyid": keyid, "notes": list(notes)}
    if embedded is not None:
        document |= {"edges": embedded.edges, "moved": embedded.moved, "bits": embedded.informative}
        document |= {"leafBits": list(embedded.per_leaf)}
    if plan is not None:
        for name, after in (("expectedBits", plan.bits_after), ("expectedLeafBits", plan.leaf_bits_after)):
            document[name] = {str(share): round(float(bits)) for share, bits in after.items()}
    if as_json:
        print_json(document)
        return
    bar = rule_of(registered.leaves).bar_bits
    click.echo(f"owner         {owner}, key id {keyid}")
    click.echo(f"registration  {bundle.registration}  (public)")
    click.echo(f"secret        {bundle.secret}  (yours alone; back it up: a lost secret is lost)")
    if embedded is not None:
        share = embedded.moved / embedded.edges
        click.echo(f"ticket        {bundle.ticket}  ({embedded.moved} of {embedded.edges} edges moved, {share:.1%})")
        weakest = f", {min(embedded.per_leaf)} of them in the weakest of {registered.leaves} leaves: a judge sees one"
        click.echo(f"edge code     {embedded.informative} bits as signed{weakest if registered.leaves > 1 else ''}")
    elif registered.beacon == "none":
        click.echo("next          time-stamp the registration if you like, then sign with --registration to embed")
    else:
        steps = f"ticketguard timestamp {bundle.folder}, then sign --registration"
        click.echo(f"next          {steps}; without the stamp the bar is {bar:g}")
    if plan is not None:
        click.echo(
            f"expected      bits after random pruning of {_after(plan.bits_after)}  (the bar is {bar:g} without a time stamp)"
        )
        if registered.leaves > 1:
            click.echo(f"              one leaf, as a judge sees it, {_after(plan.leaf_bits_after)}")
    for note in notes:
        click.echo(f"note          {note}")
    click.echo("note          keep the dense rewind weights private: an eraser guided by them needs fewer tries")
