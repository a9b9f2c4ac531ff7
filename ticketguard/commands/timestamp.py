"""`ticketguard timestamp`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.claims import timestamps
from ticketguard.claims.reveal import format_time
from ticketguard.claims.secret import read_secret, write_secret
from ticketguard.commands.common import PATH, json_option, passphrase, print_json, refuse_idle, require_output
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import exclusive, is_there, read_bytes, replacing, write_bytes


@click.command()
@click.argument("signed", type=PATH)
@click.option("--url", help="Ask the authority at this address.")
@click.option("--response", type=PATH, help="Attach a response that you obtained yourself.")
@click.option("--request", "request_path", type=PATH, help="Only write a query file, for `curl` or another machine.")
@click.option("--root", "roots", type=PATH, help="PEM file of the authority's root certificate.")
@click.option("--claim", "stamp_claim", is_flag=True, help="Stamp the ownership claim instead of the registration.")
@json_option
def command(
    signed: Path,
    url: str | None,
    response: Path | None,
    request_path: Path | None,
    roots: Path | None,
    stamp_claim: bool,
    as_json: bool,
) -> None:
    """Date a registration, or a claim, with an RFC 3161 time stamp of an authority.

    With `sign --beacon rfc3161 --register-only` before and `sign --registration` after it, the stamp also enters the signature
    as a beacon that nobody could foresee, and the bar sinks by 60 bits. Added later it proves a date, no more.

    \b
    Examples:  ticketguard timestamp signed/ --url https://tsa.example.org --root tsa-root.pem
               ticketguard timestamp signed/ --request query.tsq
               ticketguard timestamp signed/ --response reply.tsr --root tsa-root.pem
    """  # noqa: D301 - click wants the backspace character
    bundle = Bundle(signed)
    if request_path is not None:
        refuse_idle({"url", "response", "roots"}, "goes without --request, which only writes: here it has no effect")
        require_output(request_path, option="--request")
    registered, payload = bundle.read_registration()
    if stamp_claim:
        _, payload = bundle.read_claim()
    if request_path is not None:
        write_bytes(request_path, timestamps.request(payload))
        if as_json:
            print_json({"query": str(request_path)})
        else:
            click.echo(f"query  {request_path}  (send as application/timestamp-query, then --response)")
        return
    if (url is None) == (response is None) or roots is None:
        raise UsageError("give --url or --response, and --root with the authority's root certificate")
    token = timestamps.obtain(payload, url) if url else read_bytes(response or Path(), limit=timestamps.TOKEN_LIMIT)
    stamp = timestamps.verify(token, payload, timestamps.load_roots(roots), where=url or str(response))
    path = bundle.claim_stamp if stamp_claim else bundle.registration_stamp
    beacon = _attach(
        bundle, path, token, stamp, waiting=not stamp_claim and registered.beacon == "rfc3161", dated=payload
    )
    if as_json:
        print_json({"stamp": str(path), **stamp.to_json(), "beacon": beacon})
        return
    click.echo(f"stamp      {path}")
    click.echo(f"time       {format_time(stamp.time)}")
    click.echo(f"authority  {stamp.authority}")
    click.echo(
        f"beacon     {'taken into the secret: embed with sign --registration' if beacon else 'none: this proves a date only'}"
    )


def _attach(bundle: Bundle, path: Path, token: bytes, stamp: timestamps.Stamp, *, waiting: bool, dated: bytes) -> bool:
    """Write the token to `path`, and its beacon into the secret of a registration that is `waiting` for one; whether it did.

    Raises `UsageError` where a stamp is there already, and where the claim is no longer the one that was `dated`.
    """
    # Asked for before the folder is held: somebody may have to type it.
    word = passphrase() if waiting and not is_there(bundle.ticket) and not is_there(path) else None
    # The stamp and the beacon in the secret belong to one token: no other stamp, and no ticket, may come in between.
    with exclusive(bundle.folder):
        if is_there(path):
            raise UsageError(f"{path} exists already: the first stamp is the one that counts, it is never overwritten")
        if path == bundle.claim_stamp and bundle.read_claim()[1] != dated:
            raise UsageError(f"{bundle.claim} was replaced meanwhile: ask for a stamp of the new one")
        beacon = word is not None and not is_there(bundle.ticket)
        with replacing(path) as handle:
            if word is not None and beacon:
                write_secret(bundle.secret, replace(read_secret(bundle.secret, word), beacon=stamp.beacon), word)
            handle.write(token)
    return beacon
