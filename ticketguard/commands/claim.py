"""`ticketguard claim`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import ENVELOPE_LIMIT, Bundle
from ticketguard.claims import card as cards
from ticketguard.claims import keys
from ticketguard.claims.ownership import OwnershipClaim
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.errors import AuthenticityError, StorageError, UsageError
from ticketguard.storage.atomic import read_bytes
from ticketguard.storage.hostile import visible
from ticketguard.storage.tensors import read_tensors


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
    """Sign an ownership claim over the trained model of the folder SIGNED, once your secret finds the mark in it.

    A claim about another model is not replaced, nor one with a time stamp of its own: move both files away first.

    \b
    Examples:  ticketguard claim signed/ --key owner.key
               ticketguard claim signed/ --card --location https://example.org/claim.dsse.json
    """  # noqa: D301 - click wants the backspace character
    bundle = Bundle(signed)
    if key_path is not None:
        word = passphrase()
        key = keys.load_secret(key_path, word)
        _require_mark(bundle, model_path or bundle.model, word)
        claim = bundle.write_claim(key, model_path)
    elif card:
        claim, _ = bundle.read_claim()
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


def _require_mark(bundle: Bundle, model: Path, word: str) -> None:
    """Raise `UsageError` when the mark is not in the model: every judge would call such a claim void.

    The owner's secret holds every leaf, and the bar is no higher than a judge's: what does not match here matches nowhere.
    Where the secret cannot be opened, as by a successor with a passphrase of its own, one line says that nothing was tested.
    """
    from ticketguard import api

    registered, payload = bundle.read_registration()
    bundle.require_standing(registered, payload)
    bundle.require_trained(model)
    weights = read_tensors(model)
    try:
        examiner = api.examiner_of(bundle, word)
    except (AuthenticityError, StorageError) as problem:
        click.echo(f"ticketguard: not tested whether {model} carries the mark: {visible(str(problem))}", err=True)
        return
    verdict = examiner.verify(weights)
    if verdict.decision != "MATCH":
        raise UsageError(
            f"{model}: the mark of {bundle.registration} is not in it ({verdict.reason}): a judge would call the claim void"
        )


def _print_card(claim: OwnershipClaim, data: bytes, location: str, as_json: bool) -> None:
    bom, markdown = cards.ml_bom(claim, data, location=location), cards.model_card(claim, location=location)
    if as_json:
        print_json({"bom": bom, "modelCard": markdown})
        return
    print_json(bom)
    click.echo()
    click.echo(markdown)
