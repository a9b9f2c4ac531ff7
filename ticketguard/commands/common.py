"""What several commands share: options, the passphrase, JSON on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from ticketguard.errors import UsageError

PASSPHRASE_VARIABLE = "TICKETGUARD_PASSPHRASE"  # noqa: S105 - the name of the variable
Function = TypeVar("Function", bound=Callable[..., Any])


class FilePath(click.ParamType[Path]):
    """A path that the storage layer will open, so that every complaint about a file is worded in one place."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """A `pathlib.Path` with `~` expanded."""
        del param, ctx
        return Path(value).expanduser()


PATH = FilePath()


def passphrase(*, confirm: bool = False) -> str:
    """The passphrase, from `TICKETGUARD_PASSPHRASE` or a prompt. Without either: `UsageError`."""
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is not None:
        if not given:
            raise UsageError(f"{PASSPHRASE_VARIABLE} is empty: a secret needs a passphrase")
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"a passphrase is needed: set {PASSPHRASE_VARIABLE}, or run on a terminal to be asked")
    typed: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed


def trigger_images_option(function: Function) -> Function:
    """The `--trigger-images` option: pictures of the owner's own, registered by their digests."""
    text = "Folder of the owner's own trigger images, when those are registered."
    return click.option("--trigger-images", type=PATH, help=text)(function)


def json_option(function: Function) -> Function:
    """The `--json` option: one JSON document on standard output instead of text."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")(function)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document as JSON."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
