"""Secrets that lie where a stranger's files are read: a line of warning for each."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.claims import keys, vault
from ticketguard.commands.common import PEM
from ticketguard.errors import StorageError
from ticketguard.storage.atomic import is_folder, listed, read_start
from ticketguard.storage.hostile import visible

# What stands in the first line of a private key, of whatever kind and tool.
PRIVATE = b"PRIVATE KEY"


def secret_of(path: Path) -> str | None:
    """What could be done with a file that is a secret or a private key; None for any other, and what cannot be read."""
    try:
        start = read_start(path, keys.SECRET_FILE_BYTES + 1)
    except StorageError:
        return None
    if vault.is_sealed(start):
        if len(start) == keys.SECRET_FILE_BYTES:
            return "a secret key, under a passphrase: whoever also has that can sign in its holder's name"
        return "the owner's secret, under a passphrase: whoever also has that can erase the mark, or put it into other models"
    if start.startswith(PEM) and PRIVATE in start.partition(b"\n")[0]:
        return "a private key: whoever has it can sign in its holder's name"
    return None


def warn_of_secrets(folder: Path) -> None:
    """A line on standard error for every secret or private key in a folder that is given as a public one."""
    if not is_folder(folder):
        return
    for path in listed(folder):
        danger = secret_of(path)
        if danger is not None:
            whose = (
                "must not be here unless this folder is the owner's own"
                if path == Bundle(folder).secret
                else "must not be here"
            )
            click.echo(f"ticketguard: {visible(f'{path}: {whose}: it is {danger}')}", err=True)
