"""`ticketguard license`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import ENVELOPE_LIMIT, Bundle
from ticketguard.claims import hpke, keys
from ticketguard.claims.license import License
from ticketguard.commands.common import (
    PATH,
    json_option,
    passphrase,
    print_json,
    refuse_idle,
    require_output_folder,
)
from ticketguard.errors import UsageError
from ticketguard.licensing import issue, make_copy, seal_key
from ticketguard.signatures.fingerprint import CODES, DEFAULT_BITS, DEFAULT_COLLUSION, Code
from ticketguard.storage.atomic import exclusive, is_there, make_folder, read_bytes, require_writable, write_bytes
from ticketguard.tickets import Ticket, write_ticket

LICENCE = "license.dsse.json"
KEY_MASK = "keymask.hpke"


@click.command()
@click.argument("signed", type=PATH)
@click.option("--licensee", required=True, help="Who gets the copy, as it should read in the licence.")
@click.option("--key", "key_path", type=PATH, required=True, help="The owner's secret key.")
@click.option("--out", type=PATH, required=True, help="Folder for the copy; it must not hold one yet.")
@click.option("--code", type=click.Choice(CODES), default="uniform", show_default=True, help="Fingerprint code.")
@click.option("--bits", type=int, default=DEFAULT_BITS, show_default=True, help="Length of a codeword.")
@click.option(
    "--collusion", type=int, default=DEFAULT_COLLUSION, show_default=True, help="Coalition a Tardos code withstands."
)
@click.option("--rewind", "rewind_path", type=PATH, help="Dense rewind weights, from which moved edges start.")
@click.option(
    "--lock",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Lock the copy: split this share of its edges off as a key mask.",
)
@click.option(
    "--to", "licensee_path", type=PATH, help="The licensee's .enc.pub file: encrypts the key mask. Needed by --lock."
)
@json_option
def command(
    signed: Path,
    licensee: str,
    key_path: Path,
    out: Path,
    code: str,
    bits: int,
    collusion: int,
    rewind_path: Path | None,
    lock: float | None,
    licensee_path: Path | None,
    as_json: bool,
) -> None:
    """Make a copy of a signed ticket for a named licensee, with a fingerprint of its own.

    The licence is kept in SIGNED/licenses as well: `trace` reads it there. All copies of a registration use one code.

    Example:  ticketguard license signed/ --licensee "Example Ltd" --key owner.key --out copies/example/
    """
    from ticketguard import api

    if (lock is None) != (licensee_path is None):
        raise UsageError("--lock and --to go together: a key mask is encrypted to the licensee who gets it")
    if code == "uniform":
        refuse_idle({"collusion"}, "goes with --code tardos: the uniform code promises nothing about a coalition")
    bundle, target, word = Bundle(signed), Bundle(out), passphrase()
    chosen = Code(kind=code, bits=bits, collusion=collusion)
    require_output_folder(out)
    _require_empty(target)
    _require_code(bundle, chosen)
    key, (opening, secret) = keys.load_secret(key_path, word), bundle.unlock(word)
    rewind = None if rewind_path is None else api.read_rewind(rewind_path)
    copy = make_copy(bundle.read_ticket(), opening, secret.master, chosen, rewind=rewind)
    ticket, sealed = copy.ticket, None
    if lock is not None and licensee_path is not None:
        ticket, sealed = _locked(ticket, lock, licensee_path)
    issued, envelope = issue(copy, opening, key, licensee=licensee, code=chosen, key_mask=sealed)
    _write_copy(bundle, target, ticket, issued, envelope, sealed)
    if as_json:
        print_json({"copy": str(out), "licensee": issued.licensee, "serial": issued.serial, "moved": copy.moved})
        return
    click.echo(f"copy      {target.ticket}  ({copy.moved} of {copy.ticket.mask.kept} edges moved)")
    click.echo(f"licence   {out / LICENCE}  (serial {issued.serial})")
    if sealed is not None:
        click.echo(f"key mask  {out / KEY_MASK}  (encrypted to the licensee)")
    click.echo(
        "note      you could make this copy yourself: a fingerprint convicts nobody before a court that doubts you"
    )


def _locked(ticket: Ticket, share: float, licensee_path: Path) -> tuple[Ticket, bytes]:
    """The ticket without the `share` of its edges that goes into a key mask, and the mask, encrypted to the licensee."""
    from ticketguard.graph.scores import magnitude
    from ticketguard.signatures import keymask

    key_mask, locked = keymask.lock(ticket, magnitude(ticket.weights, ticket.mask), share, score="omp")
    return locked, seal_key(key_mask, hpke.load_public(licensee_path))


def _write_copy(
    bundle: Bundle, target: Bundle, ticket: Ticket, issued: License, envelope: bytes, sealed: bytes | None
) -> None:
    """Record the licence in the signed folder `bundle`, and write the copy with it into `target`."""
    record = bundle.licenses / f"{issued.serial}.dsse.json"
    licence, key_mask = target.folder / LICENCE, target.folder / KEY_MASK
    # Nothing is recorded for a copy that cannot be written.
    require_writable(record if is_there(bundle.licenses) else bundle.licenses)
    make_folder(target.folder)
    # Another copy may have been made meanwhile: of another code, or in the same folder.
    with exclusive(bundle.folder), exclusive(target.folder):
        _require_code(bundle, _code_of(issued))
        _require_empty(target)
        for path in (licence, target.registration, key_mask, target.ticket):
            require_writable(path)
        make_folder(bundle.licenses)
        # The owner's record comes first: a copy that nobody can trace must not exist.
        write_bytes(record, envelope)
        write_bytes(licence, envelope)
        write_bytes(target.registration, read_bytes(bundle.registration, limit=ENVELOPE_LIMIT))
        if sealed is not None:
            write_bytes(key_mask, sealed, mode=0o600)
        write_ticket(target.ticket, ticket)


def _require_code(bundle: Bundle, chosen: Code) -> None:
    """Raise `UsageError` when earlier copies use another code: `trace` reads one code."""
    for old in map(_code_of, bundle.read_licenses()):
        if old != chosen:
            options = f"--code {old.kind} --bits {old.bits}" + (
                "" if old.kind == "uniform" else f" --collusion {old.collusion}"
            )
            raise UsageError(
                f"{bundle.licenses}: earlier copies use another fingerprint code; use the same for all: {options}"
            )


def _code_of(issued: License) -> Code:
    return Code(kind=issued.kind, bits=issued.bits, collusion=issued.collusion)


def _require_empty(target: Bundle) -> None:
    """Raise `UsageError` where another copy or registration lies, whose files would be replaced or mixed with others."""
    for path in (target.ticket, target.registration, target.secret, target.folder / LICENCE, target.folder / KEY_MASK):
        if is_there(path):
            raise UsageError(f"{path} exists already: choose another --out")
