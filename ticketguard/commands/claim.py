"""`ticketguard claim`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.claims import keys
from ticketguard.commands.common import PATH, json_option, passphrase, print_json


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
    claim = bundle.write_claim(keys.load_secret(key_path, passphrase()), model_path)
    if as_json:
        print_json({"claim": str(bundle.claim), "owner": claim.owner, "model": claim.model, "ticket": claim.ticket})
    else:
        click.echo(f"claim   {bundle.claim}")
        click.echo(f"owner   {claim.owner}, key id {claim.public_key.keyid}")
        click.echo(f"model   sha256 {claim.model}")
        click.echo(f"ticket  sha256 {claim.ticket}")
