"""`ticketguard keygen`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from ticketguard.claims import hpke, keys
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import is_there, require_writable, reserved

TO_ENCRYPT_TO = "(public: reveals and licences can be encrypted to it)"


@click.command()
@click.option("--out", type=PATH, required=True, help="Secret key file; the public key goes beside it as .pub.")
@click.option(
    "--encryption",
    is_flag=True,
    help="Write .enc.pub as well, so that others can encrypt to this key; for a key that is there already, only that.",
)
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
    if encryption and is_there(out) and not is_there(encryption_path):
        _add_encryption(out, public_path, encryption_path, as_json)
        return
    paths = (out, public_path, *([encryption_path] if encryption else []))
    _require_new(paths)
    key, word = keys.SecretKey.generate(), passphrase(confirm=True)
    # Another keygen may have come first while the passphrase was typed: from here on the names are ours.
    _require_new(paths)
    with reserved(paths):
        keys.save_secret(out, key, word)
        keys.save_public(public_path, key.public)
        if encryption:
            hpke.save_public(encryption_path, hpke.public_key(key))
    if as_json:
        _print_json(out, public_path, encryption_path if encryption else None, key)
    else:
        click.echo(f"secret key  {out}  (encrypted; keep it, and its passphrase)")
        click.echo(f"public key  {public_path}")
        if encryption:
            click.echo(f"encryption  {encryption_path}  {TO_ENCRYPT_TO}")
        click.echo(f"key id      {key.public.keyid}")


def _require_new(paths: Iterable[Path]) -> None:
    for path in paths:
        if is_there(path):
            raise UsageError(f"{path} exists already: keygen never overwrites a key; choose another --out")
        require_writable(path)


def _add_encryption(out: Path, public_path: Path, encryption_path: Path, as_json: bool) -> None:
    """Write the encryption key of the secret key `out`, from the same seed; the key itself is only read."""
    require_writable(encryption_path)
    key = keys.load_secret(out, passphrase())
    hpke.save_public(encryption_path, hpke.public_key(key))
    if as_json:
        _print_json(out, public_path, encryption_path, key)
    else:
        click.echo(f"secret key  {out}  (as it was)")
        click.echo(f"encryption  {encryption_path}  {TO_ENCRYPT_TO}")
        click.echo(f"key id      {key.public.keyid}")


def _print_json(out: Path, public_path: Path, encryption_path: Path | None, key: keys.SecretKey) -> None:
    extra = {} if encryption_path is None else {"encryption": str(encryption_path)}
    print_json({"secret": str(out), "public": str(public_path), **extra, "keyid": key.public.keyid})
