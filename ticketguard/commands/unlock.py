"""`ticketguard unlock`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.commands.common import PATH, json_option, print_json


@click.command()
@click.argument("locked_path", metavar="LOCKED", type=PATH)
@click.option("--key", "key_path", type=PATH, required=True, help="The key file that lock wrote.")
@click.option("--out", type=PATH, required=True, help="The ticket file to write.")
@json_option
def command(locked_path: Path, key_path: Path, out: Path, as_json: bool) -> None:
    """Merge a key into its locked ticket. A wrong or damaged pair is refused (exit code 2).

    Example:  ticketguard unlock locked/locked.safetensors --key locked/key.safetensors --out ticket.safetensors
    """
    from ticketguard.signatures.keymask import read_key, unlock
    from ticketguard.tickets import read_ticket, write_ticket

    ticket = unlock(read_key(key_path), read_ticket(locked_path))
    write_ticket(out, ticket)
    if as_json:
        print_json({"ticket": str(out), "edges": ticket.mask.kept})
    else:
        click.echo(f"ticket  {out}  ({ticket.mask.kept:,} edges, every digest agrees)")
