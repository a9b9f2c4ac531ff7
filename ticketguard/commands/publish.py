"""`ticketguard publish`."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfileobj

import click

from ticketguard.bundle import Bundle
from ticketguard.commands.common import PATH, json_option, print_json, require_output_folder
from ticketguard.commands.precious import secret_of
from ticketguard.errors import StorageError, UsageError
from ticketguard.storage.atomic import is_folder, listed, make_folder, open_regular, reason, replacing
from ticketguard.storage.hostile import visible


@click.command()
@click.argument("signed", type=PATH)
@click.option("--out", type=PATH, required=True, help="The public folder to make: new, or empty.")
@json_option
def command(signed: Path, out: Path, as_json: bool) -> None:
    """Copy what others may see of the folder SIGNED: what a judge needs, and nothing that is the owner's alone.

    These are the registration, the claim, the ticket and the trained model, and where there are any the time stamps and a
    withdrawal. Never copied: secret.tgs, keys, reveals, licences, trigger pictures, and whatever else lies there.

    Example:  ticketguard publish signed/ --out public/
    """
    require_output_folder(out, inputs=(signed,), empty=True)
    files = Bundle(signed).published()
    for file in files:
        # A public name over a secret, by a slip of `mv` or a link.
        if (danger := secret_of(file)) is not None:
            raise UsageError(f"{file}: {danger}")
    private = [file.name + ("/" if is_folder(file) else "") for file in listed(signed) if file not in files]
    make_folder(out)
    for file in files:
        _copy(file, out / file.name)
    if as_json:
        print_json({"out": str(out), "published": [file.name for file in files], "private": private})
        return
    for file in files:
        click.echo(f"copied   {out / file.name}")
    for name in private:
        click.echo(f"private  {visible(str(signed / name))}")


def _copy(source: Path, target: Path) -> None:
    """Copy a file of any size, whole or not at all."""
    try:
        with open_regular(source) as given, replacing(target) as copy:
            copyfileobj(given, copy)
    except OSError as error:
        raise StorageError(f"{source}: cannot be copied: {reason(error)}") from error
