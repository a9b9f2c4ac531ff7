"""`ticketguard keygen`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.claims import keys
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.errors import UsageError


@click.command()
@click.option("--out", type=PATH, required=True, help="Secret key file; the public key goes beside it as .pub.")
@json_option
def command(out: Path, as_json: bool) -> None:
    """Make an owner's Ed25519 key pair.

    The secret key is encrypted with a passphrase (asked for, or from TICKETGUARD_PASSPHRASE); the public key is PEM.

    Example:  ticketguard keygen --out owner.key
    """
    public_path = out.with_suffix(".pub")
    if out == public_path:
        raise UsageError(f"{out}: name the secret key, for example owner.key; the public key gets the suffix .pub")
    for path in (out, public_path):
        if path.exists():
            raise UsageError(f"{path} exists already: keygen never overwrites a key; choose another --out")
    key = keys.SecretKey.generate()
    keys.save_secret(out, key, passphrase(confirm=True))
    keys.save_public(public_path, key.public)
    if as_json:
        print_json({"secret": str(out), "public": str(public_path), "keyid": key.public.keyid})
    else:
        click.echo(f"secret key  {out}  (encrypted; keep it, and its passphrase)")
        click.echo(f"public key  {public_path}")
        click.echo(f"key id      {key.public.keyid}")
