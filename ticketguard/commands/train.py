"""`ticketguard train`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.commands.common import PATH, json_option, passphrase, print_json, require_output
from ticketguard.commands.training_options import chosen_recipe, data_options, load_data, progress, recipe_options
from ticketguard.tickets import write_ticket


@click.command()
@click.argument("signed", type=PATH)
@data_options
@recipe_options
@click.option("--no-triggers", is_flag=True, help="Do not mix the triggers into the training batches.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=PATH, help="Model file; by default SIGNED/model.safetensors.")
@json_option
def command(
    signed: Path,
    data: str,
    data_dir: Path | None,
    limit: int | None,
    recipe: str | None,
    epochs: int | None,
    overrides: tuple[str, ...],
    compiled: bool,
    no_triggers: bool,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train the signed ticket of the folder SIGNED, with its triggers mixed into every batch.

    Example:  ticketguard train signed/ --data digits
    """
    from ticketguard import api

    bundle = Bundle(signed)
    bundle.require_folder()
    path = out or bundle.model
    require_output(path, makes=bundle.model, entry="ticketguard")
    opening = None if no_triggers else bundle.open(passphrase())
    ticket = bundle.read_ticket()
    dataset = load_data(data, data_dir, limit)
    chosen = chosen_recipe(recipe, data, epochs, overrides=overrides, compiled=compiled)
    bundle.require_not_claimed(path)
    with progress("training", quiet=as_json) as on_epoch:
        model = api.train(
            ticket,
            dataset,
            recipe=chosen,
            opening=opening,
            own_images=None if opening is None else bundle.own_images(opening.registration),
            seed=seed,
            on_epoch=on_epoch,
        )
    write_ticket(path, model)
    record = model.provenance["training"]
    if as_json:
        print_json({"model": str(path), **record})
        return
    click.echo(f"model     {path}")
    click.echo(f"accuracy  {record['accuracy']:.2f} % on {dataset.name} test images")
    if "trigger_accuracy" in record:
        click.echo(f"triggers  {record['trigger_accuracy']:.1f} % answered as the owner's stream says")
