"""`ticketguard publish`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj

import click

from ticketguard.bundle import Bundle
from ticketguard.commands.common import PATH, json_option, print_json, require_output_folder
from ticketguard.commands.precious import secret_of
from ticketguard.errors import StorageError, TicketguardError, UsageError
from ticketguard.storage.atomic import (
    is_folder,
    is_there,
    listed,
    make_folder,
    open_regular,
    reason,
    remove,
    remove_folder,
    replacing,
)
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
    with _filling(out, files):
        for file in files:
            _copy(file, out / file.name)
        _require_same(signed, out, files)
    if as_json:
        print_json({"out": str(out), "published": [file.name for file in files], "private": private})
        return
    for file in files:
        click.echo(f"copied   {out / file.name}")
    for name in private:
        click.echo(f"private  {visible(str(signed / name))}")


@contextmanager
def _filling(out: Path, files: Sequence[Path]) -> Iterator[None]:
    """Make the folder `out` for the block to copy `files` into; what it leaves when it fails goes, or the next would refuse."""
    new = not is_there(out)
    make_folder(out)
    try:
        yield
    except BaseException:
        for file in files:
            remove(out / file.name)
        if new:
            remove_folder(out)
        raise


def _require_same(signed: Path, out: Path, files: Sequence[Path]) -> None:
    """Raise `StorageError` unless the copies, too, are what was checked: a file may have been written to meanwhile."""
    try:
        same = [file.name for file in Bundle(out).published()] == [file.name for file in files]
    except TicketguardError:
        same = False
    if not same or any(secret_of(out / file.name) for file in files):
        raise StorageError(f"{signed}: changed while it was copied: run it again when nobody writes there")


def _copy(source: Path, target: Path) -> None:
    """Copy a file of any size, whole or not at all."""
    try:
        with open_regular(source) as given, replacing(target) as copy:
            copyfileobj(given, copy)
    except OSError as error:
        raise StorageError(f"{source}: cannot be copied: {reason(error)}") from error
