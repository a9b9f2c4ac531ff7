"""`ticketguard keygen`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.claims import hpke, keys
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import is_there, require_writable


@click.command()
@click.option("--out", type=PATH, required=True, help="Secret key file; the public key goes beside it as .pub.")
@click.option("--encryption", is_flag=True, help="Also write .enc.pub, so that others can encrypt to this key.")
@json_option
def command(out: Path, encryption: bool, as_json: bool) -> None:
    """Make an Ed25519 key pair, for an owner, a judge or a licensee.

    The secret key is encrypted with a passphrase (asked for, or from TICKETGUARD_PASSPHRASE); the public key is PEM.

    Example:  ticketguard keygen --out owner.key
    """
    if not out.name or out.name == "..":
        raise UsageError(f"{str(out)!r} is a folder: name the secret key's file, for example owner.key")
    public_path = out.with_suffix(".pub")
    if out == public_path:
        raise UsageError(f"{out}: name the secret key, for example owner.key; the public key gets the suffix .pub")
    encryption_path = out.with_suffix(".enc.pub")
    for path in (out, public_path, *([encryption_path] if encryption else [])):
        if is_there(path):
            raise UsageError(f"{path} exists already: keygen never overwrites a key; choose another --out")
        require_writable(path)
    key = keys.SecretKey.generate()
    keys.save_secret(out, key, passphrase(confirm=True))
    keys.save_public(public_path, key.public)
    if encryption:
        hpke.save_public(encryption_path, hpke.public_key(key))
    if as_json:
        print_json({"secret": str(out), "public": str(public_path), "keyid": key.public.keyid})
    else:
        click.echo(f"secret key  {out}  (encrypted; keep it, and its passphrase)")
        click.echo(f"public key  {public_path}")
        if encryption:
            click.echo(f"encryption  {encryption_path}  (public: reveals and licences can be encrypted to it)")
        click.echo(f"key id      {key.public.keyid}")
