"""`ticketguard claim`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.claims import envelope, keys, manifest, ownership
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.errors import AuthenticityError
from ticketguard.storage.atomic import write_bytes
from ticketguard.storage.tensors import read_tensors


@click.command()
@click.argument("signed", type=PATH)
@click.option("--key", "key_path", type=PATH, required=True, help="The owner's secret key.")
@click.option("--model", "model_path", type=PATH, help="The trained model; by default SIGNED/model.safetensors.")
@json_option
def command(signed: Path, key_path: Path, model_path: Path | None, as_json: bool) -> None:
    """Sign an ownership claim over the trained model of the folder SIGNED.

    Example:  ticketguard claim signed/ --key owner.key
    """
    bundle = Bundle(signed)
    registered, payload = bundle.read_registration()
    model = manifest.digest(manifest.manifest(read_tensors(model_path or bundle.model)))
    ticket = manifest.digest(manifest.manifest(read_tensors(bundle.ticket)))
    key = keys.load_secret(key_path, passphrase())
    if key.public != registered.public_key:
        raise AuthenticityError(
            f"{key_path} is not the key of this registration (key id {registered.public_key.keyid[:16]})"
        )
    claim, signed_claim = ownership.make(payload, owner=registered.owner, key=key, ticket=ticket, model=model)
    envelope.open(signed_claim, key.public)
    write_bytes(bundle.claim, signed_claim)
    if as_json:
        print_json({"claim": str(bundle.claim), "owner": claim.owner, "model": model, "ticket": ticket})
    else:
        click.echo(f"claim   {bundle.claim}")
        click.echo(f"owner   {claim.owner}, key id {claim.public_key.keyid}")
        click.echo(f"model   sha256 {model}")
        click.echo(f"ticket  sha256 {ticket}")
