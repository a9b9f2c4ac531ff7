"""`ticketguard claim`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import ENVELOPE_LIMIT, Bundle
from ticketguard.claims import card as cards
from ticketguard.claims import envelope, keys, ownership
from ticketguard.claims.ownership import OwnershipClaim
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import read_bytes


@click.command()
@click.argument("signed", type=PATH)
@click.option(
    "--key", "key_path", type=PATH, help="The owner's secret key; not needed to print the card of a claim again."
)
@click.option("--model", "model_path", type=PATH, help="The trained model; by default SIGNED/model.safetensors.")
@click.option("--card", is_flag=True, help="Print a CycloneDX ML-BOM fragment and a Hugging Face model-card snippet.")
@click.option(
    "--location", default="claim.dsse.json", show_default=True, help="Where readers of the card find the claim."
)
@json_option
def command(
    signed: Path, key_path: Path | None, model_path: Path | None, card: bool, location: str, as_json: bool
) -> None:
    """Sign an ownership claim over the trained model of the folder SIGNED.

    \b
    Examples:  ticketguard claim signed/ --key owner.key
               ticketguard claim signed/ --card --location https://example.org/claim.dsse.json
    """  # noqa: D301 - click wants the backspace character
    bundle = Bundle(signed)
    if key_path is not None:
        claim = bundle.write_claim(keys.load_secret(key_path, passphrase()), model_path)
    elif card:
        registered, _ = bundle.read_registration()
        data = read_bytes(bundle.claim, limit=ENVELOPE_LIMIT)
        claim = ownership.parse(envelope.open_by(data, registered.signers, where=str(bundle.claim)).payload)
    else:
        raise UsageError("--key is missing: a claim is signed with the key of the registration")
    if card:
        _print_card(claim, read_bytes(bundle.claim, limit=ENVELOPE_LIMIT), location, as_json)
    elif as_json:
        print_json({"claim": str(bundle.claim), "owner": claim.owner, "model": claim.model, "ticket": claim.ticket})
    else:
        click.echo(f"claim   {bundle.claim}")
        click.echo(f"owner   {claim.owner}, key id {claim.public_key.keyid}")
        click.echo(f"model   sha256 {claim.model}")
        click.echo(f"ticket  sha256 {claim.ticket}")


def _print_card(claim: OwnershipClaim, data: bytes, location: str, as_json: bool) -> None:
    bom, markdown = cards.ml_bom(claim, data, location=location), cards.model_card(claim, location=location)
    if as_json:
        print_json({"bom": bom, "modelCard": markdown})
        return
    print_json(bom)
    click.echo()
    click.echo(markdown)
