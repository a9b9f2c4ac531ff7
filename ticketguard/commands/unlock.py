"""`ticketguard unlock`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ticketguard.commands.common import PATH, json_option, passphrase, print_json, require_output
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import read_bytes, read_start

if TYPE_CHECKING:
    from ticketguard.signatures.keymask import KeyMask

KEY_LIMIT = 4 << 30


@click.command()
@click.argument("locked_path", metavar="LOCKED", type=PATH)
@click.option("--key", "key_path", type=PATH, required=True, help="The key file that lock wrote.")
@click.option("--secret", type=PATH, help="Your secret key (keygen), when the key mask came encrypted with a licence.")
@click.option("--out", type=PATH, required=True, help="The ticket file to write.")
@json_option
def command(locked_path: Path, key_path: Path, secret: Path | None, out: Path, as_json: bool) -> None:
    """Merge a key into its locked ticket. A wrong or damaged pair is refused (exit code 2).

    \b
    Examples:  ticketguard unlock locked/locked.safetensors --key locked/key.safetensors --out ticket.safetensors
               ticketguard unlock copy/ticket.safetensors --key copy/keymask.hpke --secret me.key --out ticket.safetensors
    """  # noqa: D301 - click reads the backspace
    from ticketguard.claims import hpke
    from ticketguard.signatures.keymask import read_key, unlock
    from ticketguard.tickets import read_ticket, write_ticket

    require_output(out, inputs=(locked_path, key_path, secret), entry="ticketguard")
    if secret is None and hpke.is_sealed(read_start(key_path, len(hpke.MAGIC))):
        raise UsageError(f"{key_path}: encrypted to a licensee; give that licensee's secret key with --secret")
    key = read_key(key_path) if secret is None else _decrypted(key_path, secret)
    ticket = unlock(key, read_ticket(locked_path))
    write_ticket(out, ticket)
    if as_json:
        print_json({"ticket": str(out), "edges": ticket.mask.kept})
    else:
        click.echo(f"ticket  {out}  ({ticket.mask.kept:,} edges, every digest agrees)")


def _decrypted(path: Path, secret: Path) -> KeyMask:
    """The key mask inside a file that `license --lock` encrypted to the holder of `secret`."""
    from ticketguard.claims import keys
    from ticketguard.licensing import unseal_key

    return unseal_key(read_bytes(path, limit=KEY_LIMIT), keys.load_secret(secret, passphrase()), where=path)
