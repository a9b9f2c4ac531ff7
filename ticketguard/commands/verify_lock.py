"""`ticketguard verify-lock`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.commands.common import PATH, json_option, print_json
from ticketguard.commands.training_options import chosen_recipe, data_options, load_data, progress, recipe_options


@click.command()
@click.argument("locked_path", metavar="LOCKED", type=PATH)
@click.option("--key", "key_path", type=PATH, required=True, help="The key file that lock wrote.")
@data_options
@recipe_options
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def command(
    locked_path: Path,
    key_path: Path,
    data: str,
    data_dir: Path | None,
    limit: int | None,
    recipe: str | None,
    epochs: int | None,
    overrides: tuple[str, ...],
    compiled: bool,
    seed: int,
    as_json: bool,
) -> int:
    """Test what a lock is worth: retrain locked, with a forged key, and unlocked (the paper's fidelity test).

    Exit code 0 when locking and forging each cost more than 1 point, else 1.

    Example:  ticketguard verify-lock locked/locked.safetensors --key locked/key.safetensors --data digits
    """
    from ticketguard.finding.locking import CRITERION, fidelity
    from ticketguard.signatures.keymask import read_key
    from ticketguard.tickets import read_ticket

    key, locked = read_key(key_path), read_ticket(locked_path)
    chosen = chosen_recipe(recipe, data, epochs, overrides=overrides, compiled=compiled)
    with progress("retraining", quiet=as_json) as show:
        found = fidelity(key, locked, load_data(data, data_dir, limit), chosen, seed=seed, on_epoch=show)
    if as_json:
        print_json(found.to_json())
        return 0 if found.holds else 1
    for title, accuracy in (("unlocked", found.unlocked), ("locked", found.locked), ("forged key", found.forged)):
        click.echo(f"{title:<11}{accuracy:6.2f} %   {accuracy - found.unlocked:+.2f}")
    word = "holds" if found.holds else "does not hold"
    click.echo(f"the lock {word}: {found.edges:,} key edges, criterion {CRITERION:g} point for both, one seed")
    return 0 if found.holds else 1
