"""`ticketguard withdraw`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.claims import keys, withdrawal
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import is_there, write_bytes


@click.command()
@click.argument("signed", type=PATH)
@click.option(
    "--key", "key_path", type=PATH, required=True, help="Secret key of the registration, or of a successor it names."
)
@click.option("--reason", required=True, help="Why, in words; it is public.")
@json_option
def command(signed: Path, key_path: Path, reason: str, as_json: bool) -> None:
    """Withdraw a registration for good, by a signed statement.

    SIGNED needs the registration alone. Publish the statement beside the registration, in every public copy of the folder:
    judge, audit, dispute and verify refuse a registration that was withdrawn. There is no way back; sign the ticket anew.

    Example:  ticketguard withdraw signed/ --key owner.key --reason "the key was stolen"
    """
    bundle = Bundle(signed)
    registered, payload = bundle.read_registration()
    if is_there(bundle.withdrawal):
        raise UsageError(f"{bundle.withdrawal} exists already: this registration was withdrawn before")
    made, data = withdrawal.make(registered, payload, keys.load_secret(key_path, passphrase()), reason=reason)
    write_bytes(bundle.withdrawal, data)
    if as_json:
        print_json({"withdrawal": str(bundle.withdrawal), "registration": made.registration, "reason": made.reason})
        return
    click.echo(f"withdrawal    {bundle.withdrawal}  (public: put it beside every copy of the registration)")
    click.echo(f"registration  sha256 {made.registration}")
    click.echo(f"reason        {made.reason}")
